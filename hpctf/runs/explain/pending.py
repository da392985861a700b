"""Why a run waits: Slurm's reason in plain words, with the figures behind it."""

from __future__ import annotations

import re
import time
from typing import NamedTuple

from hpctf.runs.explain import limits, reasons
from hpctf.runs.explain.job_info import Figures, Node
from hpctf.scheduler.commands import UNSET


class Waiting(NamedTuple):
    """What a waiting job waits for: its meaning, the figures, what can be done, and the page of
    docs/troubleshooting about it."""

    meaning: str
    details: tuple[str, ...]
    advice: str
    page: str


def explain(job_id: str, reason: str, figures: Figures) -> Waiting:
    """Return why a job waits; `reason` is what squeue said, where nothing newer is known."""
    job = figures.job(job_id)
    said = job.get("Reason", "")
    words = reasons.bare(reason if said in UNSET else said)
    found = reasons.explain(words, job_id, figures.where)
    details = _details(words, job, figures)
    start = _when(job.get("StartTime", ""))
    if start and not words.startswith(("BeginTime", "JobHeld", "Dependency")):
        details.append(f"Slurm expects it to start {start}.")
    return Waiting(found.meaning, tuple(details), found.advice, found.page)


def _details(words: str, job: dict[str, str], figures: Figures) -> list[str]:
    partition = job.get("Partition", "").partition(",")[0]
    limit = limits.parse(words)
    if limit is not None:
        return _limit(limit, job, partition, figures)
    name = words.partition(",")[0]
    if name in ("Resources", "Priority") or name.startswith("Nodes required"):
        ahead = figures.before(partition, job)
        lines = _resources(job, partition, figures)
        if ahead:
            are = "is" if ahead == 1 else "are"
            lines.append(f"{_count(ahead, 'job')} of partition {partition} {are} ahead of it.")
        return lines
    if name == "ReqNodeNotAvail":
        return _nodes(words, job, figures)
    if name.startswith("Dependency"):
        return _dependency(job.get("Dependency", ""), figures)
    if name.startswith("Partition"):
        return _partition(name, job, figures.show("partition", partition), partition)
    if name == "BeginTime":
        return _begin(job)
    if name == "Reservation":
        wanted = job.get("Reservation", "")
        start = _when(figures.show("reservation", wanted).get("StartTime", ""))
        return [f"Reservation {wanted} begins {start}."] if start else []
    if name == "Licenses":
        return _licenses(job.get("Licenses", ""), figures)
    if name == "JobArrayTaskLimit":
        most = job.get("ArrayTaskThrottle", "")
        return [f"At most {most} of its array's tasks run at a time."] if most else []
    return []


def _resources(job: dict[str, str], partition: str, figures: Figures) -> list[str]:
    nodes = figures.nodes(partition=partition)
    if not nodes:
        return []
    wanted = int(job.get("NumNodes", "1").partition("-")[0] or 1)
    idle = sum(node.state == "idle" for node in nodes)
    free = sum(node.free_cpus for node in nodes if node.usable)
    asks = f"It requests {_count(wanted, 'node')} of partition {partition}, of which {idle} "
    lines = [f"{asks}{'is' if idle == 1 else 'are'} free now."]
    request = _request(job)
    if request:
        lines.append(f"In total it requests {request}; {_count(free, 'CPU')} are free there.")
    away = [node for node in nodes if not node.usable and node.state != "idle"]
    if away:
        lines.append(f"Not available: {_listed(away)}.")
    return lines


def _request(job: dict[str, str]) -> str:
    """Return ``32 CPUs, 64G of memory, 2 GPUs`` of TRES or, since 23.11, ReqTRES."""
    tres = job.get("ReqTRES") or job.get("TRES", "")
    asked = dict(pair.partition("=")[::2] for pair in tres.split(","))
    parts = [_count(int(asked["cpu"]), "CPU")] if asked.get("cpu", "").isdigit() else []
    if "mem" in asked:
        parts.append(f"{asked['mem']} of memory")
    if asked.get("gres/gpu", "").isdigit():
        parts.append(_count(int(asked["gres/gpu"]), "GPU"))
    return ", ".join(parts)


def _nodes(words: str, job: dict[str, str], figures: Figures) -> list[str]:
    unavailable = re.search(r"UnavailableNodes:\s*(\S+)", words)
    asked = job.get("ReqNodeList", "")
    names = unavailable.group(1) if unavailable else ("" if asked in UNSET else asked)
    nodes = figures.nodes(names=names) if names else []
    return [f"Not available: {_listed(nodes)}."] if nodes else []


def _listed(nodes: list[Node]) -> str:
    words = []
    for node in nodes[:5]:
        silent = " and does not answer" if "*" in node.state else ""
        reason = f" ({node.reason})" if node.reason not in ("", "none") else ""
        words.append(f"{node.name} is {node.state.rstrip('*')}{silent}{reason}")
    return "; ".join(words) + (f"; and {len(nodes) - 5} more" if len(nodes) > 5 else "")


def _dependency(text: str, figures: Figures) -> list[str]:
    """Explain ``afterok:12(unfulfilled),afterany:13``."""
    waits = re.findall(r"(\w+):(\d+)(?:_\S+?)?(?:\((\w+)\))?(?=[,?:(]|$)", text)
    if not waits:
        return [f"It waits for: {text}."] if text not in UNSET else []
    names = figures.names_of([job_id for _, job_id, _ in waits])
    return [
        f"It waits for job {job_id}{f' ({names[job_id]})' if job_id in names else ''} "
        f"{_KINDS.get(kind, kind)}."
        for kind, job_id, _ in waits
    ]


_KINDS = {
    "after": "to start",
    "afterany": "to end",
    "afterok": "to complete without a failure",
    "afternotok": "to fail",
    "aftercorr": "to complete the same task",
    "afterburstbuffer": "to copy its data out",
    "singleton": "of the same name to end",
}


def _partition(name: str, job: dict[str, str], partition: dict[str, str], called: str) -> list[str]:
    if name == "PartitionTimeLimit":
        times = (job.get("TimeLimit", ""), partition.get("MaxTime", ""))
        asked, most = ("no limit" if time in UNSET else time for time in times)
        return [f"It requests {asked}; partition {called} allows {most}."]
    if name == "PartitionNodeLimit":
        least, most = partition.get("MinNodes", ""), partition.get("MaxNodes", "")
        asked = job.get("NumNodes", "").partition("-")[0]
        return [
            f"It requests {asked} nodes; partition {called} allows {least} to {most.lower()}, and "
            f"has {partition.get('TotalNodes', '?')}."
        ]
    state = partition.get("State", "")
    return [f"Partition {called} is {state}."] if state else []


def _begin(job: dict[str, str]) -> list[str]:
    start = _when(job.get("StartTime", "")) or _when(job.get("EligibleTime", ""))
    lines = [f"It may start {start}."] if start else []
    if job.get("Restarts", "0") != "0":
        lines.append("Slurm waits for about two minutes before it starts a requeued job again.")
    return lines


def _licenses(asked: str, figures: Figures) -> list[str]:
    lines = []
    for word in re.split(r"[,;|]", asked):
        name, _, count = word.replace("=", ":").partition(":")
        found = figures.show("licenses", name)
        if found:
            lines.append(
                f"It requests {count or 1} of license {name}: {found.get('Used', '?')} of "
                f"{found.get('Total', '?')} are in use."
            )
    return lines


def _limit(limit: limits.Limit, job: dict[str, str], partition: str, figures: Figures) -> list[str]:
    of_partition = figures.show("partition", partition).get("QoS", "")
    qos = [name for name in (job.get("QOS", ""), of_partition) if name not in UNSET]
    figure = figures.limit(limit, job, qos)
    lines = [f"The limit is {figure}."] if figure else []
    request = _request(job)
    return [*lines, f"It requests {request}."] if request else lines


def _when(text: str) -> str:
    """Return ``at 15:30:00`` for a time of today, with the date for others; empty if unset."""
    if text in UNSET:
        return ""
    day, _, clock = text.partition("T")
    return f"at {clock}" if day == time.strftime("%Y-%m-%d") else f"on {day} at {clock}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
