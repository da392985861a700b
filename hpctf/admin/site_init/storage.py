"""Where runs and environments go: the big shared file system, if a variable names it, else home."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from hpctf.common.folders import MOUNTS, shared_kind

_VARIABLES = ("SCRATCH", "WORK", "PSCRATCH", "CSCRATCH", "WORKDIR", "FASTSCRATCH", "HPC_SCRATCH")
"""What sites call their big file system (NERSC, TACC, IDRIS, CINECA, BSC ... in their guides)."""


@dataclass(frozen=True)
class Place:
    """Where a site keeps runs and environments, why, and whether that is a network file system."""

    runs_root: str
    store: str
    source: str
    shared: bool


def find_place(admin: bool, environment: Mapping[str, str], mounts: str = MOUNTS) -> Place:
    """Return where runs and environments go.

    In an admin's file variables stay variables, since each person has their own; in a person's
    they are replaced, since a notebook may not have them.
    """
    for name in _VARIABLES:
        folder = environment.get(name, "")
        if os.path.isabs(folder) and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            kept = f"${name}" if admin else folder.rstrip("/")
            shared = bool(shared_kind(folder, mounts))
            source = f"${name} is {folder}, which can be written"
            return Place(f"{kept}/hpctf-runs", f"{kept}/hpctf-environments", source, shared)
    source = f"home: none of ${', $'.join(_VARIABLES[:3])} ... names a folder"
    shared = bool(shared_kind(os.path.expanduser("~"), mounts))
    return Place("~/hpctf-runs", "~/.local/share/hpctf/environments", source, shared)
