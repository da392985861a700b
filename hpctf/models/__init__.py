"""Models: a registry of them in files, what it keeps of each, and their ways to other tools."""
