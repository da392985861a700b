"""Where runs and environments go: the big shared file system, if a variable names it, else home."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

_VARIABLES = ("SCRATCH", "WORK", "PSCRATCH", "CSCRATCH", "WORKDIR", "FASTSCRATCH", "HPC_SCRATCH")
"""What sites call their big file system (NERSC, TACC, IDRIS, CINECA, BSC ... in their guides)."""

_SHARED = {
    *("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "fuse.ceph", "afs", "panfs", "wekafs"),
    *("pvfs2", "orangefs", "glusterfs", "fuse.glusterfs", "cifs", "smb3", "daos"),
}
"""File systems of a network, as /proc/mounts names them."""


@dataclass(frozen=True)
class Place:
    """Where a site keeps runs and environments, why, and whether that is a network file system."""

    runs_root: str
    store: str
    source: str
    shared: bool


def find_place(admin: bool, environment: Mapping[str, str], mounts: str = "/proc/mounts") -> Place:
    """Return where runs and environments go.

    In an admin's file variables stay variables, since each person has their own; in a person's
    they are replaced, since a notebook may not have them.
    """
    for name in _VARIABLES:
        folder = environment.get(name, "")
        if os.path.isabs(folder) and os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            kept = f"${name}" if admin else folder.rstrip("/")
            shared = _is_shared(folder, mounts)
            source = f"${name} is {folder}, which can be written"
            return Place(f"{kept}/hpctf-runs", f"{kept}/hpctf-environments", source, shared)
    source = f"home: none of ${', $'.join(_VARIABLES[:3])} ... names a folder"
    home = os.path.expanduser("~")
    return Place(
        "~/hpctf-runs", "~/.local/share/hpctf/environments", source, _is_shared(home, mounts)
    )


def _is_shared(folder: str, mounts: str) -> bool:
    """Return whether a folder lies on a file system that is known to be a network's."""
    real = os.path.realpath(folder)
    best, kind = "", ""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as stream:
            rows = [line.split(" ") for line in stream]
    except OSError:
        return False
    for row in rows:
        if len(row) < 3:
            continue
        point = row[1].replace("\\040", " ")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, row[2]
    return kind in _SHARED
