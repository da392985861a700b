"""Removing environments, and what dead builders have left of them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from hpctf.environment.build_folder import builders, described, remove_tree, sweep
from hpctf.environment.store import CURRENT, Environment, Store
from hpctf.errors import BuildError


def remove(environment: Environment, store: Store) -> None:
    """Remove an environment: at once for those who look for it, then from the disk.

    A link in its place is removed, never what it leads to: nothing outside of the store is touched.

    Raises
    ------
    BuildError
        It is no folder of the store's, somebody builds it now, or it may not be removed.
    """
    folder = environment.folder
    if folder.parent != store.root or os.path.islink(folder):
        raise BuildError(f"{str(folder)!r} is no folder of the store {str(store.root)!r}.")
    at_work = builders(folder)
    if at_work:
        raise BuildError(
            f"Environment {environment.key} is being built by {described(at_work[0])}.",
            "Let it end, or end it there.",
        )
    link = folder / CURRENT
    try:
        build_id = os.readlink(link)
        os.unlink(link)
    except OSError as error:
        raise BuildError(f"{str(link)!r} cannot be removed: {error.strerror}.") from None
    if os.sep not in build_id and build_id not in (os.curdir, os.pardir):
        remove_tree(folder / build_id)
    _drop_if_empty(folder)


def remove_stale(store: Store) -> list[str]:
    """Remove the half builds whose builders are gone; return their keys and build ids."""
    removed = []
    for folder in store.folders():
        if folder.is_symlink() or not os.access(folder, os.W_OK | os.X_OK):
            continue
        removed += [f"{folder.name}/{build_id}" for build_id in sweep(folder)]
        for gone in folder.glob(".removed-*"):
            remove_tree(gone)
        _drop_if_empty(folder)
    return removed


def _drop_if_empty(folder: Path) -> None:
    """Remove a key's folder that holds no more than its lock.

    Whoever waits for the lock meanwhile finds the folder gone, and says so; nobody loses a build.
    """
    if {entry.name for entry in os.scandir(folder)} - {"lock"}:
        return
    with contextlib.suppress(OSError):
        os.unlink(folder / "lock")
        os.rmdir(folder)
