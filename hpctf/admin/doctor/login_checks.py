"""What can be told on the login node: hpctf itself, Slurm, the site's file and its targets."""

from __future__ import annotations

import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from hpctf._version import __version__
from hpctf.admin.doctor import folder_checks
from hpctf.admin.doctor.report import Check, Report, failed, ok, skipped
from hpctf.admin.survey.inventory import Partition
from hpctf.admin.survey.probe import Probe, probe
from hpctf.common.paths import PACKAGE
from hpctf.common.units import seconds_of
from hpctf.environment.toolchain import environment_with
from hpctf.errors import HpctfError, SchedulerError, SiteError, did_you_mean
from hpctf.estimator.tensorflow import TensorFlow
from hpctf.planning.planner import make_plan
from hpctf.scheduler import commands
from hpctf.site.model import Site, Target
from hpctf.submission.script import render

CLOCK_S = 5.0
_ANSWER_S = 25.0
_CONFIG, _SINFO = "scontrol show config", "sinfo"
_AS_OF = re.compile(r"Configuration data as of (\S+)")


def check_installation(site: Site) -> Check:
    """Say which hpctf this is, and whether nodes are likely to find its Python."""
    name, python = "hpctf", Path(sys.executable)
    words = f"{__version__}, Python {sys.version.split()[0]}, {python}"
    for path in (python, Path(PACKAGE)) if site.scheduler == "slurm" else ():
        found = folder_checks.shared(name, path)
        if found.state == "failed":
            remedy = "Install hpctf into an environment on a file system that login and compute "
            return failed(name, found.detail, f"{remedy}nodes share.")
    return ok(name, words)


def check_site(site: Site) -> Check:
    """Render the script of one backend for every target; ``hpctf site validate`` does the rest."""
    name, folder = "site", f"{PACKAGE}/admin/doctor/on_nodes"
    for target in site.targets:
        estimator = TensorFlow(folder, entry_script="rank_probe.py", compute_target=target)
        try:
            planned = make_plan(
                estimator, site, run_id="doctor", experiment="doctor", run_folder="/doctor"
            )
            if site.scheduler == "slurm":
                render(planned.plan, keep=False)
        except HpctfError as error:
            remedy = error.hint or "hpctf site validate"
            return failed(name, f"target {target}: {error.message}", remedy)
    return ok(name, f"{site.name} is valid, and its script renders for {', '.join(site.targets)}")


def check_modules(site: Site) -> Check:
    """Load the site's modules as the batch script does: in a shell that is no login shell."""
    name = "modules"
    if not site.modules:
        return skipped(name, "the site names none")
    try:
        environment_with(site.modules, timeout=_ANSWER_S)
    except SiteError as error:
        return failed(name, error.message, "modules: in the site file; see 'module avail'.")
    return ok(name, f"module load {' '.join(site.modules)} works here")


def check_slurm(report: Report, site: Site | None) -> None:
    """Ask Slurm, and say what it is and what of the site it has."""
    if site is not None and site.scheduler != "slurm":
        report.add(skipped("Slurm", f"site {site.name} runs on this machine alone"))
        return
    try:
        asked = probe()
    except SchedulerError as error:
        report.slurm_away = True
        report.add(failed("Slurm", error.message, error.hint or ""))
        return
    if _CONFIG in asked.unanswered and _SINFO in asked.unanswered:
        report.slurm_away = True
        report.add(failed("Slurm", asked.unanswered[_CONFIG], _remedy(asked.unanswered[_CONFIG])))
        return
    config = asked.config
    report.add(ok("Slurm", f"{config.version}, cluster {config.cluster}"))
    report.add(_accounting(asked), _clock())
    if site is not None:
        for name, target in site.targets.items():
            check, better = check_target(name, target, asked)
            report.add(check)
            report.proposals |= {f"targets.{name}.{key}": value for key, value in better.items()}
        report.add(_account_and_qos(site, asked), check_launcher(site, asked))


def _remedy(words: str) -> str:
    """Return what to do about Slurm's own words."""
    lower = words.lower()
    if "munge" in lower or "credential" in lower or "authentication" in lower:
        return (
            "munge does not let this host in: its clock, its key (/etc/munge/munge.key) or munged "
            "itself differ from the controller's. Ask the admin."
        )
    if "configuration" in lower and ("find" in lower or "source" in lower):
        return "Slurm's commands find no slurm.conf: set SLURM_CONF, or ask the admin."
    return "slurmctld does not answer: 'scontrol ping' shows its host. Ask the admin, or wait."


def _accounting(asked: Probe) -> Check:
    name = "accounting"
    if not asked.config.has_accounting:
        return skipped(name, "this Slurm keeps none: who cancelled a run is unknown")
    if asked.accounting:
        return ok(name, "sacct answers")
    host = asked.config.get("AccountingStorageHost") or "its host"
    remedy = (
        f"Ask the admin to start slurmdbd on {host}. Meanwhile runs continue, but limits of "
        "accounts and who cancelled a run are unknown."
    )
    why = asked.unanswered.get("sacct", "sacct is not there")
    return failed(name, f"slurmdbd cannot be asked: {why}", remedy)


def _clock() -> Check:
    """Compare this clock with slurmctld's, which writes its own time before its configuration."""
    name = "login clock"
    before = time.time()
    try:
        text = commands.run(["scontrol", "show", "config"], _ANSWER_S)
    except SchedulerError as error:
        return skipped(name, error.message)
    after = time.time()
    found = _AS_OF.search(text)
    try:
        theirs = time.mktime(time.strptime(found[1] if found else "", "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return skipped(name, "slurmctld does not tell its time")
    return judge_clock(before, after, theirs)


def judge_clock(before: float, after: float, theirs: float) -> Check:
    """Return whether a time told in whole seconds lies between two of this host's."""
    name = "login clock"
    ahead = max(before - (theirs + 1), theirs - after, 0.0)
    if ahead > CLOCK_S:
        side = "ahead of" if before > theirs else "behind"
        remedy = (
            "Let the admin set both by NTP (chronyc tracking): Slurm refuses credentials that are "
            "minutes off, and ages of files mislead."
        )
        return failed(name, f"this host's clock is {ahead:.0f} s {side} slurmctld's", remedy)
    return ok(name, "agrees with slurmctld's to within a second or two")


def check_target(name: str, target: Target, asked: Probe) -> tuple[Check, dict[str, Any]]:
    """Return whether a target's partition is there and gives what it says; and what it gives."""
    label = f"target {name}"
    if target.clusters:
        return skipped(label, f"it is on cluster {target.clusters}, which was not asked"), {}
    partition = _partition(target, asked)
    if isinstance(partition, Check):
        return Check(label, partition.state, partition.detail, partition.remedy), {}
    against = asked.may_use(partition)
    words = f"partition {partition.name}"
    if against:
        remedy = f"targets.{name}.partition: {_others(asked)}; or ask the admin."
        return failed(label, f"{words}: {against}", remedy), {}
    kinds = asked.nodes_of(partition.name)
    usable, total = sum(kind.count for kind in kinds if kind.usable), partition.total_nodes
    counts = f"{words} is up, {usable} of its {total} nodes can run jobs"
    if not usable:
        states = ", ".join(sorted({f"{kind.count} {kind.state}" for kind in kinds})) or "none"
        detail = f"{words} has no usable node: {states}"
        return failed(label, detail, "Ask the admin; 'sinfo -R' says why."), {}
    gpus = max((kind.gpus for kind in kinds), default=0)
    wrong = _too_much(target, partition, gpus)
    if wrong is not None:
        key, value, why = wrong
        detail = f"{key} is {getattr(target, key)}, but {words} {why}"
        return failed(label, detail, f"targets.{name}.{key}: {value}"), {key: value}
    if target.gpus is None and gpus and all(kind.gpus == gpus for kind in kinds):
        note = f"{counts}; it has {gpus} GPUs per node, which the site does not say"
        return ok(label, note), {"gpus": gpus}
    return ok(label, counts), {}


def _partition(target: Target, asked: Probe) -> Partition | Check:
    known = {one.name: one for one in asked.partitions}
    named = target.partition or str(target.directives.get("partition", ""))
    remedy = f"partition: {_others(asked)}"
    if not named:
        why = "it names no partition, and Slurm has no default"
        return asked.default_partition or failed("", why, remedy)
    for name in named.split(","):
        if name in known:
            return known[name]
    near = did_you_mean(named, list(known))
    return failed("", f"there is no partition {named}.{near}", remedy)


def _others(asked: Probe) -> str:
    """Return the partitions that this person may use."""
    usable = [one.name for one in asked.partitions if not asked.may_use(one)]
    return " or ".join(usable) or "none is open to you"


def _too_much(target: Target, partition: Partition, gpus: int) -> tuple[str, Any, str] | None:
    """Return (key, what it can be, why) of what the target promises and the partition lacks."""
    most = min(partition.max_nodes or partition.total_nodes, partition.total_nodes)
    if target.max_nodes is not None and target.max_nodes > most:
        return "max_nodes", most, f"gives {most}"
    if target.gpus is not None and target.gpus > gpus:
        return "gpus", gpus, f"has no node with more than {gpus}"
    limit, longest = target.time_limit, partition.max_time
    if limit and longest and seconds_of(limit) > seconds_of(longest):
        return "time_limit", longest, f"allows {longest}"
    return None


def check_launcher(site: Site, asked: Probe) -> Check:
    """Say whether what starts MPI ranks is there; that it works, only a job can tell."""
    name, settings = "MPI launcher", site.mpi
    if settings.launcher == "mpirun":
        found = shutil.which(settings.command)
        if found or site.modules:
            return ok(name, f"{settings.command}: {found or 'of a module, most likely'}")
        why = f"there is no {settings.command} on this machine: only a job can tell"
        return skipped(name, why, "--job")
    if not settings.plugin:
        return ok(name, f"srun, with its own default: {asked.config.mpi_default or 'none'}")
    if not asked.mpi_plugins:
        return skipped(name, "srun does not tell which plugins it has")
    have = ", ".join(asked.mpi_plugins)
    if settings.plugin in (*asked.mpi_plugins, "none"):
        return ok(name, f"srun --mpi={settings.plugin}; it has {have}")
    likely = [one for one in asked.mpi.speaks if one in asked.mpi_plugins] or asked.mpi_plugins
    detail = f"srun has no plugin {settings.plugin}; it has {have}"
    return failed(name, detail, f"mpi.plugin: {likely[0]}")


def _account_and_qos(site: Site, asked: Probe) -> Check:
    """Say whether the accounts and QOS of the targets are this person's."""
    name = "account and QOS"
    wanted = [
        (target, one.account, one.qos)
        for target, one in site.targets.items()
        if (one.account or one.qos) and not one.clusters
    ]
    if not wanted:
        return skipped(name, "no target names one")
    mine = asked.associations_here
    if not mine:
        return skipped(name, f"sacctmgr tells nothing of user {asked.user}")
    for target, account, qos in wanted:
        if account and account not in asked.accounts:
            why = f"target {target} has account {account}, which is none of {asked.user}'s"
            return failed(name, why, f"targets.{target}.account: {' or '.join(asked.accounts)}")
        allowed = {one for row in mine if account in (None, row.account) for one in row.qos}
        if qos and allowed and qos not in allowed:
            why = f"target {target} has QOS {qos}, which {asked.user} may not use"
            return failed(name, why, f"targets.{target}.qos: {' or '.join(sorted(allowed))}")
    return ok(name, f"those of {', '.join(target for target, *_ in wanted)} are {asked.user}'s")
