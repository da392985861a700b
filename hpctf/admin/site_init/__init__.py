"""A first site file, made from what Slurm and the login node say of themselves.

`draft` and `partitions` choose the settings, `sbatch_check` lets sbatch judge them, `yaml_text`
writes them down, and `init` does all of it.
"""
