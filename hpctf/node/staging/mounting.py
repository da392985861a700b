"""Mounting an environment's image where root need not help: squashfuse, and its fusermount."""

from __future__ import annotations

import os

from hpctf.scheduler.programs import ask

_MOUNTS = ("squashfuse_ll", "squashfuse")
_UNMOUNTS = ("fusermount3", "fusermount")


def mount(image: str, place: str) -> str:
    """Mount an image, unless it is; return what kept it from being mounted, or nothing."""
    if is_mounted(place):
        return "" if is_visible(place) else "an earlier mount is no longer served"
    problem = "there is no squashfuse"
    for program in _MOUNTS:
        try:
            done = ask([program, "-o", "ro", image, place])
        except OSError:
            continue
        if done.returncode == 0 and is_visible(place):
            return ""
        problem = " ".join(done.stderr.split())[-200:] or f"{program} failed"
    return problem


def unmount(place: str) -> bool:
    """Unmount what is mounted at a place; return whether nothing is now."""
    for program in _UNMOUNTS:
        if not is_mounted(place):
            return True
        try:
            ask([program, "-u", "-z", place])
        except OSError:
            continue
    return not is_mounted(place)


def is_mounted(place: str) -> bool:
    """Whether something is mounted at a place, also if whoever served it has gone (proc(5))."""
    real = os.path.join(os.path.realpath(os.path.dirname(place)), os.path.basename(place))
    try:
        with open("/proc/self/mountinfo", "rb") as stream:
            places = [line.split(b" ")[4] for line in stream]
    except OSError:
        return False
    return os.fsencode(real).replace(b" ", b"\\040") in places


def is_visible(place: str) -> bool:
    """Whether the environment that is mounted at a place can be read."""
    return os.access(os.path.join(place, "bin/python"), os.X_OK)
