"""Small file systems, to be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import skip_or_fail


@contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    """A file system of its own, in memory; `options` are tmpfs's, such as ``size=2m``."""
    if os.geteuid() != 0:
        skip_or_fail("only root can mount a file system")
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@contextmanager
def cloning(place: Path, megabytes: int = 300) -> Iterator[Path]:
    """An XFS of its own, in a file: it can clone files. 300 MB is the least that mkfs.xfs takes.

    Raises
    ------
    OSError
        This machine cannot make or mount one.
    """
    if os.geteuid() != 0:
        raise PermissionError("only root can mount a file system")
    place.mkdir(parents=True)
    image = place.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    for command in (
        ["mkfs.xfs", "-q", "-m", "reflink=1", image],
        ["mount", "-o", "loop", image, place],
    ):
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:  # a container's kernel may have no XFS, or no loop devices
            raise OSError(f"no XFS can be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
        image.unlink()
