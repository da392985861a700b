"""Partitions as compute targets: one a partition, and one a GPU type where a partition is mixed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hpctf.admin.survey.inventory import Nodes, Partition, parse_partitions
from hpctf.admin.survey.probe import Probe
from hpctf.common.units import seconds_of, time_text
from hpctf.errors import UsageError
from hpctf.scheduler.sbatch_options import check_directive_value

_A_DAY = 86_400
_AN_HOUR = 3_600
_LITTLE_MB = 1_500
"""A process that imports TensorFlow and trains a small model takes this much memory."""


@dataclass(frozen=True)
class Fact:
    """A value, and where it comes from."""

    value: object
    source: str


@dataclass(frozen=True)
class TargetDraft:
    """A compute target to be: its keys, and those that are worth a thought."""

    name: str
    facts: dict[str, Fact]
    hints: dict[str, Fact]

    @property
    def has_gpus(self) -> bool:
        """Whether its nodes are known to have GPUs."""
        return "gpu_request" in self.facts

    def get(self, key: str) -> object:
        """Return a key's value, or None."""
        fact = self.facts.get(key)
        return None if fact is None else fact.value

    def having(self, key: str, value: object, source: str) -> TargetDraft:
        """Return the target with a key that has another value."""
        return replace(self, facts={**self.facts, key: Fact(value, source)})


@dataclass(frozen=True)
class Targets:
    """All targets, the partition that jobs go to by default, and partitions left out, with why."""

    targets: tuple[TargetDraft, ...]
    default: str | None
    left_out: dict[str, str]


def draft_targets(probe: Probe, admin: bool) -> Targets:
    """Return the targets for one person, or, for an admin's file, for everybody."""
    made: list[TargetDraft] = []
    left_out: dict[str, str] = {}
    default = None
    for partition in _partitions(probe):
        refused = _refusal(probe, partition, admin)
        if refused:
            left_out[partition.name] = refused
            continue
        taken = {one.name for one in made}
        new = _of_partition(probe, partition, admin, taken)
        if partition.default:
            default = new[0].name
        made += new
    if default is None and made:
        default = made[0].name
    return Targets(tuple(made), default, left_out)


def _partitions(probe: Probe) -> tuple[Partition, ...]:
    """Return the partitions; where scontrol said nothing, what sinfo knows of them."""
    if probe.partitions:
        return probe.partitions
    names = dict.fromkeys(row.partition for row in probe.nodes)
    return parse_partitions("".join(f"PartitionName={name} State=UP\n" for name in names))


def _refusal(probe: Probe, partition: Partition, admin: bool) -> str:
    try:
        check_directive_value("its name", partition.name)
    except UsageError as error:
        return error.message
    if partition.reservation_only:
        return "it takes jobs of a reservation alone (ReqResv=YES)"
    if not admin:
        return probe.may_use(partition)
    if not partition.up:
        return f"its state is {partition.state}"
    return "only root may submit to it (RootOnly=YES)" if partition.root_only else ""


def _of_partition(
    probe: Probe, partition: Partition, admin: bool, taken: set[str]
) -> list[TargetDraft]:
    rows = probe.nodes_of(partition.name)
    kinds = {(row.gpus, row.gpu_types) for row in rows}
    types = sorted({kind for row in rows for kind in row.gpu_types})
    mixed = len(kinds) > 1 or len(types) > 1
    name = _free(partition.name, taken)
    made = [_target(probe, partition, name, rows, "" if mixed or not types else types[0], admin)]
    for kind in types if mixed else []:
        of_kind = [row for row in rows if kind in row.gpu_types]
        name = _free(f"{partition.name}-{kind}", {*taken, *(one.name for one in made)})
        made.append(_target(probe, partition, name, of_kind, kind, admin))
    return made


def _free(wanted: str, taken: set[str]) -> str:
    """Return a name that targets may have, and no other target has."""
    allowed = re.sub(r"[^A-Za-z0-9_.-]", "-", wanted).lstrip("_.-")[:200] or "partition"
    name, number = allowed, 1
    while name in taken:
        number += 1
        name = f"{allowed}-{number}"
    return name


def _target(
    probe: Probe, partition: Partition, name: str, rows: Sequence[Nodes], gpu_type: str, admin: bool
) -> TargetDraft:
    nodes = sum(row.count for row in rows) or partition.total_nodes
    facts = {
        "description": Fact(_description(partition, rows, nodes), "sinfo"),
        "partition": Fact(partition.name, "scontrol show partition"),
    }
    hints: dict[str, Fact] = {}
    if not admin:
        facts |= _whose(probe, partition)
    if nodes:
        facts["max_nodes"] = _most_nodes(partition, nodes)
    cores = _cores(partition, rows)
    if cores:
        facts["slots"] = Fact(cores, "sinfo: the cores of its smallest node")
    facts["time_limit"] = _time_limit(partition)
    gpus = _gpus(rows, gpu_type)
    if gpus is not None:
        facts["gpus"] = gpus
    if gpus is None and rows:
        most = max(row.gpus for row in rows)
        hints["gpus"] = Fact(most, "sinfo: the most; its nodes differ in GPUs")
    if any(row.gpus for row in rows):
        if gpu_type:
            facts["gpu_type"] = Fact(gpu_type, "sinfo: gres")
        facts["gpu_request"] = _gpu_request(probe)
    count = int(str(gpus.value)) if gpus is not None else 0
    if count and all(row.cpus for row in rows):
        cpus = min(row.cpus for row in rows)  # which may be threads of cores
        share = max(1, min(cpus, partition.max_cpus_per_node or cpus) // count)
        facts["cpus_per_gpu"] = Fact(share, "sinfo: a GPU's share of a node's CPUs")
    if cores and partition.exclusive and not count:
        hints["cpus_per_task"] = Fact(cores, "whole nodes (OverSubscribe=EXCLUSIVE)")
    memory = min((row.memory_mb for row in rows), default=0)
    if memory:
        hints["mem"] = Fact(f"{memory}M", f"all of a node's; {_memory_words(probe, partition)}")
    return TargetDraft(name, facts, hints)


def _description(partition: Partition, rows: Sequence[Nodes], nodes: int) -> str:
    words = [f"{nodes} node{'s' if nodes != 1 else ''}"]
    cpus = sorted({row.cpus for row in rows})
    if cpus:
        words.append("-".join(dict.fromkeys(str(n) for n in (cpus[0], cpus[-1]))) + " CPUs each")
    gres = [one for row in rows for one in row.gres if one.name == "gpu"]
    gpus = sorted({f"{one.count} {one.type or ''} GPUs".replace("  ", " ") for one in gres})
    if gpus:
        words.append(" or ".join(gpus))
    if partition.preempt_mode in ("REQUEUE", "CANCEL") and not partition.default:
        words.append(f"PreemptMode {partition.preempt_mode}")
    return ", ".join(words)


def _whose(probe: Probe, partition: Partition) -> dict[str, Fact]:
    """Return the account and QOS that a person needs here, where the default ones do not do."""
    found: dict[str, Fact] = {}
    allowed = [one for one in probe.associations_here if partition.allows(one.account)]
    here = [one for one in allowed if one.partition in ("", partition.name)] or allowed
    if not here:
        return {}
    own = next((one for one in here if one.is_default), None)
    if own is None:
        own = here[0]
        rule = "AllowAccounts" if partition.allow_accounts else "sacctmgr: no default account"
        found["account"] = Fact(own.account, f"{rule}; yours: {', '.join(probe.accounts)}")
    usual = own.default_qos or (own.qos[0] if len(own.qos) == 1 else "")
    allowed_qos = set(partition.allow_qos or own.qos) - set(partition.deny_qos)
    fitting = [qos for qos in own.qos if qos in allowed_qos]
    if usual and usual not in fitting and fitting:
        found["qos"] = Fact(fitting[0], f"AllowQos; your default, {usual}, is not allowed here")
    return found


def _most_nodes(partition: Partition, nodes: int) -> Fact:
    if partition.max_nodes is not None and partition.max_nodes < nodes:
        return Fact(partition.max_nodes, "scontrol show partition: MaxNodes")
    return Fact(nodes, "sinfo: all of them")


def _cores(partition: Partition, rows: Sequence[Nodes]) -> int:
    """Return how many processes a node has a core for."""
    each = [max(1, row.cpus // row.threads_per_core) for row in rows if row.cpus]
    if not each and partition.total_nodes:
        each = [partition.total_cpus // partition.total_nodes]
    return max(1, min([*each, partition.max_cpus_per_node or each[0]])) if each else 0


def _time_limit(partition: Partition) -> Fact:
    """Return how long a job may run that does not say: not the most, which would wait longest."""
    usual, most = partition.default_time, partition.max_time
    if usual is not None and seconds_of(usual) >= _AN_HOUR:
        return Fact(usual, "scontrol show partition: DefaultTime")
    if most is not None and seconds_of(most) <= _A_DAY:
        return Fact(most, "scontrol show partition: MaxTime")
    limit = most or "UNLIMITED"
    return Fact(time_text(_A_DAY), f"a day; scontrol show partition: MaxTime={limit}")


def _gpus(rows: Sequence[Nodes], gpu_type: str) -> Fact | None:
    """Return how many GPUs a node has, if that is one number and known."""
    if gpu_type:
        counts = {
            sum(one.count for one in row.gres if one.name == "gpu" and one.type == gpu_type)
            for row in rows
        }
        return Fact(min(counts), "sinfo: gres" if len(counts) == 1 else "sinfo: the fewest of them")
    counts = {row.gpus for row in rows}
    if len(counts) != 1:
        return None
    count = counts.pop()
    return Fact(count, "sinfo: gres" if count else "sinfo: no gpu among the nodes' gres")


def _gpu_request(probe: Probe) -> Fact:
    kind = probe.config.get("SelectType")
    if kind.endswith("cons_tres"):
        return Fact("gpus-per-node", f"scontrol show config: SelectType={kind}")
    if not kind:
        return Fact("gres", "SelectType is not known; --gres works with all")
    return Fact("gres", f"scontrol show config: SelectType={kind} knows no --gpus-per-node")


def _memory_words(probe: Probe, partition: Partition) -> str:
    per_cpu, per_node = _default_memory(probe, partition)
    if per_cpu is not None:
        return f"without it a job has {per_cpu} MB a CPU (DefMemPerCPU)"
    if per_node is not None:
        return f"without it a job has {per_node} MB a node (DefMemPerNode)"
    return "without it a job has all of it too (no DefMemPerCPU)"


def little_memory(probe: Probe, partition: str) -> int | None:
    """Return the MB that a process of one CPU gets by default, if that is little to train with."""
    found = next((one for one in probe.partitions if one.name == partition), None)
    per_cpu = None if found is None else _default_memory(probe, found)[0]
    return per_cpu if per_cpu is not None and per_cpu < _LITTLE_MB else None


def _default_memory(probe: Probe, partition: Partition) -> tuple[int | None, int | None]:
    """Return DefMemPerCPU and DefMemPerNode: the partition's, else the cluster's."""
    if partition.def_mem_per_cpu is not None or partition.def_mem_per_node is not None:
        return partition.def_mem_per_cpu, partition.def_mem_per_node
    return probe.config.seconds("DefMemPerCPU"), probe.config.seconds("DefMemPerNode")
