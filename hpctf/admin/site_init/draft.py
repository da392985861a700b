"""What Slurm and the login node say → the settings of a first site file, each with its source."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import get_args, get_type_hints

from hpctf.admin.site_init.partitions import TargetDraft, Targets, little_memory
from hpctf.admin.site_init.storage import Place
from hpctf.admin.site_init.yaml_text import Draft, Line, Missing
from hpctf.admin.survey.probe import Probe
from hpctf.site.model import Site

_CONFIG = "scontrol show config"
_WANTED = (20000, 29999)
_LOWEST_PORT = 10000
_ENOUGH_PORTS = 1000
_SHOWN = 12
"""Module names that are suggested at most."""


def draft(
    probe: Probe,
    name: str,
    targets: Targets,
    refused: Mapping[str, str],
    place: Place,
    *,
    admin: bool,
) -> Draft:
    """Return the site file that a probe makes; `refused` are sbatch's words on the targets that it
    takes no job for."""
    lines: list[Line] = [
        Line(("name",), name, "given to hpctf site init"),
        Line(("description",), _description(probe), f"{_CONFIG}: ClusterName, SLURM_VERSION"),
        Line(("scheduler",), "slurm", "Slurm's commands are here"),
        Line(("runs_root",), place.runs_root, place.source),
        Line(("umask",), "0077", "what a run writes is its owner's; 0027: the group reads it"),
    ]
    missing: list[Missing] = []
    lines += _targets(probe, targets, refused, missing)
    lines += _mpi(probe, missing)
    lines += _ps(probe, targets)
    lines += _ports(probe, missing)
    lines += _network(probe)
    lines += _modules(probe, missing)
    lines += _environments(probe, place)
    lines += _containers(probe)
    lines += _energy(probe)
    missing += _unanswered(probe)
    missing += _never_known(probe, place)
    return Draft(tuple(lines), tuple(missing), _heading(probe, name, targets))


def _heading(probe: Probe, name: str, targets: Targets) -> tuple[str, ...]:
    made = [
        f"Site {name}: made by 'hpctf site init' on {time.strftime('%Y-%m-%d')} as user "
        f"{probe.user}. Each line says where it",
        "comes from; change what you know better. docs/sites.md says what each key means.",
        "Then: hpctf site validate; hpctf doctor --job",
    ]
    left_out = [f"  {partition}: {why}" for partition, why in targets.left_out.items()]
    return (*made, *(["", "Partitions left out:"] if left_out else []), *left_out)


def _description(probe: Probe) -> str:
    cluster = f"Cluster {probe.config.cluster}" if probe.config.cluster else "A Slurm cluster"
    return f"{cluster}, Slurm {probe.config.version}" if probe.config.version else cluster


def _targets(
    probe: Probe, targets: Targets, refused: Mapping[str, str], missing: list[Missing]
) -> list[Line]:
    if not targets.targets:
        how = "sinfo; ask your admin; add them to targets"
        missing.append(Missing("partitions that you may use", how))
        return []
    default = probe.default_partition
    source = "scontrol show partition: Default=YES"
    if default is None or targets.default is None or default.name in targets.left_out:
        source = "the first partition that can be used: Slurm's default one cannot, or is not known"
    lines = [Line(("default_target",), targets.default, source)]
    for target in targets.targets:
        lines += _target(target)
    for words, names in _by_words(refused).items():
        what = f"whether {names} can be used: sbatch --test-only says: {words}"
        how = "set account, qos or directives of these targets, or take them out"
        missing.append(Missing(what, how))
    little = {
        target.name: memory
        for target in targets.targets
        if (memory := little_memory(probe, str(target.get("partition")))) is not None
    }
    if little:
        what = f"whether a process has enough memory on {', '.join(little)}"
        what += f": by default it has {min(little.values())} MB a CPU"
        missing.append(Missing(what, "set mem or cpus_per_task of these targets"))
    return lines


def _by_words(said: Mapping[str, str]) -> dict[str, str]:
    """Return, by the words that were said of them, the names of all of whom the same was said."""
    names: dict[str, list[str]] = {}
    for name, words in said.items():
        names.setdefault(words, []).append(name)
    return {words: ", ".join(those) for words, those in names.items()}


def _target(target: TargetDraft) -> list[Line]:
    at = ("targets", target.name)
    active = [Line((*at, key), fact.value, fact.source) for key, fact in target.facts.items()]
    hints = [Line((*at, key), fact.value, fact.source, False) for key, fact in target.hints.items()]
    return active + hints


def _mpi(probe: Probe, missing: list[Missing]) -> list[Line]:
    launcher, plugin, source = _launcher(probe)
    lines = [Line(("mpi", "launcher"), launcher, source)]
    if launcher == "srun":
        lines.append(Line(("mpi", "plugin"), plugin, source))
    elif probe.mpi.kind == "openmpi":
        words = "a rank trains with threads; mpirun would bind it to one core"
        lines.append(Line(("mpi", "options"), ["--bind-to", "none"], words))
    if not probe.mpi_plugins and not probe.config.mpi_default:
        how = "srun --mpi=list; set mpi.launcher and mpi.plugin"
        missing.append(Missing("how MPI ranks are started", how))
    if not probe.mpi.kind:
        how = "module avail; set modules to the one that training environments are built with"
        missing.append(Missing("which MPI there is: no mpirun on PATH", how))
    return lines


def _launcher(probe: Probe) -> tuple[str, str, str]:
    """Return launcher, plugin and source: PMIx, else PMI-2, else what Slurm starts by default if
    that is a plugin of its own (Cray's), else mpirun."""
    listed, default = probe.mpi_plugins, probe.config.mpi_default
    speaks = probe.mpi.speaks
    for plugin in ("pmix", "pmi2"):
        if plugin in listed and (not speaks or plugin in speaks):
            words = f"srun --mpi=list: {', '.join(listed)}"
            if speaks:
                words += f"; {probe.mpi.kind} {probe.mpi.version} speaks {', '.join(speaks)}"
            return "srun", plugin, words
    if default and (not listed or default in listed) and not speaks:
        return "srun", default, f"{_CONFIG}: MpiDefault={default}"
    if not listed:
        return "srun", default or "pmix", "not found out: hpctf's own default"
    words = f"srun --mpi=list has none that MPI here can use: {', '.join(listed)}"
    return "mpirun", "", words


def _ps(probe: Probe, targets: Targets) -> list[Line]:
    scheduler = probe.config.get("SchedulerType")
    parameters = probe.config.get("SchedulerParameters")
    if scheduler and not scheduler.endswith("/backfill"):
        words = f"{_CONFIG}: SchedulerType={scheduler}; only sched/backfill starts het jobs"
        return [Line(("ps", "placement"), "shared", words)]
    if "disable_hetjob_steps" in parameters or "disable_hetero_steps" in parameters:
        words = f"{_CONFIG}: SchedulerParameters has disable_hetjob_steps"
        return [Line(("ps", "placement"), "shared", words)]
    lines = [Line(("ps", "placement"), "hetjob", f"{_CONFIG}: nothing there forbids het jobs")]
    without = [one.name for one in targets.targets if one.get("gpus") == 0]
    default = next((one for one in targets.targets if one.name == targets.default), None)
    if without and default is not None and default.has_gpus:
        words = "parameter servers need no GPUs"
        lines.append(Line(("ps", "target"), without[0], words, False))
    return lines


def _ports(probe: Probe, missing: list[Missing]) -> list[Line]:
    low, high = probe.ephemeral_ports
    found = _free_ports(probe)
    words = f"outside of ip_local_port_range ({low}-{high})"
    if probe.config.mpi_ports:
        words += f" and of MpiParams ({probe.config.mpi_ports[0]}-{probe.config.mpi_ports[1]})"
    if found is None:
        missing.append(Missing("ports for TF_CONFIG: none are free of others", "set ports"))
        found = _WANTED
    source = f"{_CONFIG}: MpiParams has no ports"
    if probe.config.mpi_ports:
        source = f"{_CONFIG}: MpiParams={probe.config.get('MpiParams')}"
    return [
        Line(("ports", "first"), found[0], words),
        Line(("ports", "last"), found[1], words),
        Line(("ports", "reserved"), bool(probe.config.mpi_ports), source),
    ]


def _free_ports(probe: Probe) -> tuple[int, int] | None:
    """Return hpctf's usual ports if nobody else's lie there, else the longest free stretch."""
    taken = [probe.ephemeral_ports]
    if probe.config.mpi_ports:
        taken.append(probe.config.mpi_ports)
    for key in ("SrunPortRange", "SlurmctldPort", "SlurmdPort"):
        numbers = [int(word) for word in probe.config.get(key).split("-") if word.isdigit()]
        if numbers and max(numbers) > 0:
            taken.append((numbers[0], numbers[-1]))
    if all(last < _WANTED[0] or first > _WANTED[1] for first, last in taken):
        return _WANTED
    gaps, start = [], _LOWEST_PORT
    for first, last in sorted(taken):
        gaps.append((start, first - 1))
        start = max(start, last + 1)
    gaps.append((start, 65535))
    best = max(gaps, key=lambda gap: gap[1] - gap[0])
    if best[1] - best[0] < _ENOUGH_PORTS:
        return None
    return best[0], min(best[1], best[0] + 9999)


def _network(probe: Probe) -> list[Line]:
    fast = [one.name for one in probe.interfaces if one.infiniband and one.up]
    if not fast:
        return []
    words = "InfiniBand of this machine; the nodes' may be named otherwise"
    return [Line(("network", "interfaces"), fast, words, False)]


def _modules(probe: Probe, missing: list[Missing]) -> list[Line]:
    lines = []
    for what, names in (("MPI", probe.modules.mpi), ("CUDA", probe.modules.cuda)):
        if names:
            words = f"module avail: named like {what}; jobs load what you list"
            lines.append(Line(("modules",), list(names[:_SHOWN]), words, False))
    if probe.modules.kind == "lmod" and not probe.modules.mpi:
        what = "MPI modules behind other modules (Lmod)"
        missing.append(Missing(what, "module spider mpi; set modules"))
    return lines


def _environments(probe: Probe, place: Place) -> list[Line]:
    words = "login: built here; job: in a job on build_target"
    lines = [
        Line(("environments", "store"), place.store, place.source),
        Line(("environments", "build_on"), "login", words),
    ]
    proxy = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY") or ""
    if proxy and "@" not in proxy:
        lines.append(Line(("environments", "proxy"), proxy, "$https_proxy", False))
    return lines


def _containers(probe: Probe) -> list[Line]:
    programs = {"apptainer": "apptainer", "singularity": "singularity", "ch-run": "charliecloud"}
    found = [name for name in programs if name in probe.programs]
    words = f"{' and '.join(found)} on PATH"
    return [Line(("containers", "runtime"), programs[found[0]], words)] if found else []


def _energy(probe: Probe) -> list[Line]:
    kind = probe.config.get("AcctGatherEnergyType")
    sensor = kind.rpartition("/")[2]
    known = get_args(get_type_hints(Site)["node_energy"])
    if sensor == "none" or sensor not in known or not probe.config.has_accounting:
        return []
    return [Line(("node_energy",), sensor, f"{_CONFIG}: AcctGatherEnergyType={kind}")]


def _unanswered(probe: Probe) -> list[Missing]:
    """Return what commands would have said, one line a reason."""
    failed = {
        commands: f"it failed with: {words}. Try it, then hpctf site init --force"
        for words, commands in _by_words(probe.unanswered).items()
    }
    return [Missing(f"what {commands} would have said", how) for commands, how in failed.items()]


def _never_known(probe: Probe, place: Place) -> list[Missing]:
    """Return what no command can say."""
    made: dict[str, str] = {}
    hidden = [word for word in probe.config.private_data if word in ("accounts", "nodes", "usage")]
    if hidden:
        what = f"what PrivateData hides from you: {', '.join(hidden)}"
        made[what] = "let an operator of Slurm run hpctf site init"
    plugins = probe.config.get("JobSubmitPlugins")
    if plugins:
        what = f"what your site's own rules want (JobSubmitPlugins={plugins})"
        made[what] = "your site's documentation; set directives and drop, then hpctf site validate"
    what = "whether nodes reach each other, MPI starts, and all nodes see the runs root"
    made[what] = "hpctf doctor --job"
    if not place.shared:
        how = "hpctf doctor --job; set runs_root and environments.store to a shared file system"
        made[f"whether {place.runs_root} is on every node"] = how
    how = "environments.build_on: job needs it; where not, build on login, or set find_links"
    made["whether compute nodes reach package indexes"] = how
    return [Missing(*one) for one in made.items()]
