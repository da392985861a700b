"""Processes that get the CPU before others, for what is measured on a machine that is busy."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

_FIRST = -20
"""A process of this nice value gets 87 times the share of one of 0 (sched(7))."""
_LOOK_S = 0.05


_TOGETHER = -10
"""What the ranks of a training get that a test starts itself, as the cluster's jobs do
(tests/cluster/lib.sh says why)."""


@contextlib.contextmanager
def together_on_cpus() -> Iterator[None]:
    """Let what this thread starts come before other tests, where this user may say so."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, min(before, _TOGETHER))
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


@contextlib.contextmanager
def first_on_cpu(script: str) -> Iterator[None]:
    """Let the processes that run a script have CPUs of their own, as ranks have on real nodes: the
    test cluster's nodes share this machine's with each other, and with other tests."""
    done = threading.Event()

    def raise_them() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _FIRST)
        while not done.wait(_LOOK_S):
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if os.fsencode(f"{script}\0") in (process / "cmdline").read_bytes():
                        os.setpriority(os.PRIO_PROCESS, int(process.name), _FIRST)
                        # Where sessions share the CPUs first, it is the session's that counts.
                        (process / "autogroup").write_text(str(_FIRST))

    looking = threading.Thread(target=raise_them)
    looking.start()
    try:
        yield
    finally:
        done.set()
        looking.join()
