"""Figures about one job from Slurm: asked only to explain it, and done without where they lack."""

from __future__ import annotations

import re
from typing import NamedTuple

from hpctf.common.units import bytes_of
from hpctf.errors import SchedulerError
from hpctf.runs.explain.limits import Limit
from hpctf.scheduler import commands
from hpctf.scheduler.commands import fields

_ANSWER_S = 10.0
_NOT_YET = ("Dependency", "BeginTime", "JobHeld")
"""Begins the reasons of jobs that Slurm does not look at yet."""


class Node(NamedTuple):
    """A node of a partition: its state, CPUs that are free, and why it is down or drained."""

    name: str
    state: str
    free_cpus: int
    reason: str

    @property
    def usable(self) -> bool:
        """Whether jobs may start there; ``*`` says that it does not answer."""
        word = self.state.rstrip("*~#!%$@^-+").lower()
        return word in ("idle", "mixed", "allocated", "completing") and "*" not in self.state


class Figures:
    """What the Slurm of one cluster says (None: the local one); empty answers where it says
    nothing."""

    def __init__(self, cluster: str | None = None) -> None:
        self._clusters = commands.clusters_option(cluster)
        self.where = " ".join(self._clusters)
        """What a person's command needs to reach the cluster, such as scontrol's."""
        self._cluster = cluster

    def job(self, job_id: str) -> dict[str, str]:
        """Return ``scontrol show job`` by field.

        Of a het job its leader's, with the nodes of all components, and without the rest of what
        the leader alone asks for.
        """
        lines = self._lines("scontrol", "show", "job", "--oneliner", job_id)
        components = [fields(line) for line in lines if line]
        if len(components) < 2:
            return components[0] if components else {}
        nodes = sum(int(one.get("NumNodes", "0").partition("-")[0]) for one in components)
        whole = {"NumNodes": str(nodes), "TRES": "", "ReqTRES": ""}
        leader = next((one for one in components if one.get("HetJobOffset") == "0"), components[0])
        return {**leader, **whole}

    def show(self, what: str, name: str) -> dict[str, str]:
        """Return ``scontrol show`` of a ``partition``, ``reservation`` or ``licenses`` by field."""
        lines = self._lines("scontrol", "show", what, "--oneliner", name)
        return fields(lines[0]) if lines else {}

    def nodes(self, *, partition: str = "", names: str = "") -> list[Node]:
        """Return the nodes of a partition, or of a host list."""
        options = [f"--partition={partition}"] if partition else [f"--nodes={names}"]
        lines = self._lines("sinfo", "--noheader", "--Node", "--format=%N|%T|%C|%E", *options)
        found = {}
        for name, *row in (line.split("|", 3) for line in lines):
            if len(row) == 3:
                found[name] = Node(name, row[0], int(row[1].split("/")[1]), row[2].strip())
        return list(found.values())

    def before(self, partition: str, job: dict[str, str]) -> int | None:
        """Return how many waiting jobs of a partition are before this one in Slurm's order.

        That is by priority, and among equals by submission and id (job_scheduler.c,
        sort_job_queue2). What is held, or waits for its time or for other jobs, is not in it yet.
        """
        lines = self._lines(
            *("squeue", "--noheader", "--states=PENDING", "--format=%Q|%V|%A|%i|%r"),
            f"--partition={partition}",
        )
        own = _turn(job.get("Priority", ""), job.get("SubmitTime", ""), job.get("JobId", ""))
        if own is None or not lines:
            return None
        ahead = set()
        for line in lines:
            priority, submitted, number, job_id, reason = [*line.split("|", 4), *[""] * 4][:5]
            turn = _turn(priority, submitted, number)
            if turn is not None and turn < own and not reason.startswith(_NOT_YET):
                ahead.add(re.split(r"[+_]", job_id)[0])  # a het job and a job array are one each
        return len(ahead)

    def names_of(self, job_ids: list[str]) -> dict[str, str]:
        """Return ``name, STATE`` of jobs by id."""
        lines = self._lines(
            *("squeue", "--noheader", "--states=all", "--format=%i|%T|%j"),
            f"--jobs={','.join(job_ids)}",
        )
        rows = (line.split("|", 2) for line in lines)
        return {row[0]: f"{row[2]}, {row[1]}" for row in rows if len(row) == 3}

    def limit(self, limit: Limit, job: dict[str, str], qos: list[str]) -> str:
        """Return a limit's figure with whose it is, such as ``1 (QOS normal)``, or empty."""
        if limit.owner == "qos":
            where = ["qos", f"where name={','.join(qos)}", f"format=Name,{limit.column}"]
        else:
            user = job.get("UserId", "").partition("(")[0]
            where = ["assoc", f"where user={user} account={job.get('Account', '')}"]
            where += [f"cluster={self._cluster}"] if self._cluster else []
            where += [f"format=Account,{limit.column}"]
        words = [part for text in where for part in text.split(" ")]
        for line in self._lines("sacctmgr", "--noheader", "--parsable2", "show", *words):
            name, _, value = line.partition("|")
            figure = limit.figure(value)
            if figure:
                return f"{figure} ({'QOS' if limit.owner == 'qos' else 'account'} {name})"
        return ""

    def most_memory(self, job_id: str) -> str:
        """Return the most memory that a step's task had, as sacct writes it (``299008K``)."""
        lines = self._lines(
            "sacct", "--noheader", "--parsable2", "--format=MaxRSS", f"--jobs={job_id}"
        )
        return max(lines, key=lambda line: bytes_of(line) or 0, default="")

    def _lines(self, *command: str) -> list[str]:
        name, *options = command
        clusters = [] if name == "sacctmgr" else self._clusters
        try:
            return commands.run([name, *clusters, *options], _ANSWER_S).splitlines()
        except SchedulerError:
            return []


def _turn(priority: str, submitted: str, job_id: str) -> tuple[int, str, int] | None:
    """Return what orders waiting jobs, the next one first."""
    if not (priority.isdigit() and job_id.isdigit()):
        return None
    return -int(priority), submitted, int(job_id)
