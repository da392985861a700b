"""A node's copy of the training environment: one file from the shared file system, unpacked on the
node's own disk or mounted there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import IO

from hpctf.common.files import read_json
from hpctf.environment.image import SQUASHFS, ZSTD, checksum_of, image_of
from hpctf.environment.store import CURRENT, RECORD
from hpctf.errors import StagingError, shown
from hpctf.node.staging.area import IMAGE, ROOT, Area, NoPlace, remove_tree
from hpctf.node.staging.copying import NO_ROOM
from hpctf.node.staging.mounting import is_visible, mount, unmount
from hpctf.scheduler.programs import FOLDER, ask, environment_of

_BLOCK = 4 << 20
_FILE = "image.squashfs"
_UNPACKED = "env"
_FULL = "See whether the node's disk is full."


def bring(area: Area, job: str, store_folder: str, kind: str, keep: bool) -> dict[str, str]:
    """Bring an environment to this node, and return where it is: its ``root``, and the ``image``
    that ranks must mount there, if any.

    Parameters
    ----------
    job
        The job's folder on this node.
    store_folder
        The environment's in the store.
    keep
        Whether the copy stays for later jobs.

    Raises
    ------
    StagingError
        The image, the room for it, or a program that can use it is missing.
    """
    image = image_of(store_folder, kind)
    if image is None:
        raise StagingError(
            f"{store_folder} has no image of the environment.",
            "Submit once as its owner, with --stage-env: that makes one.",
        )
    link = os.path.join(job, IMAGE)
    if not os.path.lexists(link):
        to = link
        if keep:
            to = os.path.join(area.kept, f"env-{checksum_of(image)[:32]}")
        if not os.path.isdir(to):
            _make_room(area, image, store_folder)
            part = os.path.join(os.path.dirname(to), f".{os.path.basename(to)}.part")
            try:
                os.mkdir(part, 0o700)
                _take(image, part)
                os.rename(part, to)
            except BaseException:
                remove_tree(part)
                raise
        if keep:
            os.symlink(to, link)
            os.utime(to)
    unpacked = os.path.join(link, _UNPACKED)
    if os.path.isdir(unpacked):
        return {"root": unpacked, "image": ""}
    return {"root": os.path.join(job, ROOT), "image": os.path.join(link, _FILE)}


def _make_room(area: Area, image: str, store_folder: str) -> None:
    """Refuse an image for which the node's disk has no room."""
    needed = os.stat(image).st_size
    if not image.endswith(SQUASHFS):
        with contextlib.suppress(OSError, ValueError, KeyError):
            record = read_json(os.path.join(store_folder, CURRENT, RECORD))
            needed = max(needed, int(record["size_bytes"]))
    area.evict(needed, 0)
    free, _ = area.free()
    if free < needed:
        raise NoPlace(
            f"{area.path!r} has too little room for the environment: {needed / 1e6:.1f} MB are "
            f"needed, {free / 1e6:.1f} MB are free.",
            NO_ROOM,
        )


def _take(image: str, folder: str) -> None:
    """Unpack an image in a folder, or copy it there if it can be mounted."""
    if not image.endswith(SQUASHFS):
        _unpack(image, os.path.join(folder, _UNPACKED))
        return
    copy = os.path.join(folder, _FILE)
    with open(copy, "xb") as stream:
        for block in _blocks(image):
            stream.write(block)
    tried = os.path.join(folder, "try")
    os.mkdir(tried)
    problem = mount(copy, tried)
    if not problem and is_visible(tried):
        unmount(tried)
        os.rmdir(tried)
        return
    unmount(tried)
    os.rmdir(tried)
    if shutil.which("unsquashfs") is None:
        raise StagingError(
            f"its image cannot be mounted ({problem}), and there is no unsquashfs.",
            "Install squashfuse or squashfs-tools on the nodes, or use environments.stage: tar.",
        )
    done = ask(["unsquashfs", "-q", "-n", "-d", os.path.join(folder, _UNPACKED), copy])
    if done.returncode:
        raise StagingError(f"unsquashfs failed: {done.stderr.strip()[-300:]}.", _FULL)
    os.unlink(copy)


def _unpack(image: str, folder: str) -> None:
    """Unpack a tar file as it is read, so that the node needs no room for both."""
    os.mkdir(folder, 0o700)
    tar = ["tar", "-x", "-f", "-", "-C", folder, "--no-same-owner"]
    with contextlib.ExitStack() as stack:
        stdin = None
        last = stack.enter_context(_running(tar))
        stdin = last.stdin
        if image.endswith(ZSTD):
            first = stack.enter_context(_running(["zstd", "-d", "-q", "-c"], stdout=stdin))
            assert stdin is not None
            stdin.close()  # the other one has it
            stdin = first.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError), stdin:
            for block in _blocks(image):
                stdin.write(block)


@contextlib.contextmanager
def _running(
    command: list[str], stdout: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that reads stdin, and wait for its end; kill it if anything else fails."""
    try:
        child = subprocess.Popen(
            command,
            cwd=FOLDER,
            env=environment_of(command[0]),
            stdin=subprocess.PIPE,
            stdout=stdout or subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise StagingError(
            f"there is no {command[0]} on this node.", "Install it on the nodes."
        ) from None
    try:
        yield child
        code = child.wait()
    except BaseException:
        child.kill()
        child.wait()
        raise
    if code:
        raise StagingError(f"{command[0]} failed with exit code {code}.", _FULL)


def _blocks(image: str) -> Iterator[bytes]:
    """Yield an image piece by piece, and refuse one that is not what its name says, at its end."""
    found = hashlib.sha256()
    with open(image, "rb") as stream:
        while block := stream.read(_BLOCK):
            found.update(block)
            yield block
    if found.hexdigest() != checksum_of(image):
        raise StagingError(
            f"{shown(image)} is damaged: it has another checksum.",
            "Remove it; the next submission makes it again.",
        )
