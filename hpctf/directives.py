"""The ``#SBATCH`` lines of a component: estimator over target over site, each option once."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from hpctf.backends.layout import Group
from hpctf.errors import UsageError, did_you_mean
from hpctf.estimator import TensorFlow
from hpctf.site.model import DIRECTIVE_KEY, Site, Target

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

_TIME = re.compile(
    r"^(?:(?P<days>\d+)-(?P<dh>\d+)(?::(?P<dm>\d+)(?::(?P<ds>\d+))?)?"
    r"|(?P<h>\d+):(?P<m>\d+):(?P<s>\d+)|(?P<mm>\d+)(?::(?P<ms>\d+))?)$"
)


def seconds_of(text: str) -> int:
    """Return the seconds that Slurm's time notation says.

    Minutes, ``MM:SS``, ``HH:MM:SS``, ``D-HH``, ``D-HH:MM`` or ``D-HH:MM:SS`` (sbatch(1), --time).

    Raises
    ------
    UsageError
        The text is none of these.
    """
    match = _TIME.match(text.strip())
    if not match:
        raise UsageError(
            f"Time {text!r} is not in Slurm's notation.",
            "Say minutes (30), HH:MM:SS (01:30:00) or D-HH:MM:SS (2-00:00:00).",
        )
    part = {key: int(value or 0) for key, value in match.groupdict().items()}
    hours = part["days"] * 24 + part["dh"] + part["h"]
    minutes = part["dm"] + part["m"] + part["mm"]
    return hours * 3600 + minutes * 60 + part["ds"] + part["s"] + part["ms"]


def time_text(seconds: int) -> str:
    """Return seconds as Slurm's ``D-HH:MM:SS``."""
    days, rest = divmod(seconds, 86400)
    return f"{days}-{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"


def gpus_per_node(estimator: TensorFlow, group: Group, name: str, target: Target, pin: bool) -> int:
    """Return how many GPUs each node of the group is asked for.

    Raises
    ------
    UsageError
        More than the target has, or fewer than the pinned processes of a node need.
    """
    if not estimator.use_gpu or not group.gpu_tasks:
        return 0
    tasks = math.ceil(group.gpu_tasks / group.nodes)
    asked = estimator.gpus_per_node or target.gpus or tasks
    if target.gpus is not None and asked > target.gpus:
        what = f"gpus_per_node is {asked}" if estimator.gpus_per_node else "use_gpu is set"
        have = f"{target.gpus} GPUs a node" if target.gpus else "no GPUs"
        raise UsageError(
            f"{what}, but target {name!r} has {have}.",
            "Ask for fewer, or choose another target (--target).",
        )
    if pin and tasks > asked:
        raise UsageError(
            f"{tasks} processes a node share {asked} GPUs, but each is to have its own.",
            f"Ask for more GPUs (--gpus-per-node {tasks}) or fewer processes a node.",
        )
    return asked


def directives(
    estimator: TensorFlow,
    group: Group,
    site: Site,
    target: Target,
    gpus: int,
    time_limit_s: int | None,
) -> tuple[tuple[str, str], ...]:
    """Return a component's sbatch options in order: the resources, the site's, the target's, and
    the person's own last; a later one replaces an earlier one of the same name."""
    # Slots, not tasks: every node gets the same number, and srun then spreads the tasks evenly.
    # With --ntasks alone Slurm fills the first nodes (measured: 4 tasks on 2 nodes as 3 and 1).
    per_node = math.ceil(group.tasks / group.nodes)
    chosen: dict[str, str] = {"nodes": str(group.nodes), "ntasks-per-node": str(per_node)}
    cpus = estimator.cpus_per_task or target.cpus_per_task
    wanted: dict[str, object] = {
        "cpus-per-task": cpus,
        "mem": estimator.mem or target.mem,
        "time": None if time_limit_s is None else time_text(time_limit_s),
        "partition": target.partition,
        "account": target.account,
        "qos": target.qos,
        "constraint": target.constraint,
    }
    if gpus:
        kind = f"{target.gpu_type}:" if target.gpu_type else ""
        request = f"gpu:{kind}{gpus}" if target.gpu_request == "gres" else f"{kind}{gpus}"
        wanted[target.gpu_request] = request
    chosen.update({key: str(value) for key, value in wanted.items() if value is not None})
    for layer in (site.directives, target.directives, check_sbatch(estimator.sbatch)):
        for key, value in layer.items():
            if value is False:
                chosen.pop(key, None)
            else:
                chosen[key] = "" if value is True else str(value)
    dropped = {*site.drop, *target.drop}
    made = tuple((key, value) for key, value in chosen.items() if key not in dropped)
    for key, value in made:
        check_directive_value(key, value)
    return made


def check_sbatch(options: Mapping[str, object]) -> dict[str, object]:
    """Return the person's own sbatch options, checked.

    Raises
    ------
    UsageError
        An option that hpctf sets itself, a name or a value that no ``#SBATCH`` line can carry.
    """
    checked: dict[str, object] = {}
    for given, value in options.items():
        key = given.lstrip("-").replace("_", "-")
        if key in OURS:
            raise UsageError(f"--sbatch {key}: hpctf sets it itself; {OURS[key]}.")
        if not DIRECTIVE_KEY.match(key):
            raise UsageError(
                f"--sbatch {given!r} is not the long name of an sbatch option."
                f"{did_you_mean(key, ['partition', 'account', 'qos', 'mem', 'reservation'])}"
            )
        checked[key] = value
    return checked


def check_directive_value(what: str, value: str) -> None:
    """Refuse a value that cannot stand on a ``#SBATCH`` line."""
    if not value.isprintable() or not value.isascii() or len(value) > 1000:
        raise UsageError(
            f"{what}: {value[:60]!r} cannot stand on an #SBATCH line: it needs plain printable "
            "characters, 1,000 at most."
        )
