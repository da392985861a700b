"""Slurm's host lists and task counts, as hosts and tasks in rank order.

Slurm tells a job where it runs in two compressed variables: a host list such as ``n[9-11]`` and
the tasks on each of its hosts, such as ``2(x2),1``. This module reads both without asking Slurm:

>>> placement("n[9-11]", "2(x2),1")
[Host(name='n9', slots=2), Host(name='n10', slots=2), Host(name='n11', slots=1)]

The order is Slurm's, which gives out ranks along it: never sort host names.

Every rank of a job imports this module before its training starts, so it imports next to nothing.
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Sequence

from hpctf.errors import ClusterSpecError, HostlistError

MAX_HOSTS = 65_536
"""The most hosts that one text may name: Slurm's own limit for one range."""

MAX_NAME = 255
"""The most characters that a host name may have: the Domain Name System's limit."""

_NUMBER = "[0-9]{1,19}"  # any number of so many digits fits Slurm's 64 bits
_BRACKET = rf"\[({_NUMBER}(?:-{_NUMBER})?(?:,{_NUMBER}(?:-{_NUMBER})?)*)\]"
_GROUP = rf"(?a)[,\s]*((?:[A-Za-z0-9._-]|{_BRACKET})+)(?=[,\s]|\Z)"
_COUNT = rf"({_NUMBER})(?:\(x({_NUMBER})\))?"


class Host(namedtuple("Host", ("name", "slots"))):
    """A host of a job, and how many of the job's tasks it holds."""

    __slots__ = ()
    name: str
    slots: int


class Task(namedtuple("Task", ("rank", "host", "local_rank"))):
    """One process of a job: its rank among all, its host, and its rank among that host's."""

    __slots__ = ()
    rank: int
    host: str
    local_rank: int


def expand_hostlist(text: str) -> list[str]:
    """Return the host names that a Slurm host list stands for, in Slurm's order.

    What ``scontrol show hostnames`` prints, with two differences. A suffix after the last bracket
    (``n[1-2]-ib``, ``n[1-2].cluster.local``) is read, where Slurm 22.05 calls it invalid. And
    text that Slurm takes by accident is refused: brackets left open (``n[1`` is the host ``n]``
    to Slurm), ranges without an end, blanks in a bracket, characters no host name has.

    Parameters
    ----------
    text
        Host names and bracketed groups, separated by commas or blanks: ``n[1,3-5],login``,
        ``n[008-010]``, ``rack[1-2]n[01-02]``. The width of a range is that of its first number.

    Returns
    -------
    list of str
        One name a host. Duplicates stay. With several brackets the last one runs fastest, then
        the first, the second and so on, as in Slurm. The empty text is the empty list.

    Raises
    ------
    HostlistError
        When the text is no host list, or stands for more than `MAX_HOSTS` hosts.
    """
    names: list[str] = []
    position = 0
    group = re.compile(_GROUP)  # not at import: each rank does that, and few need it
    while match := group.match(text, position):
        names += _expand_group(match[1], text)
        if len(names) > MAX_HOSTS:
            raise _too_many(text)
        position = match.end()
    rest = text[position:].strip(", \t\n\r\f\v")
    if rest:
        raise _unreadable(text, rest)
    return names


def expand_counts(text: str) -> list[int]:
    """Return the counts that Slurm writes as ``2(x3),1``: here ``[2, 2, 2, 1]``.

    The grammar of SLURM_TASKS_PER_NODE and SLURM_STEP_TASKS_PER_NODE (sbatch's man page).

    Raises
    ------
    HostlistError
        When the text is not of that form, or has more than `MAX_HOSTS` counts.
    """
    counts: list[int] = []
    for item in text.strip().split(","):
        match = re.fullmatch(_COUNT, item)
        repeat = int(match[2] or 1) if match else 0
        if match is None or not repeat:
            raise HostlistError(
                f"task counts {_shown(text)}: {_shown(item)} is not COUNT or COUNT(xHOSTS)",
                hint="Slurm writes them like 2(x3),1: three hosts of 2 tasks, then one of 1.",
            )
        if len(counts) + repeat > MAX_HOSTS:
            raise _too_many(text)
        counts += [int(match[1])] * repeat
    return counts


def placement(hostlist: str, tasks_per_node: str) -> list[Host]:
    """Return the hosts of a job with the number of tasks on each, in Slurm's order.

    The texts are those of SLURM_JOB_NODELIST and SLURM_TASKS_PER_NODE, or of a step's.

    Raises
    ------
    HostlistError
        When either cannot be read, or they are not about the same number of hosts.
    """
    names = expand_hostlist(hostlist)
    counts = expand_counts(tasks_per_node)
    if len(names) != len(counts):
        raise HostlistError(
            f"host list {_shown(hostlist)} has {len(names)} hosts, but task counts "
            f"{_shown(tasks_per_node)} are for {len(counts)}",
            hint="Take both from the same job or step; equal counts are written like 2(x3).",
        )
    return list(map(Host, names, counts))


def tasks_from_placement(
    hosts: Sequence[Host], distribution: str = "block", plane_size: int | None = None
) -> list[Task]:
    """Return the tasks of a job in rank order.

    Parameters
    ----------
    hosts
        The job's hosts and how many tasks each holds.
    distribution
        How Slurm deals out ranks (srun's ``--distribution``): ``block`` fills host after host,
        ``cyclic`` gives every host one in turn, ``plane`` gives every host `plane_size` in turn.

    Raises
    ------
    ClusterSpecError
        When the distribution is another one: ``arbitrary`` follows a file we cannot see.
    """
    turn = _turn(distribution, plane_size, most=max((host.slots for host in hosts), default=0))
    tasks: list[Task] = []
    waiting = [(host.name, 0, host.slots) for host in hosts if host.slots]
    while waiting:
        unfinished = []
        for name, taken, slots in waiting:
            until = min(taken + turn, slots)
            for local_rank in range(taken, until):
                tasks.append(Task(len(tasks), name, local_rank))
            if until < slots:
                unfinished.append((name, until, slots))
        waiting = unfinished
    return tasks


def _turn(distribution: str, plane_size: int | None, most: int) -> int:
    """Return how many ranks a host takes when its turn comes."""
    # What follows is about sockets, cores and packing: "block:cyclic", "cyclic:fcyclic,NoPack".
    method, _, size = distribution.partition(":")[0].partition(",")[0].partition("=")
    if method in ("block", "*", ""):
        return max(most, 1)
    if method == "cyclic":
        return 1
    if method == "plane":
        plane = int(size) if re.fullmatch(_NUMBER, size) else plane_size
        if plane and plane > 0:
            return plane
    raise ClusterSpecError(
        f"distribution {distribution!r} is not block, cyclic or plane=SIZE with a SIZE of 1 or "
        "more: which host has which rank cannot be known",
        hint="Start the tasks with srun --distribution=block, or give the tasks yourself.",
    )


def _expand_group(group: str, text: str) -> list[str]:
    """Return the hosts of one group: literal text with any number of brackets."""
    first, *rest = re.split(_BRACKET, group)
    literals = rest[1::2]
    brackets: list[list[str]] = []
    hosts, longest = 1, len(first) + sum(map(len, literals))
    for inner in rest[::2]:
        brackets.append(_expand_bracket(inner, text))
        hosts *= len(brackets[-1])
        longest += max(map(len, brackets[-1]))
        if hosts > MAX_HOSTS:
            raise _too_many(text)  # before a product fills the memory
    if longest > MAX_NAME:
        raise _unreadable(text, group)
    if not brackets:
        return [group]
    prefixes = [first]
    for place, numbers in enumerate(brackets[:-1]):
        # Slurm walks the brackets before the last one from the right: the first runs faster.
        prefixes = [prefix + n + literals[place] for n in numbers for prefix in prefixes]
    return [prefix + n + literals[-1] for prefix in prefixes for n in brackets[-1]]


def _expand_bracket(inner: str, text: str) -> list[str]:
    """Return the padded numbers that the inside of a bracket such as ``1,03-05`` stands for."""
    numbers: list[str] = []
    for item in inner.split(","):
        first, _, last = item.partition("-")
        low, high = int(first), int(last or first)
        if high < low:
            raise _unreadable(text, item)
        if len(numbers) + high - low >= MAX_HOSTS:
            raise _too_many(text)
        numbers += [f"{number:0{len(first)}d}" for number in range(low, high + 1)]
    return numbers


def _unreadable(text: str, part: str) -> HostlistError:
    return HostlistError(
        f"host list {_shown(text)} is not one that Slurm writes: cannot read {_shown(part)}",
        hint="Slurm's host lists look like n1,n[3-5],r[1-2]n[01-12]; take SLURM_JOB_NODELIST.",
    )


def _too_many(text: str) -> HostlistError:
    return HostlistError(
        f"{_shown(text)} stands for more than {MAX_HOSTS:,} hosts",
        hint="That is Slurm's own limit for a range: look for a missing dash, comma or zero.",
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
