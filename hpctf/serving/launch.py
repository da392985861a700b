"""Starting a server of a service: as a Slurm job, or as a process of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from hpctf.common.files import read_json, write_json
from hpctf.common.paths import SERVICE_START, SERVICE_SUCCESSOR
from hpctf.common.processes import start_time
from hpctf.errors import UsageError
from hpctf.models.version import Version
from hpctf.plan import Plan
from hpctf.planning.directives import dropped_by, time_limit
from hpctf.scheduler.jobs import Identity
from hpctf.scheduler.programs import environment_of
from hpctf.serving.instance import LOG, MODELS, Orders
from hpctf.serving.record import Definition, ServiceFolder, write_definition
from hpctf.site.loading import find_target
from hpctf.site.trust import trusted_by
from hpctf.submission.sbatch import sbatch, uninterrupted, write_script
from hpctf.submission.script import render
from hpctf.submission.task_plan import task_plan

JOB = "job.json"

_LAST_S = 30
"""Seconds before its time limit at which Slurm asks a server to end."""


@dataclass(frozen=True)
class Job:
    """The process or the job that a server is."""

    host: str | None = None
    pid: int | None = None
    start_time: str | None = None
    job_id: str | None = None
    cluster: str | None = None
    name: str = ""
    submitted: float = 0.0


def read_job(server: Path) -> Job | None:
    """Return the process or job of a server; None if it was not started."""
    try:
        found = read_json(server / JOB)
        return Job(**{key: found[key] for key in Job.__dataclass_fields__})
    except (OSError, ValueError, LookupError, TypeError):
        return None


def start_server(service: ServiceFolder, server: Path, definition: Definition) -> None:
    """Start a server of a service in a new folder. It takes over once it is ready.

    Raises
    ------
    UsageError, SiteError
        What it needs is not there.
    SubmissionError, SchedulerError
        Slurm refused, or could not be asked.
    """
    write_definition(server, definition)
    _link_models(server, definition)
    _orders(service, server, definition).write()
    job = _run(server, definition) if definition.is_local else _submit(server, definition)
    write_json(server / JOB, asdict(job))


def _link_models(server: Path, definition: Definition) -> None:
    """Lay the models out as Azure ML does for entry scripts: ``azureml-models/NAME/VERSION``."""
    for folder in definition.models.values():
        version = Version(Path(folder))
        place = server / MODELS / version.name
        place.mkdir(parents=True, exist_ok=True)
        (place / str(version.number)).symlink_to(version.path / "files")


def _orders(service: ServiceFolder, server: Path, definition: Definition) -> Orders:
    site = definition.of_site
    trusted = trusted_by(site)
    limit = _limit(definition)
    return Orders(
        service=service.name,
        folder=str(server),
        models=tuple(definition.models.values()),
        tokens=str(service.tokens),
        trusted_users=tuple(trusted.users),
        trusted_groups=tuple(trusted.groups),
        entry=_entry(server, definition),
        is_local=definition.is_local,
        interfaces=site.network.interfaces,
        host_suffix=site.network.host_suffix,
        ports=definition.ports,
        limits=definition.limits,
        time_limit_s=limit,
        successor=_successor(service) if definition.stays_up else (),
        drain_s=definition.drain_s,
        use_gpu=definition.asked.use_gpu,
    )


def _entry(server: Path, definition: Definition) -> dict[str, str | float] | None:
    if definition.entry is None:
        return None
    root = server / MODELS
    paths = [Version(Path(folder)) for folder in definition.models.values()]
    only = root / paths[0].name / str(paths[0].number) if len(paths) == 1 else root
    return {
        "python": definition.entry.python,
        "script": definition.entry.script,
        "folder": definition.entry.folder,
        "timeout_s": definition.entry.timeout_s,
        "models": str(only),
    }


def _limit(definition: Definition) -> int | None:
    if definition.is_local:
        return None
    site = definition.of_site
    _, target = find_target(site, definition.asked.target)
    return time_limit(definition.asked, target, site)


def check_can_stay_up(definition: Definition) -> None:
    """Refuse a service that is to stay up, and whose servers cannot follow each other.

    Raises
    ------
    UsageError
        It has no time limit or no job, or one port alone.
    """
    if not definition.stays_up:
        return
    if _limit(definition) is None:
        raise UsageError(
            "--stay-up submits the next job before the time limit, but the service has none.",
            "Pass --time, or leave --stay-up out.",
        )
    first, last = definition.ports
    if first == last:
        raise UsageError(
            f"--stay-up cannot keep port {first}: the next job starts while this one still "
            "answers there, and Slurm may run both on one node.",
            "Leave --port out: each job takes a free port of the site's range, and clients find "
            "it in the service's folder.",
        )


def _successor(service: ServiceFolder) -> tuple[str, ...]:
    return (sys.executable, SERVICE_SUCCESSOR, str(service.path))


def _run(server: Path, definition: Definition) -> Job:
    with (server / LOG).open("ab") as log:
        process = subprocess.Popen(
            [definition.python, "-I", SERVICE_START, str(server)],
            env=environment_of("local"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=server,
            umask=0o077,
        )
    began = start_time(process.pid)
    return Job(os.uname().nodename, process.pid, began, submitted=time.time())


def _submit(server: Path, definition: Definition) -> Job:
    plan = job_plan(server, definition)
    script = server / "job.sbatch"
    write_script(script, render(plan))
    identity = Identity(os.geteuid(), None, frozenset({plan.run_id}), str(script))
    with uninterrupted():
        command = ["sbatch", "--parsable", str(script)]
        asked = time.time()
        job_id, cluster = sbatch(command, 0o077, identity, plan.clusters or None, server)
    return Job(job_id=job_id, cluster=cluster, name=plan.run_id, submitted=asked)


def job_plan(server: Path, definition: Definition) -> Plan:
    """Return the plan of a server's job: one task, no ranks."""
    site, asked = definition.of_site, definition.asked
    name, target = find_target(site, asked.target)
    of_job = {} if "signal" in dropped_by(site, target) else {"signal": f"B:TERM@{_LAST_S}"}
    return task_plan(
        f"hpctf-service-{definition.name}",
        str(server),
        site,
        (name, target),
        asked,
        kind="service",
        python=definition.python,
        start=SERVICE_START,
        umask="0077",
        options=of_job,
    )
