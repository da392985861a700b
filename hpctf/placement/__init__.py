"""From Slurm's host lists and variables to ordered hosts and their slots."""
