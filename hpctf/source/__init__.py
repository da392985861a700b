"""The code that goes with a run: its snapshot and its commit."""
