"""A signal comes where Python ignores what its handler raises."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.support.waiting import HANGS_S

FREED = {
    "a __del__": "type('Freed', (), {'__del__': come})()",
    "a weak reference's callback": "(lambda one: weakref.ref(one, come))(set())",
    "a generator's end": "next(ending())",
}

PROGRAM = """
import os, signal, time, weakref
from hpctf import cli
from hpctf.common.signals import handling, interrupt

def come(*_):
    os.kill(os.getpid(), {number})
    for _ in range(1000):
        pass

def ending():
    try:
        yield
    finally:
        come()

def ended(number, _):
    raise SystemExit(128 + number)

def work(**_):
    with handling({handlers}):
        {freed}
        print("goes on", flush=True)
        time.sleep({hangs})

cli.cli.main = work
cli.main()
"""

HANDLERS = [
    ("", signal.SIGINT, 130),
    ("signal.SIGTERM: interrupt", signal.SIGTERM, 130),
    ("signal.SIGTERM: ended", signal.SIGTERM, 143),
]


@pytest.mark.slow
@pytest.mark.parametrize("freed", FREED.values(), ids=FREED)
@pytest.mark.parametrize(("handlers", "number", "code"), HANDLERS)
def test_it_ends_the_command_all_the_same(
    handlers: str, number: signal.Signals, code: int, freed: str
) -> None:
    program = PROGRAM.format(
        handlers=f"{{{handlers}}}", number=int(number), freed=freed, hangs=HANGS_S
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=HANGS_S / 2
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout == "goes on\n", "it was not ignored where it came"
