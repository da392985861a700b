"""One HTML file about a run, or about several in the same charts: `hpctf report`."""
