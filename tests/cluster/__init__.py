"""A real Slurm cluster on one machine, for tests and for trying things by hand. See README.md."""
