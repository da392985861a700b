"""What a run has used of its nodes, against what it requested."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hpctf.common.units import bytes_of, in_short, memory_size
from hpctf.run_folder.rank_states import ranks_of
from hpctf.tracking.samples import Sample, Samples, gpu_numbers, read_samples

_KWH = 3_600_000
"""Joules of a kilowatt-hour."""

_MEASURED = {"rapl": "CPUs and their memory", "gpu": "GPUs"}
"""What Slurm's sensors measure (slurm.conf(5), AcctGatherEnergyType); all others the nodes."""


class Requested(NamedTuple):
    """What was requested of one node; None where the run did not say, or took all that there is."""

    cpus: int | None
    memory: int | None
    gpus: int


@dataclass(frozen=True)
class NodeUse:
    """What the ranks of one node have used.

    Parameters
    ----------
    host, ranks
        The node, and which ranks ran there.
    seconds
        How long that was observed.
    cpu_mean, cpu_peak, cpu_asked
        Cores.
    memory_peak, memory_asked
        Bytes. The peaks of several ranks are added, whenever they were.
    gpus_asked, gpu_use
        GPUs, and the percent of the time that they were busy, on average.
    gpu_memory_peak, gpu_memory_total
        Bytes of the GPU that was fullest.
    gpu_energy
        Joules that the GPUs used, by their own counters, all that ran on them meanwhile included.

    What was not requested, or could not be observed, is None.
    """

    host: str
    ranks: tuple[str, ...]
    seconds: float
    cpu_mean: float | None
    cpu_peak: float | None
    cpu_asked: int | None
    memory_peak: int | None
    memory_asked: int | None
    gpus_asked: int
    gpu_use: float | None
    gpu_memory_peak: int | None
    gpu_memory_total: int | None
    gpu_energy: int | None = None

    @property
    def energy(self) -> str:
        """What its GPUs used, in words; empty if that is not known."""
        return _kwh(self.gpu_energy) if self.gpu_energy else ""

    def __str__(self) -> str:
        """In one line: ``1.9 of 2 cores on average, 3.1 GB of 64 GB of memory``."""
        cores = _cores(self.cpu_mean, self.cpu_asked)
        return ", ".join([cores, _memory(self), *_gpu_words(self.gpu_use, self)])


@dataclass(frozen=True)
class Efficiency:
    """What a run has used, node by node, in the order of its ranks.

    ``co2_g_per_kwh`` are the grams of CO2 that the site's power has, 0 where nobody has said so.
    ``node_energy`` are the joules that Slurm measured on all nodes, whatever else ran there
    included, and ``sensor`` says with what, as ``node_energy`` of the site file does; None if it
    does not know.
    """

    nodes: tuple[NodeUse, ...]
    co2_g_per_kwh: float = 0.0
    node_energy: int | None = None
    sensor: str = "none"

    @property
    def gpu_energy(self) -> int | None:
        """Joules that the GPUs of all nodes used; None if for a node that has any it is not known:
        part of it would pass for all."""
        with_gpus = self._with_gpus
        known = [node.gpu_energy for node in with_gpus if node.gpu_energy is not None]
        return sum(known) if known and len(known) == len(with_gpus) else None

    @property
    def _with_gpus(self) -> list[NodeUse]:
        return [node for node in self.nodes if node.gpu_use is not None or node.gpu_energy]

    @property
    def energy(self) -> int | None:
        """Joules in all: of the nodes, or of what was measured of them; None if that is not known,
        or only a part of it."""
        if self.node_energy is None:
            return self.gpu_energy
        if self.sensor != "rapl" or not self._with_gpus:
            return self.node_energy
        return None if self.gpu_energy is None else self.node_energy + self.gpu_energy

    @property
    def co2_g(self) -> float | None:
        """Grams of CO2 for `energy`; None if one of the two is not known."""
        joules = self.energy
        return joules / _KWH * self.co2_g_per_kwh if joules and self.co2_g_per_kwh else None

    @property
    def cpu_mean(self) -> float | None:
        """Cores in use on all nodes, on average."""
        known = [node.cpu_mean for node in self.nodes if node.cpu_mean is not None]
        return sum(known) if known else None

    @property
    def cpu_asked(self) -> int | None:
        """Cores requested on all nodes; None if for one it is not known."""
        asked = [node.cpu_asked for node in self.nodes]
        return None if None in asked else sum(cpus or 0 for cpus in asked)

    @property
    def fullest(self) -> NodeUse:
        """The node that used most of the memory that was requested, or most memory."""
        return max(self.nodes, key=lambda node: (node.memory_peak or 0) / (node.memory_asked or 1))

    @property
    def gpu_use(self) -> float | None:
        """Percent of the time that the GPUs were busy, on average of the nodes that have any."""
        known = [node.gpu_use for node in self.nodes if node.gpu_use is not None]
        return sum(known) / len(known) if known else None

    def __str__(self) -> str:
        """In one line: what was used of what was requested; memory is the fullest node's."""
        if len(self.nodes) == 1:
            return ", ".join([str(self.nodes[0]), *self._energy_words()])
        held = max(self.nodes, key=lambda node: node.gpu_memory_peak or 0)
        words = [
            _cores(self.cpu_mean, self.cpu_asked),
            f"{_memory(self.fullest)} on {self.fullest.host}",
            *_gpu_words(self.gpu_use, held),
            *self._energy_words(),
        ]
        return ", ".join(words)

    def _energy_words(self) -> list[str]:
        words, grams = [], self.co2_g
        if self.node_energy:
            what = _MEASURED.get(self.sensor, "nodes")
            words.append(f"{_kwh(self.node_energy)} by the {what}")
        if self.gpu_energy and (self.sensor != "gpu" or not self.node_energy):
            part = self.node_energy and self.sensor not in _MEASURED
            words.append(f"{_kwh(self.gpu_energy)} {'of it ' if part else ''}by the GPUs")
        if words and grams is not None:
            words[-1] += f" ({in_short(grams / 1000)} kg of CO2{' in all' if words[1:] else ''})"
        return words


def efficiency(
    folder: Path, plan: dict[str, Any], node_energy: int | None = None
) -> Efficiency | None:
    """Return what a run has used against what it requested; None if nothing was sampled.

    `node_energy` are the joules that Slurm measured (`hpctf.runs.energy`).
    """
    samples = read_samples(folder, [f"{role}-{index}" for role, index in ranks_of(plan)])
    hosts: dict[str, dict[str, Samples]] = defaultdict(dict)
    for rank, mine in samples.items():
        for sample in mine.all:
            there = hosts[sample.host].setdefault(rank, Samples())
            there.every_s = mine.every_s
            there.all.append(sample)
    if not hosts:
        return None
    nodes = tuple(_node(host, ranks, plan) for host, ranks in hosts.items())
    grams, sensor = plan.get("co2_g_per_kwh", 0), plan.get("node_energy", "none")
    return Efficiency(nodes, grams, node_energy, sensor)


def asked(plan: dict[str, Any], role: str) -> Requested:
    """Return what was requested of each node of a role's component, by the plan's directives.

    Of CPUs a task has one where nobody says more (sbatch(1), --cpus-per-task). Not known are a
    site's defaults of memory, and what a node has that a job got whole (``exclusive``, ``mem=0``).
    """
    number = next(one["component"] for one in plan["roles"] if one["name"] == role)
    component = plan["components"][number]
    gpus = int(component["gpus_per_node"])
    if plan["scheduler"] != "slurm":
        return Requested(None, None, gpus)
    said = dict(component["directives"])
    tasks = math.ceil(component["tasks"] / component["nodes"])
    cpus = tasks * (component["cpus_per_task"] or 1)
    if "cpus-per-gpu" in said and not component["cpus_per_task"]:
        each = said["cpus-per-gpu"]
        cpus = int(each) * gpus if each.isdecimal() else 0
    memory = bytes_of(said.get("mem", ""))
    if memory is None and "mem" not in said:
        for key, count in (("mem-per-cpu", cpus), ("mem-per-gpu", gpus)):
            size = bytes_of(said.get(key, ""))
            memory = size * count if size else memory
    return Requested(None if "exclusive" in said else cpus or None, memory, gpus)


def _node(host: str, ranks: dict[str, Samples], plan: dict[str, Any]) -> NodeUse:
    wanted = asked(plan, next(iter(ranks)).rpartition("-")[0])
    seconds = max(sum(one.seconds for one in mine.all) for mine in ranks.values())
    use, held, total = _gpus(ranks)
    return NodeUse(
        host=host,
        ranks=tuple(ranks),
        seconds=round(seconds, 3),
        cpu_mean=_cpu_mean(ranks, seconds),
        cpu_peak=_cpu_peak(ranks),
        cpu_asked=wanted.cpus,
        memory_peak=sum(map(_memory_peak, ranks.values())) or None,
        memory_asked=wanted.memory,
        gpus_asked=wanted.gpus,
        gpu_use=use,
        gpu_memory_peak=held,
        gpu_memory_total=total,
        gpu_energy=_gpu_energy(ranks),
    )


def _cpu_mean(ranks: dict[str, Samples], seconds: float) -> float | None:
    every = [one for mine in ranks.values() for one in mine.all if "cpu" in one.row]
    used = [one.row["cpu"] * one.seconds for one in every]
    return round(sum(used) / seconds, 3) if used and seconds else None


def _cpu_peak(ranks: dict[str, Samples]) -> float | None:
    """Return the most cores that the ranks used at a time: between two samples, one of each."""
    most: dict[int, dict[str, float]] = defaultdict(dict)
    every = [one for mine in ranks.values() for one in mine.all if "cpu" in one.row]
    usual_s = sorted(one.seconds for one in every)[len(every) // 2] if every else 0.0
    share_s = max(usual_s, 1.0)  # of a long run's, which are thinned, it is minutes
    for rank, mine in ranks.items():
        for one in mine.all:
            if "cpu" in one.row:
                then = most[int(one.time // share_s)]
                then[rank] = max(one.row["cpu"], then.get(rank, 0.0))
    return round(max(sum(then.values()) for then in most.values()), 3) if most else None


def _memory_peak(mine: Samples) -> int:
    held = [one.row.get(key) for one in mine.all for key in ("memory", "memory_peak")]
    return max((int(one) for one in held if one), default=0)


def _of_each_gpu(ranks: dict[str, Samples]) -> Iterator[tuple[str, str, Sample]]:
    """Yield each sample of each GPU that a rank sees: which GPU it is, whichever rank sees it, and
    what that rank calls it."""
    for rank, mine in ranks.items():
        for one in mine.all:
            for number in gpu_numbers(one.row):
                known = number < len(one.gpus)
                yield one.gpus[number] if known else f"{rank} {number}", f"gpu{number}", one


def _gpus(ranks: dict[str, Samples]) -> tuple[float | None, int | None, int | None]:
    """Return (mean use, most memory of a GPU, that GPU's memory); one that several ranks see is
    counted once."""
    busy: dict[str, list[float]] = defaultdict(list)
    held: dict[str, tuple[int, int]] = {}
    for gpu, name, one in _of_each_gpu(ranks):
        if f"{name}_use" in one.row:
            busy[gpu].append(one.row[f"{name}_use"])
        if f"{name}_memory" in one.row:
            now = (one.row[f"{name}_memory"], one.row.get(f"{name}_memory_total", 0))
            held[gpu] = max(held.get(gpu, now), now)
    means = [sum(uses) / len(uses) for uses in busy.values()]
    peak, total = max(held.values(), default=(None, None))
    return round(sum(means) / len(means), 1) if means else None, peak, total


def _gpu_energy(ranks: dict[str, Samples]) -> int | None:
    """Return the joules of all GPUs; one that several ranks see is counted once, and each start of
    a rank counts from 0."""
    used: dict[tuple[str, int], int] = defaultdict(int)
    for gpu, name, one in _of_each_gpu(ranks):
        joules = one.row.get(f"{name}_energy")
        if joules is not None:
            used[gpu, one.start] = max(used[gpu, one.start], int(joules))
    return sum(used.values()) if used else None


def _kwh(joules: int) -> str:
    return f"{in_short(joules / _KWH)} kWh"


def _cores(mean: float | None, asked_for: int | None) -> str:
    if mean is None:
        return "cores not sampled"
    if asked_for is None:
        return f"{mean:.1f} cores on average (not requested)"
    return f"{mean:.1f} of {asked_for} cores on average"


def _memory(node: NodeUse) -> str:
    if node.memory_peak is None:
        return "memory not sampled"
    if node.memory_asked is None:
        return f"{memory_size(node.memory_peak)} of memory (not requested)"
    return f"{memory_size(node.memory_peak)} of {memory_size(node.memory_asked)} of memory"


def _gpu_words(use: float | None, held: NodeUse) -> list[str]:
    words = [] if use is None else [f"GPUs busy {use:.0f} % of the time"]
    if held.gpu_memory_peak is not None:
        most, total = memory_size(held.gpu_memory_peak), memory_size(held.gpu_memory_total or 0)
        words.append(f"{most} of {total} of a GPU's memory")
    return words
