"""The script for the child process in which py-rattler solves and installs."""
