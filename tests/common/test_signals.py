"""A signal comes where Python ignores what its handler raises."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.support.waiting import HANGS_S

pytestmark = pytest.mark.slow

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
        time.sleep({then})

{before}
cli.cli.main = work
cli.main()
"""

HANDLERS = [
    ("", signal.SIGINT, 130),
    ("signal.SIGTERM: interrupt", signal.SIGTERM, 130),
    ("signal.SIGTERM: ended", signal.SIGTERM, 143),
]


@pytest.mark.parametrize("freed", FREED.values(), ids=FREED)
def test_python_itself_ignores_it(freed: str) -> None:
    done = run("", signal.SIGINT, freed, then=0, before="cli.keep_signals = lambda: None")
    assert done.returncode == 0
    assert "ignored" in done.stderr and "KeyboardInterrupt" in done.stderr


@pytest.mark.parametrize("freed", FREED.values(), ids=FREED)
@pytest.mark.parametrize(("handlers", "number", "code"), HANDLERS)
def test_it_ends_the_command_all_the_same(
    handlers: str, number: signal.Signals, code: int, freed: str
) -> None:
    done = run(handlers, number, freed, then=HANGS_S)
    assert (done.returncode, done.stderr) == (code, "")


def run(
    handlers: str, number: signal.Signals, freed: str, then: float, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program that frees something, which sends it a signal, and then sleeps."""
    program = PROGRAM.format(
        handlers=f"{{{handlers}}}", number=int(number), freed=freed, then=then, before=before
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=HANGS_S / 2
    )
