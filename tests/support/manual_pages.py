"""Manual pages, read from their files: not every machine has `man`."""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path

from tests.conftest import skip_or_fail


def manual_page(command: str) -> str:
    """Return the lines of a command's manual page as they are written, without fonts."""
    program = shutil.which(command)
    if program is None:
        skip_or_fail(f"{command} is not installed")
    assert program is not None
    beside = Path(program).parent.parent / "share/man"  # a Slurm that somebody built
    for folder in (beside, Path("/usr/share/man")):
        for path in sorted(folder.glob(f"man1/{command}.1*")):
            data = path.read_bytes()
            text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
            return re.sub(r"\\f[A-Z]|\\", "", text)
    skip_or_fail(f"the manual page of {command} is not installed (minimal images leave them out)")
    return ""
