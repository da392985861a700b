"""sbatch's options: which are hpctf's own, what a ``#SBATCH`` line can carry, how time is written.

Source: sbatch(1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from hpctf.errors import UsageError, shown

DIRECTIVE_KEY = re.compile(r"\A[a-z][a-z0-9-]{0,63}\Z")

OURS = {
    "job-name": "hpctf finds the job again by it; use --name or --experiment",
    "output": "the run folder holds the job's log",
    "error": "the run folder holds the job's log",
    "array": "hpctf numbers the tasks itself",
    "nodes": "use --nodes",
    "ntasks": "use --nodes with --procs-per-node, --workers or --ps",
    "ntasks-per-node": "use --procs-per-node",
    "cpus-per-task": "use --cpus-per-task",
    "time": "use --time",
    "chdir": "the script runs in its snapshot",
    "hold": "a held job would start at no time; use --begin",
    "wrap": "hpctf renders the script",
    "parsable": "hpctf reads sbatch's answer",
    "test-only": "use --dry-run",
    "wait": "use hpctf's own --wait",
}
"""Options that hpctf sets itself, and what to use instead."""

_NOT_A_SITES = set(OURS) - {"cpus-per-task", "time"}
"""Those that a site may not set either."""

NOT_DROPPED = {
    "nodes": "it says how many nodes the ranks have",
    "ntasks-per-node": "it spreads the ranks evenly over the nodes",
    "job-name": "hpctf finds the job again by it",
    "output": "the run folder holds the job's log",
    "open-mode": "a job that restarts continues its log",
}
"""Options that no job of hpctf's can do without."""

NEED_VALUES = (
    "account acctg-freq batch bb bbf begin cluster-constraint clusters comment constraint "
    "container container-id core-spec cores-per-socket cpu-freq cpus-per-gpu deadline "
    "delay-boot dependency distribution exclude export export-file extra extra-node-info gid "
    "gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task gres gres-flags hint input "
    "kill-on-invalid-dep licenses mail-type mail-user mcs-label mem mem-bind mem-per-cpu "
    "mem-per-gpu mincpus network nodefile nodelist ntasks-per-core ntasks-per-gpu "
    "ntasks-per-socket open-mode partition power prefer priority profile qos reservation segment "
    "signal sockets-per-node switches thread-spec threads-per-core time-min tmp tres-bind "
    "tres-per-task uid wait-all-nodes wckey"
)
"""Options that are no bare flags, besides ours."""

FLAGS = (
    "consolidate-segments contiguous ignore-pbs no-requeue overcommit oversubscribe quiet reboot "
    "requeue spread-job spread-segments stepmgr use-min-nodes verbose"
)
"""Options that take no value: sbatch refuses ``--requeue=yes``."""

OPTIONAL = (
    *("exclusive", "get-user-env", "nice", "no-kill", "oom-kill-step", "propagate", "resv-ports"),
)
"""Options whose value may be left out."""

_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")

_MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")
"""Of these sbatch takes one."""


def check_directives(directives: Mapping[str, object]) -> None:
    """Refuse a site's directives that hpctf sets itself, or that no ``#SBATCH`` line can carry."""
    for key, value in directives.items():
        ours = our_option(key)
        if ours in _NOT_A_SITES:
            raise UsageError(f"{key!r} is set by hpctf itself: {OURS[ours]}")
        if not DIRECTIVE_KEY.match(key):
            raise UsageError(
                f"{shown(key)} is not the long name of an sbatch option, such as 'mem'"
            )
        check_directive_value(repr(key), str(value))
        directive_value(key, value)


def directive_value(key: str, value: object) -> object:
    """Return an option's value: True for a bare flag, False for an option to be taken away.

    YAML, Python and the command line say the same: ``true`` and ``false`` are these whatever the
    option, and a flag is also ``yes`` or ``no``, ``on`` or ``off``, ``1`` or ``0``.
    """
    name = _whole(key)
    word = str(value).strip().lower()
    if name in FLAGS.split() and value != "":
        if word not in (*_YES, *_NO):
            raise UsageError(
                f"sbatch option {key!r} takes no value, but has {shown(value)}.",
                f"Write {key} alone, or {key}=false to take it away.",
            )
        return word in _YES
    if name == "kill-on-invalid-dep" and word in ("true", "false"):
        return "yes" if word == "true" else "no"  # what YAML makes of them
    if isinstance(value, str) and word in ("true", "false"):
        return word == "true"
    return value


def other_memory(lower: Mapping[str, object], upper: Mapping[str, object]) -> list[str]:
    """Return the options of a lower layer that give way where an upper one says in another way how
    much memory a job gets."""
    asked = [key for key, value in upper.items() if value is not False and _whole(key) in _MEMORY]
    return [key for key in lower if asked and key not in upper and _whole(key) in _MEMORY]


def check_memory(directives: Iterable[tuple[str, str]]) -> None:
    """Refuse two of the options that say how much memory a job gets."""
    given = [(key, value) for key, value in directives if _whole(key) in _MEMORY]
    if len(given) > 1:
        both = " and ".join(f"{key}={value}" for key, value in given)
        away = " or ".join(f"--sbatch {key}=false" for key, _ in given)
        raise UsageError(
            f"{both} exclude each other: sbatch takes only one of them.",
            f"Take the others away: {away}.",
        )


def _whole(key: str) -> str:
    """Return the option that sbatch takes a name, or the beginning of one, for."""
    known = (*OURS, *NEED_VALUES.split(), *FLAGS.split(), *OPTIONAL)
    begun = [name for name in known if name.startswith(key)]
    return key if key in known or len(begun) != 1 else begun[0]


def check_drop(drop: Iterable[str]) -> None:
    """Refuse to drop what no job of hpctf's can do without."""
    for key in drop:
        if key in NOT_DROPPED:
            raise UsageError(f"drop: hpctf cannot do without {key!r}: {NOT_DROPPED[key]}")


def our_option(key: str) -> str | None:
    """Return which of `OURS` sbatch may take an option for, or None.

    sbatch takes the beginning of an option's name for the option (getopt_long(3); measured:
    ``#SBATCH --arra=0-1`` makes a job array).
    """
    begun = (name for name in OURS if key and name.startswith(key))
    return key if key in OURS else next(begun, None)


def check_directive_value(what: str, value: str) -> None:
    """Refuse a value that cannot stand on a ``#SBATCH`` line.

    sbatch takes a backslash for a quote, even within quotes (measured: ``'a\\b'`` becomes ``ab``).
    """
    if not value.isprintable() or not value.isascii() or "\\" in value or len(value) > 1000:
        raise UsageError(
            f"{what}: {shown(value)} cannot stand on an #SBATCH line: it needs plain printable "
            "ASCII characters without a backslash, 1,000 at most."
        )


def check_run_folder(path: str) -> None:
    """Refuse a run folder that ``#SBATCH --output=`` cannot name.

    Measured on Slurm 22.05: blanks, quotes, UTF-8, ``%%`` and whatever else a shell would take for
    its own arrive as they are within quotes; backslashes vanish.
    """
    if "\\" in path:
        raise UsageError(
            f"The run folder would be {shown(path)}, which sbatch cannot name: it drops the "
            "backslash.",
            "Choose another runs root: HPCTF_RUNS_ROOT, or runs_root in the site file.",
        )


def check_not_empty(key: str, value: object) -> None:
    """Refuse an option without the value it needs: sbatch would take the next option for it.

    Measured: ``#SBATCH --comment`` before ``#SBATCH --begin=now`` gives the comment
    ``--begin=now``, and a job that begins at once.
    """
    if value == "" or (value is True and _whole(key) in NEED_VALUES.split()):
        raise UsageError(
            f"sbatch option {key!r} has no value, and would take the next option for it.",
            f"Write {key}=VALUE, or leave it out.",
        )
