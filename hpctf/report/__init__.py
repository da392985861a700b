"""One HTML file that tells of a run, or of several over each other: `hpctf report`."""
