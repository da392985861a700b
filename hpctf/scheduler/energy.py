"""The energy of jobs, as the nodes' Slurm measured it: sacct(1), ConsumedEnergyRaw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hpctf.placement.hostlist import expand_hostlist
from hpctf.scheduler import commands, states
from hpctf.scheduler.jobs import Identity
from hpctf.scheduler.slurm import SACCT_S, SEPARATOR, leader, main_ids, row_of, sacct

_COLUMNS = "JobID,State,Submit,UID,JobName,SubmitLine,NodeList,ElapsedRaw,ConsumedEnergyRaw"
_NOWHERE = ("", "None assigned")
_UNKNOWN = 1 << 63
"""Slurm's NO_VAL64 and INFINITE64 are larger than any energy."""


class _Step(NamedTuple):
    """One step of a job: ``0``, ``batch``, ``extern`` ..., its seconds and joules."""

    name: str
    seconds: int
    joules: int


class _Start(NamedTuple):
    """One component of a job, each time that it was started: Slurm keeps a row of each."""

    job_id: str
    submitted: float | None
    over: bool
    nodes: frozenset[str]
    steps: list[_Step]

    @property
    def joules(self) -> int | None:
        """What its nodes used: that of the step that lasted longest of those that ran on all of
        them; None if Slurm did not measure it. The energy of a job itself, in sacct's words, is the
        sum of its steps, though each of them counts whatever ran on the node meanwhile."""
        whole = [step for step in self.steps if step.name == "extern" and step.joules]
        ran = whole or [step for step in self.steps if step.name.isdecimal()]
        if not ran:
            return 0  # it ended before any rank began
        return max(ran, key=lambda step: (step.seconds, step.joules)).joules or None

    def order(self) -> tuple[int, int, int]:
        """What orders the components of one start by how much of its nodes they tell."""
        return len(self.nodes), self.joules or 0, id(self)


def energies(jobs: Mapping[str, Identity], cluster: str | None = None) -> dict[str, int]:
    """Return the joules that the nodes of jobs used, by job id; one sacct for all of them.

    Left out are jobs that are not over, and those of which Slurm does not know it for each
    component and each start: a part would pass for the whole. On nodes that are shared with other
    jobs, theirs is in it.

    Raises
    ------
    SchedulerError
        sacct could not be asked.
    """
    found: dict[str, list[_Start]] = {job_id: [] for job_id in jobs}
    for word in commands.words(main_ids(jobs)):
        command = sacct(commands.clusters_option(cluster), _COLUMNS, f"--jobs={word}")
        said = commands.run(command, SACCT_S)
        for start in _starts(said, jobs):
            found[start.job_id].append(start)
    known = {job_id: _total(starts) for job_id, starts in found.items()}
    return {job_id: total for job_id, total in known.items() if total}


def _total(starts: list[_Start]) -> int | None:
    """Return the joules of a job's starts; None if one of them is not over, or not known. Of
    components on the same nodes one counts: each has what the nodes used in all."""
    total = 0
    for start in starts:
        if start.joules is None or not start.over:
            return None
        beside = [one for one in starts if one.submitted == start.submitted and one is not start]
        shared = [one for one in beside if one.nodes & start.nodes]
        if any(not (one.nodes <= start.nodes or start.nodes <= one.nodes) for one in shared):
            return None
        most = max(shared, key=_Start.order, default=start)
        total += start.joules if start.order() >= most.order() else 0
    return total


def _starts(said: str, jobs: Mapping[str, Identity]) -> Iterator[_Start]:
    """Yield the starts of the jobs that are meant. Each has a row, and its steps' follow it."""
    start: _Start | None = None
    for line in said.split("\n"):
        columns = line.split(SEPARATOR)
        if len(columns) != _COLUMNS.count(",") + 1:
            continue
        job_id, state, submitted, uid, name, command, nodes, seconds, joules = columns
        whole, _, step = job_id.partition(".")
        if step:
            if start is not None:
                start.steps.append(_Step(step, _number(seconds), _number(joules)))
            continue
        if start is not None:
            yield start
        row = row_of(job_id, name, state, "", submitted, uid, command)
        identity = jobs.get(leader(whole))
        start = None
        if identity is not None and identity.is_of(row):
            over = states.kind(row.state) == states.OVER
            hosts = frozenset(expand_hostlist(nodes) if nodes not in _NOWHERE else ())
            start = _Start(leader(whole), row.submitted, over, hosts, [])
    if start is not None:
        yield start


def _number(text: str) -> int:
    """Return sacct's number, 0 for none."""
    number = int(text) if text.isdecimal() else 0
    return number if number < _UNKNOWN else 0
