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

from hpctf.errors import ClusterSpecError, HostlistError

TYPE_CHECKING = False  # not typing's: importing it costs each rank 8 ms
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MAX_HOSTS",
    "Host",
    "Task",
    "expand_counts",
    "expand_hostlist",
    "placement",
    "tasks_from_placement",
]

MAX_HOSTS = 65_536
"""The most hosts that one text may name: Slurm's own limit for one range."""

MAX_NAME = 255
"""The most characters that a host name may have: the Domain Name System's limit."""

_SEPARATORS = re.compile(r"[,\s]*", re.ASCII)
_NAME_CHARACTERS = "letters, digits, '.', '-' and '_'"
_GROUP = re.compile(r"(?:[A-Za-z0-9._-]+|\[[^][]*\])+")
_BRACKET = re.compile(r"\[([^][]*)\]")
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")
_COUNT = re.compile(r"([0-9]+)(?:\(x([0-9]+)\))?")
_MAX_DIGITS = 19  # any number of so many digits fits Slurm's 64 bits


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
    position = _skip_separators(text, 0)
    while position < len(text):
        group = _GROUP.match(text, position)
        if group is None or _is_cut_short(text, group.end()):
            raise _unreadable(text, position if group is None else group.end())
        names += _expand_group(group.group(), text)
        if len(names) > MAX_HOSTS:
            raise _too_many(text, f"at least {len(names):,}")
        position = _skip_separators(text, group.end())
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
        match = _COUNT.fullmatch(item)
        if match is None:
            raise HostlistError(
                f"task counts {_shown(text)}: {_shown(item)} is not COUNT or COUNT(xHOSTS)",
                hint="Slurm writes them like 2(x3),1: three hosts of 2 tasks, then one of 1.",
            )
        count, repeat = _integer(match[1], text), _integer(match[2] or "1", text)
        if repeat == 0:
            raise HostlistError(
                f"task counts {_shown(text)}: {_shown(item)} stands for no host at all",
                hint="The number after x is how many hosts have that count: at least 1.",
            )
        if len(counts) + repeat > MAX_HOSTS:
            raise _too_many(text, f"{len(counts) + repeat:,}")
        counts += [count] * repeat
    return counts


def placement(hostlist: str, tasks_per_node: str) -> list[Host]:
    """Return the hosts of a job with the number of tasks on each, in Slurm's order.

    Parameters
    ----------
    hostlist
        SLURM_JOB_NODELIST or SLURM_STEP_NODELIST.
    tasks_per_node
        The SLURM_TASKS_PER_NODE or SLURM_STEP_TASKS_PER_NODE that goes with it.

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
    if method != "plane":
        raise ClusterSpecError(
            f"distribution {distribution!r} is none of block, cyclic and plane=SIZE: which host "
            "has which rank cannot be known",
            hint="Start the tasks with srun --distribution=block, or give the tasks yourself.",
        )
    plane = _integer(size, distribution) if size.isascii() and size.isdigit() else plane_size
    if not plane or plane < 1:
        raise ClusterSpecError(
            f"distribution {distribution!r} has plane size {plane}; it must be 1 or more",
            hint="Write plane=SIZE, as for srun --distribution, or give plane_size.",
        )
    return plane


def _skip_separators(text: str, position: int) -> int:
    match = _SEPARATORS.match(text, position)
    return position if match is None else match.end()


def _is_cut_short(text: str, end: int) -> bool:
    """Tell whether a group that ends at `end` runs into something no separator."""
    return end < len(text) and _skip_separators(text, end) == end


def _expand_group(group: str, text: str) -> list[str]:
    """Return the hosts of one group: literal text with any number of brackets."""
    first, *rest = _BRACKET.split(group)
    literals, brackets = rest[1::2], _expand_brackets(rest[::2], text)
    longest = sum(map(len, [first, *literals])) + sum(max(map(len, b)) for b in brackets)
    if longest > MAX_NAME:
        raise HostlistError(
            f"host list {_shown(text)}: {_shown(group)} makes a name of {longest} characters; "
            f"host names have at most {MAX_NAME}",
            hint="Look for a missing comma.",
        )
    if not brackets:
        return [group]
    prefixes = [first]
    for place, numbers in enumerate(brackets[:-1]):
        # Slurm walks the brackets before the last one from the right: the first runs faster.
        prefixes = [prefix + n + literals[place] for n in numbers for prefix in prefixes]
    return [prefix + n + literals[-1] for prefix in prefixes for n in brackets[-1]]


def _expand_brackets(inners: Sequence[str], text: str) -> list[list[str]]:
    """Return the numbers of each bracket, refusing a product that would fill the memory."""
    brackets: list[list[str]] = []
    hosts = 1
    for inner in inners:
        brackets.append(_expand_bracket(inner, text))
        hosts *= len(brackets[-1])
        if hosts > MAX_HOSTS:
            raise _too_many(text, f"at least {hosts:,}")
    return brackets


def _expand_bracket(inner: str, text: str) -> list[str]:
    """Return the padded numbers that the inside of a bracket such as ``1,03-05`` stands for."""
    numbers: list[str] = []
    for item in inner.split(","):
        match = _RANGE.fullmatch(item)
        if match is None:
            raise HostlistError(
                f"host list {_shown(text)}: {_shown(item)} in [{_cut(inner)}] is not NUMBER or "
                "FIRST-LAST",
                hint="Write ranges like n[1,3-5] or n[001-010]; Slurm has no steps in them.",
            )
        first, last = _integer(match[1], text), _integer(match[2] or match[1], text)
        if last < first:
            raise HostlistError(
                f"host list {_shown(text)}: range {item} runs backwards",
                hint=f"Slurm's ranges go up: {match[2]}-{match[1]}.",
            )
        total = len(numbers) + last - first + 1
        if total > MAX_HOSTS:
            raise _too_many(text, f"{total:,}")
        width = len(match[1])
        numbers += [f"{number:0{width}d}" for number in range(first, last + 1)]
    return numbers


def _integer(digits: str, text: str) -> int:
    significant = digits.lstrip("0")
    if len(significant) > _MAX_DIGITS or len(digits) > MAX_NAME:
        raise HostlistError(
            f"{_shown(text)}: number {_cut(digits)} has {len(digits)} digits; at most "
            f"{_MAX_DIGITS} may follow the leading zeros, and {MAX_NAME} are allowed in all",
            hint="Look for a missing comma or bracket.",
        )
    return int(significant or "0")


def _unreadable(text: str, position: int) -> HostlistError:
    """Say what is wrong with the character where the grammar ends."""
    character = text[position]
    if text.strip() == "(null)":
        what, hint = "Slurm has given the job no hosts yet", "Ask again once the job runs."
    elif character == "[" and "[" in text[position + 1 :].partition("]")[0]:
        what, hint = "a bracket opens inside a bracket", "Put them side by side: r[1-2]n[1-4]."
    elif character == "[":
        what, hint = "the bracket is never closed", "The text may be cut short: add ']'."
    elif character == "]":
        what, hint = "the bracket was never opened", "Remove ']' or add its '['."
    else:
        what = f"{character!r} cannot be in a host name"
        hint = f"Names have {_NAME_CHARACTERS}; commas or blanks separate them."
    return HostlistError(f"host list {_shown(text)}, character {position + 1}: {what}", hint=hint)


def _too_many(text: str, count: str) -> HostlistError:
    return HostlistError(
        f"{_shown(text)} stands for {count} hosts; at most {MAX_HOSTS:,} are allowed",
        hint="That is Slurm's own limit for a range: look for a missing dash, comma or zero.",
    )


def _shown(text: str) -> str:
    return repr(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
