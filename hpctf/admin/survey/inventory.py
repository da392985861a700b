"""What a Slurm consists of, read from its commands' text: configuration, partitions, nodes, people.

The forms are those of Slurm 19.05 to 24.11; tests/support/recorded holds what was recorded.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpctf.common.answers import mpi_types
from hpctf.scheduler.commands import UNSET, fields

NODE_FORMAT = "%R|%T|%D|%c|%m|%z|%f|%G"
"""sinfo's columns for `parse_nodes`: partition, state, nodes, CPUs, MB, S:C:T, features, gres."""

ASSOCIATION_FORMAT = "User,DefaultAccount,Cluster,Account,Partition,QOS,DefaultQOS"
"""sacctmgr's columns for `parse_associations`."""

CLUSTER_FORMAT = "Cluster,ControlHost,ControlPort"
"""sacctmgr's columns for `parse_clusters`."""

_LINE = re.compile(r"^(\S+)[ \t]*=[ \t]?(.*)$", re.MULTILINE)
_PORTS = re.compile(r"\bports=(\d+)-(\d+)")
_COUNT = re.compile(r"(\d+)([KMGT]?)")
_EVERYTHING = ("ALL", "(null)", "")


def _number(text: str) -> int | None:
    """Return a whole number; sinfo writes ``190000+`` for that or more."""
    digits = text.rstrip("+")
    return int(digits) if digits.isascii() and digits.isdigit() else None


def _time(text: str) -> str | None:
    return None if text in (*UNSET, "NONE", "INFINITE") else text


def _some(text: str) -> tuple[str, ...]:
    return () if text in _EVERYTHING else tuple(text.split(","))


def _amount(text: str) -> int:
    return _number(text) or 0


def _known(text: str) -> str:
    return "" if text in UNSET else text


def _of(*keys: str, read: Callable[[str], Any] = str) -> Any:
    """Return a field that is read from the first of some keys that scontrol writes."""
    return field(metadata={"keys": keys, "read": read})


@dataclass(frozen=True)
class Config:
    """``scontrol show config``: slurm.conf as slurmctld has it, by key."""

    values: Mapping[str, str] = field(default_factory=dict)

    def get(self, key: str) -> str:
        """Return a key's value; empty where Slurm has none (``(null)``)."""
        return _known(self.values.get(key, ""))

    @property
    def cluster(self) -> str:
        """The cluster's name."""
        return self.get("ClusterName")

    @property
    def version(self) -> str:
        """Slurm's version, such as ``22.05.8``."""
        return self.get("SLURM_VERSION")

    @property
    def mpi_default(self) -> str:
        """The plugin of an srun without ``--mpi``; empty for none."""
        value = self.get("MpiDefault")
        return "" if value == "none" else value

    @property
    def mpi_ports(self) -> tuple[int, int] | None:
        """The ports that ``srun --resv-ports`` gives out (MpiParams=ports=...)."""
        found = _PORTS.search(self.get("MpiParams"))
        return (int(found[1]), int(found[2])) if found else None

    @property
    def private_data(self) -> tuple[str, ...]:
        """What people see of their own alone."""
        value = self.get("PrivateData")
        return () if value == "none" else tuple(value.split(",")) if value else ()

    @property
    def has_accounting(self) -> bool:
        """Whether there is a slurmdbd, which sacct and sacctmgr ask."""
        kind = self.get("AccountingStorageType")
        return bool(kind) and not kind.endswith("/none")

    def seconds(self, key: str) -> int | None:
        """Return the number of a value such as ``30 sec``."""
        number = self.get(key).partition(" ")[0]
        return int(number) if number.isdigit() else None


@dataclass(frozen=True)
class Gres:
    """A generic resource of a node, such as ``gpu:a100:4``; ``type`` may be empty."""

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class Nodes:
    """Nodes of one partition that are alike, and in one state."""

    partition: str
    state: str
    count: int
    cpus: int
    memory_mb: int
    threads_per_core: int
    features: tuple[str, ...]
    gres: tuple[Gres, ...]

    @property
    def usable(self) -> bool:
        """Whether a job may start there, now or once others have ended."""
        word = self.state.rstrip("*~#!%$@^-+").lower()
        asleep = word in ("powered_down", "powering_up", "powering_down", "planned", "reserved")
        works = word in ("idle", "mixed", "allocated", "completing") or asleep
        return works and "*" not in self.state

    @property
    def gpus(self) -> int:
        """How many GPUs each of the nodes has."""
        return sum(one.count for one in self.gres if one.name == "gpu")

    @property
    def gpu_types(self) -> tuple[str, ...]:
        """The types of its GPUs, as far as Slurm knows them."""
        return tuple(sorted({one.type for one in self.gres if one.name == "gpu" and one.type}))


@dataclass(frozen=True)
class Partition:
    """``scontrol show partition``: who may use it, and its limits. None is no limit."""

    name: str = _of("PartitionName")
    default: bool = _of("Default", read="YES".__eq__)
    state: str = _of("State")
    max_time: str | None = _of("MaxTime", read=_time)
    default_time: str | None = _of("DefaultTime", read=_time)
    max_nodes: int | None = _of("MaxNodes", read=_number)
    total_nodes: int = _of("TotalNodes", read=_amount)
    total_cpus: int = _of("TotalCPUs", read=_amount)
    max_cpus_per_node: int | None = _of("MaxCPUsPerNode", read=_number)
    def_mem_per_cpu: int | None = _of("DefMemPerCPU", read=_number)
    def_mem_per_node: int | None = _of("DefMemPerNode", read=_number)
    allow_groups: tuple[str, ...] = _of("AllowGroups", read=_some)
    allow_accounts: tuple[str, ...] = _of("AllowAccounts", read=_some)
    deny_accounts: tuple[str, ...] = _of("DenyAccounts", read=_some)
    allow_qos: tuple[str, ...] = _of("AllowQos", "AllowQOS", read=_some)
    deny_qos: tuple[str, ...] = _of("DenyQos", "DenyQOS", read=_some)
    qos: str = _of("QoS", read=_known)
    exclusive: bool = _of("OverSubscribe", "Shared", read="EXCLUSIVE".__eq__)
    root_only: bool = _of("RootOnly", read="YES".__eq__)
    reservation_only: bool = _of("ReqResv", read="YES".__eq__)
    preempt_mode: str = _of("PreemptMode")

    @property
    def up(self) -> bool:
        """Whether it takes jobs and starts them."""
        return self.state == "UP"

    def allows(self, account: str) -> bool:
        """Return whether jobs of an account may run in it (allow_accounts: none are all)."""
        if self.allow_accounts:
            return account in self.allow_accounts
        return account not in self.deny_accounts


@dataclass(frozen=True)
class Association:
    """What a person may charge jobs to (sacctmgr(1))."""

    cluster: str
    account: str
    is_default: bool
    partition: str
    qos: tuple[str, ...]
    default_qos: str


@dataclass(frozen=True)
class Cluster:
    """A cluster that the same slurmdbd knows; without ``host`` it has not registered itself."""

    name: str
    host: str
    port: int


def parse_config(text: str) -> Config:
    """Read ``scontrol show config``; of a key that is there twice, the first counts."""
    values: dict[str, str] = {}
    for key, value in _LINE.findall(text):
        values.setdefault(key, value.strip())
    return Config(values)


def parse_partitions(text: str) -> tuple[Partition, ...]:
    """Read ``scontrol show partition --oneliner``."""
    rows = (fields(line) for line in text.splitlines())
    return tuple(_partition(row) for row in rows if row.get("PartitionName"))


def _partition(row: Mapping[str, str]) -> Partition:
    values = {}
    for one in dataclasses.fields(Partition):
        texts = (row[key] for key in one.metadata["keys"] if key in row)
        values[one.name] = one.metadata["read"](next(texts, ""))
    return Partition(**values)


def parse_nodes(text: str) -> tuple[Nodes, ...]:
    """Read sinfo's rows in the format of `NODE_FORMAT`; what cannot be read is left out."""
    rows = [line.split("|") for line in text.splitlines()]
    return tuple(_nodes(row) for row in rows if len(row) == len(NODE_FORMAT.split("|")))


def _nodes(row: list[str]) -> Nodes:
    partition, state, *amounts, shape, features, gres = row
    count, cpus, memory = map(_amount, amounts)
    threads = _number(shape.rpartition(":")[2]) or 1
    some = _some(features)
    return Nodes(partition, state, count, cpus, memory, threads, some, parse_gres(gres))


def parse_gres(text: str) -> tuple[Gres, ...]:
    """Read a node's generic resources: ``gpu:a100:4(S:0-1),nvme:3600``."""
    if text in UNSET:
        return ()
    bare = re.sub(r"\([^)]*\)|:no_consume", "", text)
    return tuple(_gres(word.split(":")) for word in bare.split(",") if word)


def _gres(parts: list[str]) -> Gres:
    """Return ``name[:type][:count]``; without a count it is one (gres.conf(5))."""
    name, *rest = parts
    found = _COUNT.fullmatch(rest[-1]) if rest else None
    if found is None:
        return Gres(name, ":".join(rest), 1)
    scale = 1024 ** " KMGT".index(found[2] or " ")
    return Gres(name, ":".join(rest[:-1]), int(found[1]) * scale)


def parse_mpi_list(text: str) -> tuple[str, ...]:
    """Read ``srun --mpi=list``: Slurm 22.05 and later, or with ``srun:`` before each line.

    The names of PMIx's versions (``pmix_v4``) come after the others; ``none`` is left out, and so
    is PMIx where srun says that it cannot load its library.
    """
    names: list[str] = []
    specific: list[str] = []
    for words in mpi_types(text):
        if words.startswith("specific pmix plugin versions available:"):
            specific = re.split(r"[,\s]+", words.partition(":")[2].strip())
        elif re.fullmatch(r"[a-z0-9_]+", words):
            names.append(words)
    unusable = ("none", "pmix") if "can not load PMIx library" in text else ("none",)
    found = [name for name in [*names, *specific] if name and not name.startswith(unusable)]
    return tuple(dict.fromkeys(found))


def parse_associations(text: str) -> tuple[Association, ...]:
    """Read sacctmgr's rows in the format of `ASSOCIATION_FORMAT`."""
    found = []
    for row in (line.split("|") for line in text.splitlines()):
        if len(row) == len(ASSOCIATION_FORMAT.split(",")) and row[3]:
            _, default, cluster, account, partition, qos, usual = row
            is_default = account == default
            found.append(Association(cluster, account, is_default, partition, _some(qos), usual))
    return tuple(found)


def parse_clusters(text: str) -> tuple[Cluster, ...]:
    """Read sacctmgr's rows in the format of `CLUSTER_FORMAT`."""
    rows = [line.split("|") for line in text.splitlines()]
    whole = [row for row in rows if len(row) == 3 and row[0]]
    return tuple(Cluster(name, host, _amount(port)) for name, host, port in whole)
