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
