"""A training environment as one file, which nodes take to their own disks.

It lies beside the build that it is of, under the build's id and its own checksum:
``<store>/<key>/<build id>.<sha256>.squashfs``, ``.tar.zst`` or ``.tar``. Scripts in ``bin/`` name
the Python that they were installed with; those of the image look for the one beside them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hpctf.environment.build_folder import alone
from hpctf.environment.progress import Tell, tell_nobody
from hpctf.environment.store import CURRENT, Environment
from hpctf.errors import BuildError
from hpctf.scheduler.programs import FOLDER, ask, environment_of

SQUASHFS, TAR, ZSTD = ".squashfs", ".tar", ".tar.zst"
_SUFFIXES = {"squashfs": (SQUASHFS, ZSTD, TAR), "tar": (ZSTD, TAR, SQUASHFS)}
"""By what a site wants: the images that will do, the first of them best."""

_ROOM = "Make room in the store (environments.store), or leave --stage-env out."
_BLOCK = 1 << 20
_LONGEST_SCRIPT = 1 << 20
_SHEBANG = re.compile(rb"\A#!(\S+/bin/)(python[0-9.]*)[^\n]*\n(?:''' ?\n)?")
_LONG_SHEBANG = re.compile(rb"\A#!/bin/sh\n'''exec' (\S+/bin/)(python[0-9.]*) [^\n]*\n' '''\n")
_BESIDE = b'#!/bin/sh\n\'\'\'exec\' "$(dirname -- "$(realpath -- "$0")")/%s" "$0" "$@"\n\' \'\'\'\n'
"""What a script begins with that finds the Python beside it, wherever that is: a shell runs the
second line, and to Python it is a text (as uv does for relocatable environments)."""


def image_of(key_folder: str | os.PathLike[str], kind: str) -> str | None:
    """Return the path of the image of an environment's current build, the best for `kind`."""
    try:
        build_id = os.readlink(os.path.join(key_folder, CURRENT))
        names = sorted(os.listdir(key_folder))
    except OSError:
        return None
    for suffix in _SUFFIXES[kind]:
        for name in names:
            if name.startswith(f"{build_id}.") and name.endswith(suffix):
                return os.path.join(key_folder, name)
    return None


def checksum_of(image: str) -> str:
    """Return the checksum that an image must have, which its name says."""
    return os.path.basename(image).split(".")[1]


def ensure_image(
    environment: Environment, kind: str, umask: int, tell: Tell = tell_nobody
) -> Path | None:
    """Make the image of an environment, unless it is there; return its path.

    Without mksquashfs 4.5 or later (``-tar``), ``squashfs`` becomes ``tar``.

    Raises
    ------
    BuildError
        It cannot be made; nothing is left of it.
    """
    folder = environment.folder
    known = image_of(folder, kind)
    if known is not None and known.endswith(_SUFFIXES[kind][0]):
        return Path(known)
    suffix = _suffix(kind, tell)
    if known is not None and known.endswith(suffix):
        return Path(known)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BuildError(
            f"Environment {environment.key} has no image, and you may not make one.",
            "Ask its owner to submit once with --stage-env.",
        )
    with alone(folder, umask, tell):
        known = image_of(folder, kind)
        if known is not None and known.endswith(suffix):
            return Path(known)
        tell(f"Making one file of environment {environment.key}, for the nodes' own disks")
        build_id = os.readlink(environment.current)
        part = folder / f".{build_id}{suffix}.part"
        try:
            _write(folder / build_id, part, suffix, umask)
            made = folder / f"{build_id}.{_checksum(part)}{suffix}"
            os.rename(part, made)
        except OSError as error:
            raise BuildError(
                f"The image of environment {environment.key} cannot be made: {error.strerror}.",
                _ROOM,
            ) from None
        finally:
            part.unlink(missing_ok=True)
    return made


def _suffix(kind: str, tell: Tell) -> str:
    if kind == "squashfs":
        with contextlib.suppress(OSError):
            done = ask(["mksquashfs", "-help"])
            if "-tar" in done.stdout + done.stderr:
                return SQUASHFS
        tell("There is no mksquashfs 4.5 or later here: the image is a tar file.")
    return ZSTD if shutil.which("zstd") else TAR


def _write(folder: Path, to: Path, suffix: str, umask: int) -> None:
    """Write the image of a folder, by way of the program that its kind takes."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(to, flags, 0o666 & ~umask)
    with open(descriptor, "wb") as stream:
        if suffix == TAR:
            _write_tar(folder, stream)
            return
        command = ["zstd", "-q", "-c", "-1", "-T0"]
        if suffix == SQUASHFS:
            command = ["mksquashfs", "-", str(to), "-tar", "-noappend", "-quiet", "-no-progress"]
            command += ["-comp", "zstd", "-Xcompression-level", "1", "-no-xattrs"]
        child = subprocess.Popen(
            command,
            cwd=FOLDER,
            env=environment_of(command[0]),
            stdin=subprocess.PIPE,
            stdout=stream if suffix == ZSTD else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert child.stdin is not None and child.stderr is not None
        try:
            with contextlib.suppress(BrokenPipeError), child.stdin:
                _write_tar(folder, child.stdin)
            said = child.stderr.read().decode(errors="replace").strip()
            code = child.wait()
        except BaseException:
            child.kill()
            child.wait()
            raise
        finally:
            child.stderr.close()
    if code:
        raise BuildError(f"{command[0]} failed with exit code {code}: {said[-500:]}.", _ROOM)


def _write_tar(folder: Path, stream: IO[bytes]) -> None:
    with tarfile.open(mode="w|", fileobj=stream, format=tarfile.GNU_FORMAT) as tar:
        for path, name in _walk(folder):
            entry = tar.gettarinfo(path, name)
            if not entry.isreg():
                tar.addfile(entry)
                continue
            with open(path, "rb") as content:
                script = _beside(folder, path, content) if name.startswith("bin/") else None
                if script is not None:
                    entry.size = len(script)
                tar.addfile(entry, content if script is None else io.BytesIO(script))


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the paths in a folder, and their names in it; links are not followed."""
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in (*folders, *sorted(files)):
            path = os.path.join(place, name)
            yield path, os.path.relpath(path, folder)


def _beside(folder: Path, path: str, content: IO[bytes]) -> bytes | None:
    """Return a script that finds the Python beside it; None if it is not a script of `folder`."""
    if content.read(2) != b"#!" or os.path.getsize(path) > _LONGEST_SCRIPT:
        content.seek(0)
        return None
    content.seek(0)
    text = content.read()
    content.seek(0)
    found = _LONG_SHEBANG.match(text) or _SHEBANG.match(text)
    places = {os.fsencode(str(one / "bin")) + b"/" for one in (folder, folder.parent / CURRENT)}
    if found is None or found[1] not in places:
        return None
    return _BESIDE % found[2] + text[found.end() :]


def _checksum(path: Path) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK):
            found.update(block)
    return found.hexdigest()
