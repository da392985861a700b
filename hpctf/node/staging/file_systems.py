"""Which file systems are not a node's own."""

from __future__ import annotations

import os

_SHARED = {
    *("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "panfs", "afs"),
    *("orangefs", "pvfs2", "glusterfs", "dvs", "wekafs", "mmfs", "daos", "quobyte"),
    *("fuse.ceph", "fuse.glusterfs", "fuse.sshfs", "fuse.dfuse", "fuse.juicefs", "fuse.beegfs"),
}
"""Types of file systems that many nodes share (proc(5), mountinfo)."""


def shared_kind(path: str, table: str = "/proc/self/mountinfo") -> str:
    """Return the type of the file system that holds a path if nodes share it, such as ``nfs4``;
    else nothing, also where that is not known."""
    real, best, kind = os.path.realpath(path), "", ""
    try:
        with open(table, encoding="utf-8", errors="surrogateescape") as stream:
            lines = stream.readlines()
    except OSError:
        return ""
    for line in lines:
        words = line.split()
        if "-" not in words or len(words) < 10:
            continue
        place = words[4].encode("latin-1", "ignore").decode("unicode_escape")
        inside = real == place or real.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):  # the last one lies on top
            best, kind = place, words[words.index("-") + 1]
    return kind if kind in _SHARED else ""
