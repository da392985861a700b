"""Slurm's commands behind a bucket of tokens: what asks too often is refused."""

from __future__ import annotations

BUCKET = """#!/usr/bin/python3
import os, sys, time
with open({log!r}, "a+") as log:
    import fcntl
    fcntl.flock(log, fcntl.LOCK_EX)
    log.seek(0)
    now = time.time()
    lately = [line for line in log if float(line.split()[0]) > now - 60]
    is_full = len(lately) >= {most}
    print(now, "refused" if is_full else "asked", *sys.argv, file=log)
if is_full:
    sys.exit("slurm_load_jobs error: RPC rate limited")
os.execv({real!r}, sys.argv)
"""
"""A command of Slurm's behind a bucket of tokens, as slurmctld has for each user: rl_enable."""
