"""Asking a Slurm about itself: each command once, all at the same time, and what none could say."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from hpctf.admin.survey import login_node
from hpctf.admin.survey.inventory import (
    ASSOCIATION_FORMAT,
    CLUSTER_FORMAT,
    NODE_FORMAT,
    Association,
    Cluster,
    Config,
    Nodes,
    Partition,
    parse_associations,
    parse_clusters,
    parse_config,
    parse_mpi_list,
    parse_nodes,
    parse_partitions,
)
from hpctf.admin.survey.login_node import Interface, Modules, Mpi
from hpctf.common.processes import name_of_group
from hpctf.errors import SchedulerError
from hpctf.scheduler import commands

_ANSWER_S = 25.0
"""Seconds that a command may take: left alone, Slurm's try for 18 s to reach a daemon whose host
is up but does not answer (measured, 22.05)."""

_MODULES_S = 60.0
"""`module avail` walks through all module folders of a shared file system."""


@dataclass(frozen=True)
class Probe:
    """What Slurm, and this machine, said of themselves.

    A question that was not answered has its empty answer here, and its reason in ``unanswered``,
    by the words of the command: ``{"sacctmgr show user": "sacctmgr: ... Connection refused"}``.
    """

    user: str = ""
    groups: tuple[str, ...] = ()
    config: Config = field(default_factory=Config)
    partitions: tuple[Partition, ...] = ()
    nodes: tuple[Nodes, ...] = ()
    mpi_plugins: tuple[str, ...] = ()
    associations: tuple[Association, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    accounting: bool = False
    modules: Modules = field(default_factory=Modules)
    mpi: Mpi = field(default_factory=Mpi)
    interfaces: tuple[Interface, ...] = ()
    programs: tuple[str, ...] = ()
    ephemeral_ports: tuple[int, int] = (32768, 60999)
    unanswered: dict[str, str] = field(default_factory=dict)

    @property
    def default_partition(self) -> Partition | None:
        """Where jobs go that name none."""
        return next((one for one in self.partitions if one.default), None)

    @property
    def accounts(self) -> tuple[str, ...]:
        """The person's accounts on this cluster, the default one first."""
        here = self.associations_here
        ordered = sorted(here, key=lambda one: (not one.is_default, one.account))
        return tuple(dict.fromkeys(one.account for one in ordered))

    @property
    def associations_here(self) -> tuple[Association, ...]:
        """The person's associations with this very cluster."""
        name = self.config.cluster
        return tuple(one for one in self.associations if not name or one.cluster == name)

    def nodes_of(self, partition: str) -> tuple[Nodes, ...]:
        """Return the kinds of nodes of a partition."""
        return tuple(one for one in self.nodes if one.partition == partition)

    def may_use(self, partition: Partition) -> str:
        """Return why this person cannot use a partition; empty if nothing is known against it.

        Root and Slurm's own user may use all; groups and accounts are those of slurm.conf's
        AllowGroups, AllowAccounts and DenyAccounts.
        """
        if not partition.up:
            return f"its state is {partition.state}"
        if self.user == "root":
            return ""
        if partition.root_only:
            return "only root may submit to it (RootOnly=YES)"
        if partition.allow_groups and not set(partition.allow_groups) & set(self.groups):
            return f"only groups {', '.join(partition.allow_groups)} may use it (AllowGroups)"
        if self.accounts and not any(partition.allows(name) for name in self.accounts):
            rule = "AllowAccounts" if partition.allow_accounts else "DenyAccounts"
            return f"none of your accounts may use it ({rule})"
        return ""


def probe() -> Probe:
    """Ask everything, within about a minute at worst. Raises `SchedulerError` if there is no Slurm
    on this machine: neither ``sinfo`` nor ``scontrol`` is there."""
    if not (shutil.which("scontrol") or shutil.which("sinfo")):
        commands.require("scontrol")
    user = _user()
    asked: dict[str, Callable[[], object]] = {
        "scontrol show config": lambda: parse_config(_ask("scontrol", "show", "config")),
        "scontrol show partition": lambda: parse_partitions(
            _ask("scontrol", "show", "partition", "--oneliner")
        ),
        "sinfo": lambda: parse_nodes(_ask("sinfo", "--noheader", "--exact", "-o", NODE_FORMAT)),
        "srun --mpi=list": lambda: parse_mpi_list(
            commands.run(["srun", "--mpi=list"], _ANSWER_S, errors_too=True)
        ),
        "sacctmgr show user": lambda: parse_associations(
            _sacctmgr("show", "user", user, "withassoc", f"format={ASSOCIATION_FORMAT}")
        ),
        "sacctmgr show cluster": lambda: parse_clusters(
            _sacctmgr("show", "cluster", f"format={CLUSTER_FORMAT}")
        ),
        "sacct": lambda: _ask("sacct", "--noheader", "--allocations", "--jobs=1") is not None,
        "module avail": lambda: login_node.find_modules(_MODULES_S),
        "mpirun --version": lambda: login_node.find_mpi(_ANSWER_S),
    }
    names = "config partitions nodes mpi_plugins associations clusters accounting modules mpi"
    answers: dict[str, object] = {}
    unanswered: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=len(asked)) as pool:
        waiting = {words: pool.submit(question) for words, question in asked.items()}
        for name, (words, answer) in zip(names.split(), waiting.items(), strict=True):
            try:
                answers[name] = answer.result()
            except SchedulerError as error:
                unanswered[words] = error.message
    return Probe(
        user=user,
        groups=tuple(sorted(map(name_of_group, {os.getegid(), *os.getgroups()}))),
        interfaces=login_node.find_interfaces(),
        programs=tuple(filter(shutil.which, login_node.RUNTIMES)),
        ephemeral_ports=login_node.ephemeral_ports(),
        unanswered=unanswered,
        **answers,  # type: ignore[arg-type]  # each by the name of its own question
    )


def _ask(*command: str) -> str:
    return commands.run(list(command), _ANSWER_S)


def _sacctmgr(*words: str) -> str:
    return _ask("sacctmgr", "--noheader", "--parsable2", *words)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
