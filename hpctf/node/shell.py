"""A shell or a command in a rank's place: ``start.py shell RUN_FOLDER RANK [COMMAND...]``.

Its environment is that of the rank's own process, as the kernel keeps it (proc(5), ``environ``): so
nothing is worked out a second time, and nothing confidential is passed on a command line. Only what
would have it taken for the rank itself is left out. Python 3.8 and up: see `hpctf.node.start`.
"""

from __future__ import annotations

import os
import re
import sys

from hpctf.common.files import read_confided, read_records
from hpctf.common.processes import stat_of
from hpctf.errors import UsageError
from hpctf.node.process import NOT_EXECUTABLE, NOT_FOUND
from hpctf.scheduler.programs import LAUNCHERS, MPIRUN

TYPE_CHECKING = False  # not typing's: see hpctf.node.rank
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

_OF_THE_TERMINAL = ("TERM", "COLORTERM")
_PREFLIGHT = "HPCTF_PREFLIGHT"
_APART = {"HPCTF_SKIP_PREFLIGHT": "1"}
"""Keeps what Python does in the shell out of the rank's records (`hpctf.startup.this_rank`)."""

_SHELL = "command -v bash >/dev/null && exec bash --norc --noprofile; exec sh"
"""A shell without the person's own start-up files, which may change PATH and load modules. An image
may lack bash."""


def enter(run_folder: str, name: str, command: Sequence[str]) -> NoReturn:
    """Become a shell, or a command, in the place of a rank: in its environment and folder, and
    inside its container if it has one.

    Parameters
    ----------
    name
        The rank's: ``worker-0``.
    command
        A program and its arguments; empty: a shell.

    Raises
    ------
    UsageError
        The rank's process is not there.
    """
    plan = read_confided(os.path.join(run_folder, "plan.json"))
    env = {**_without_the_rank(_environment(plan, run_folder, name)), **_APART}
    env.update({key: os.environ[key] for key in _OF_THE_TERMINAL if key in os.environ})
    env["PS1"] = f"({name}) \\W\\$ "
    words = list(command) or ["/bin/sh", "-c", _SHELL]
    if plan["entry"]["container"]:
        words, env = _inside(plan, run_folder, name, words, env)

    os.umask(int(plan["umask"], 8))
    os.chdir(os.path.join(run_folder, "snapshot"))
    try:
        os.execvpe(words[0], words, env)
    except OSError as error:
        sys.stderr.write(f"hpctf: cannot run {words[0]}: {error.strerror}\n")
        sys.exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)


def _environment(plan: Mapping[str, Any], run_folder: str, name: str) -> dict[str, str]:
    """Return the environment of a rank's process, which must be there."""
    pid = _pid(run_folder, name)
    if pid is None or not stat_of(pid):
        raise _gone(name)
    try:
        env = _environ(pid)
    except PermissionError:  # a setuid runtime of a container: its parent is ours
        return _environ(int(stat_of(pid)[1]))
    except OSError:
        raise _gone(name) from None
    role, _, index = name.rpartition("-")
    expected = {"HPCTF_RUN_ID": plan["run_id"], "HPCTF_ROLE": role, "HPCTF_INDEX": index}
    if any(env.get(key) != value for key, value in expected.items()):
        raise _gone(name)  # another process has its number by now
    return env


def _pid(run_folder: str, name: str) -> int | None:
    """Return the process that a rank started last."""
    pid = None
    for record in read_records(os.path.join(run_folder, "state", f"{name}.jsonl")):
        if record.get("event") == "started" and isinstance(record.get("pid"), int):
            pid = record["pid"]
    return pid


def _environ(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/environ", "rb") as stream:
        pairs = os.fsdecode(stream.read()).split("\0")
    return {name: value for name, equals, value in (one.partition("=") for one in pairs) if equals}


def _gone(name: str) -> UsageError:
    host = os.uname().nodename
    return UsageError(
        f"The process of {name} is not on {host} now, so its environment is not known.",
        "Look at the ranks: hpctf status RUN. One that runs can be named: --role worker --index 1.",
    )


def _without_the_rank(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which MPI starts alone, rather than as the rank once more."""
    return {name: value for name, value in env.items() if not _is_of_the_rank(name)}


def _is_of_the_rank(name: str) -> bool:
    return name == _PREFLIGHT or LAUNCHERS.drops(name) or MPIRUN.drops(name)


def _inside(
    plan: Mapping[str, Any], run_folder: str, name: str, command: list[str], env: dict[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs another one in the rank's container, by the file that the rank
    has left of its variables there."""
    from hpctf.node import container, identity

    role = identity.role_named(dict(plan), name.rpartition("-")[0])
    file = container.file_of(os.path.join(run_folder, "state", name))
    with open(file, encoding="utf-8", errors="surrogateescape") as stream:
        names = re.findall(r"^export (\w+)=", stream.read(), re.MULTILINE)
    unset = " ".join(one for one in dict.fromkeys([*names, _PREFLIGHT]) if _is_of_the_rank(one))
    exports = "; ".join(f"export {key}={value}" for key, value in _APART.items())
    apart = ["/bin/sh", "-c", f'unset {unset}; {exports}; exec "$@"', "hpctf", *command]
    words, outside = container.entered(plan["entry"]["container"], env, role["uses_gpu"])
    return [*words, "/bin/sh", file, *apart], outside
