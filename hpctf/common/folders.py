"""Whole folders: removing one, and what kind of file system holds it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from pathlib import Path

MOUNTS = "/proc/self/mounts"
NETWORK_TYPES = {
    *("nfs", "nfs4", "lustre", "gpfs", "mmfs", "beegfs", "fuse.beegfs", "ceph", "fuse.ceph", "afs"),
    *("panfs", "wekafs", "pvfs2", "orangefs", "glusterfs", "fuse.glusterfs", "cifs", "smb3"),
    *("daos", "fuse.dfuse", "dvs", "quobyte", "fuse.sshfs", "fuse.juicefs"),
}
"""File systems that many hosts share."""
OWN_TYPES = {"tmpfs", "ramfs", "devtmpfs", "overlay", "squashfs", "zram"}
"""File systems that no two hosts share."""
DISK_TYPES = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "vfat"}
"""File systems of disks: shared only where this very host exports them."""


def remove_tree(folder: Path) -> None:
    """Remove a folder with all in it, if it is there."""
    for _ in range(5):  # what dies in these moments may still make files
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return
        _open_up(folder)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _open_up(top: Path) -> None:
    """Let the owner write the folders below one: sources may hold some that nobody may."""
    for folder, names, _ in os.walk(top):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            with contextlib.suppress(OSError):  # the removal says what is wrong
                mode = os.lstat(path).st_mode
                if stat.S_ISDIR(mode) and mode & stat.S_IRWXU != stat.S_IRWXU:
                    os.chmod(path, stat.S_IMODE(mode) | stat.S_IRWXU)


def file_system(path: str | os.PathLike[str], mounts: str = MOUNTS) -> str:
    """Return the type of the file system that holds a path, as the kernel names it (proc(5))."""
    wanted = os.path.realpath(path)
    best, kind = "", "unknown"
    try:
        lines = Path(mounts).read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return kind
    for line in lines:
        words = line.split(" ")
        if len(words) < 3:
            continue
        where = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), words[1])
        inside = wanted == where or wanted.startswith(where.rstrip("/") + "/")
        if inside and len(where) >= len(best):
            best, kind = where, words[2]
    return kind


def shared_kind(path: str | os.PathLike[str], mounts: str = MOUNTS) -> str:
    """Return the type of the file system that holds a path if hosts share it, such as ``nfs4``;
    else nothing, also where that is not known."""
    kind = file_system(path, mounts)
    return kind if kind in NETWORK_TYPES else ""


def private_folder() -> Path | None:
    """Return where hpctf keeps what is the user's alone; None for somebody without a home."""
    import platformdirs

    try:
        return Path(platformdirs.user_state_dir("hpctf"))
    except RuntimeError:
        return None
