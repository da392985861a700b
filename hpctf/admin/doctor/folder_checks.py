"""Folders that login and compute nodes are to share: whether they can be, and have room."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from hpctf.admin.doctor.report import Check, failed, ok, skipped
from hpctf.common.files import existing
from hpctf.common.folders import DISK_TYPES, OWN_TYPES, file_system
from hpctf.common.paths import without_tilde
from hpctf.common.units import file_size
from hpctf.errors import HpctfError
from hpctf.runs.root import runs_root_of
from hpctf.site.model import Site

LEAST_BYTES = 1_000_000_000
LEAST_FILES = 1_000
"""Less than this is too little for a run or two."""

PRIVATE = ("/tmp", "/var/tmp", "/dev/shm", "/run")
"""Folders that are a node's own on most clusters."""

_ELSEWHERE = "Choose another runs root: HPCTF_RUNS_ROOT, or runs_root in the site file."


def check_places(site: Site) -> list[Check]:
    """Return what is to be said of the runs root, the environment store and the umask."""
    try:
        root = runs_root_of(site)
    except HpctfError as error:
        return [failed("runs root", error.message, error.hint or _ELSEWHERE), _umask(site)]
    checks = [_usable("runs root", root, _ELSEWHERE)]
    if site.scheduler == "slurm":
        checks.append(shared("runs root shared", root))
    checks.append(_room(root))
    remedy = "Choose another: environments.store in the site file."
    try:
        store = without_tilde("The store", site.environments.store)
        checks.append(_usable("environment store", Path(os.path.abspath(store)), remedy))
    except HpctfError as error:
        checks.append(failed("environment store", error.message, remedy))
    return [*checks, _umask(site)]


def _usable(name: str, folder: Path, remedy: str) -> Check:
    """Write into the folder, or see that it can be made."""
    nearest = Path(existing(folder))
    if nearest != folder:
        if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
            return ok(name, f"{folder} is not there yet, and can be made")
        reason = "is not a folder" if not nearest.is_dir() else "may not be written by you"
        return failed(name, f"{folder} cannot be made: {nearest} {reason}", remedy)
    try:
        descriptor, path = tempfile.mkstemp(prefix=".hpctf-doctor-", dir=folder)
        with contextlib.suppress(OSError):
            os.close(descriptor)
        os.unlink(path)
    except OSError as error:
        return failed(name, f"{folder} cannot be written: {error.strerror}", remedy)
    return ok(name, f"{folder} can be written")


def shared(name: str, folder: Path) -> Check:
    """Return whether the folder looks like one that nodes see; only a job can prove it."""
    kind = file_system(existing(folder))
    above = next((one for one in PRIVATE if folder.is_relative_to(one)), None)
    if above is not None and kind in OWN_TYPES | DISK_TYPES | {"unknown"}:
        detail = f"{folder} lies under {above} ({kind}), and nodes of most clusters have one of "
        return failed(name, f"{detail}their own", _ELSEWHERE)
    if kind in OWN_TYPES:
        return failed(name, f"{folder} lies on a {kind}, which no other host sees", _ELSEWHERE)
    if kind in DISK_TYPES or kind == "unknown":
        detail = f"{folder} lies on a file system of type {kind}: only a job can tell"
        return skipped(name, detail, "--job")
    return ok(name, f"{folder} lies on {kind}")


def _room(folder: Path) -> Check:
    try:
        found = os.statvfs(existing(folder))
    except OSError as error:
        return failed("disk", f"{folder}: {error.strerror}", _ELSEWHERE)
    free = found.f_bavail * found.f_frsize
    detail = f"{file_size(free)} free"
    if found.f_files:
        detail += f", room for {found.f_favail:,} files"
    if free < LEAST_BYTES or (found.f_files and found.f_favail < LEAST_FILES):
        need = f"{file_size(LEAST_BYTES)} and {LEAST_FILES:,} files are little enough for a run"
        return failed("disk", f"{detail}; {need}", f"Remove what you need no more. {_ELSEWHERE}")
    return ok("disk", detail)


def _umask(site: Site) -> Check:
    mask = os.umask(0o077)
    os.umask(mask)
    text = f"the shell's is {mask:04o}"
    if mask & 0o700:
        text += ": you yourself could not use files that you make"
        return failed("umask", text, "Say umask 0022 or 0077 in your shell's start file.")
    text += f", the site's {site.umask.rjust(4, '0')}"
    if not int(site.umask, 8) & 0o002:
        text += ": everybody could change a run's files, and hpctf then reads no results"
        remedy = "umask: '0077' in the site file (or '0027' for a group that may read)."
        return failed("umask", text, remedy)
    return ok("umask", text)
