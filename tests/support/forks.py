"""A Python that has imported what takes seconds to import, and forks for each command.

    python -c THIS CODE

runs CODE once. Then each line on stdin, JSON, is a command: ``words`` as after ``python`` (``-c
CODE`` or ``-m MODULE``, and arguments), ``cwd``, ``env`` and files for ``stdout`` and ``stderr``. A
command runs in a process of its own, as a new Python would, and ends as one; its exit code is a
line on stdout.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from typing import Any


def orders() -> list[str]:
    """Fork for each line; return the words of one in its own process, and nothing at the end."""
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(order)
            return list(order["words"])
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return []


def become(order: dict[str, Any]) -> None:
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    for number, name in enumerate((os.devnull, order["stdout"], order["stderr"])):
        flags = os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY
        os.dup2(os.open(name, flags), number)


def run(kind: str, what: str, *arguments: str) -> None:
    sys.argv = [kind, *arguments]
    sys.path[0] = os.getcwd() if kind == "-m" else ""
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    exec(sys.argv[1], {})
    if words := orders():
        run(*words)
