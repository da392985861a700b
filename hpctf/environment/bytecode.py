"""The compiled modules of a new environment: those of other environments where the files are the
same, and Python's compiler for the rest.

uv links the files of packages from its cache, so two environments with the same version of a
package share its files. TensorFlow and what it needs are 10,000 modules, which take 17 s of CPU to
compile and less than a second to link.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from hpctf.common.files import PRIVATE_FILE, write_atomic
from hpctf.environment.build_commands import Commands

_COMPILE = """
import compileall, functools, json, sys
from concurrent.futures import ProcessPoolExecutor
with open(sys.argv[1]) as stream, ProcessPoolExecutor() as pool:
    compiled = functools.partial(compileall.compile_file, quiet=2)
    list(pool.map(compiled, json.load(stream), chunksize=32))
"""
"""A package may have files of another Python's syntax, which stay as they are."""


def compile_modules(python: Path, modules: Iterable[str], work: Path, commands: Commands) -> None:
    """Compile modules, as the person who builds: a store may be read-only for who imports them.

    Parameters
    ----------
    python
        The environment's interpreter.
    modules
        Paths of the sources.
    work
        Takes the list of them.
    """
    listed = work / "modules.json"
    write_atomic(listed, json.dumps(list(modules)), PRIVATE_FILE)
    commands.run([python, "-I", "-c", _COMPILE, listed], "Compiling Python's modules")


def not_compiled(site_packages: Path, tag: str) -> Iterator[str]:
    """Yield the paths of the modules that are not compiled; `tag` as in `link_compiled`."""
    for place, folders, files in os.walk(site_packages):
        compiled: set[str] = set()
        if "__pycache__" in folders:
            folders.remove("__pycache__")
            compiled = set(os.listdir(os.path.join(place, "__pycache__")))
        for name in files:
            if name.endswith(".py") and _compiled(name, tag) not in compiled:
                yield os.path.join(place, name)


def link_compiled(site_packages: Path, other: Path, tag: str) -> int:
    """Link the compiled modules of another environment's ``site-packages`` whose source is the very
    same file (an inode, not a copy), and return how many.

    Only files of this user: whoever owns a file can change it in all environments. Python replaces
    a compiled module, so that it changes in one of them alone.

    Parameters
    ----------
    tag
        The part of a compiled module's name that says for which Python it is: ``cpython-311``
        (`sys.implementation.cache_tag`).
    """
    linked = 0
    if os.stat(site_packages).st_dev != os.stat(other).st_dev:
        return linked

    for place, folders, _ in os.walk(site_packages):
        there = os.path.join(other, os.path.relpath(place, site_packages))
        try:
            theirs = _modules(there)
        except OSError:
            folders.clear()
            continue
        same = [name for name, inode in _modules(place).items() if theirs.get(name) == inode]
        if same:
            os.makedirs(os.path.join(place, "__pycache__"), exist_ok=True)
        for name in same:
            compiled = os.path.join("__pycache__", _compiled(name, tag))
            with contextlib.suppress(OSError):
                if os.stat(os.path.join(there, compiled)).st_uid == os.geteuid():
                    os.link(os.path.join(there, compiled), os.path.join(place, compiled))
                    linked += 1
    return linked


def _modules(folder: str) -> dict[str, int]:
    """Return the inode of each module of a folder."""
    with os.scandir(folder) as entries:
        return {entry.name: entry.inode() for entry in entries if entry.name.endswith(".py")}


def _compiled(name: str, tag: str) -> str:
    return f"{name.removesuffix('.py')}.{tag}.pyc"
