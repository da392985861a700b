"""A first site file, made from what Slurm and the login node say of themselves.

`draft` and `targets` choose the settings, `trial` lets sbatch judge them, `text` writes them down,
and `init` does all of it.
"""
