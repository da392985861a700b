"""Building a training environment in a job of its own, which the trainings wait for.

The job's name is made of the environment's and of its store's: whoever submits meanwhile finds it
by that and waits for the same job. Nothing is kept but what Slurm knows, so a submission that is
cut short leaves a build that ends by itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.common.files import PRIVATE_FILE, make_folder, write_json
from hpctf.common.locks import locked
from hpctf.common.paths import ENVIRONMENT_JOB
from hpctf.common.units import seconds_of
from hpctf.environment.build_job import BUILD
from hpctf.environment.store import LOGS, Store
from hpctf.errors import SchedulerError
from hpctf.plan import Plan
from hpctf.planning.resources import Resources
from hpctf.scheduler.jobs import Identity
from hpctf.scheduler.programs import chosen_by_shell
from hpctf.scheduler.slurm import Slurm
from hpctf.site.loading import find_target
from hpctf.submission.sbatch import NoAnswer, sbatch, uninterrupted, write_script
from hpctf.submission.script import render
from hpctf.submission.task_plan import task_plan

if TYPE_CHECKING:
    from hpctf.environment.spec import EnvironmentSpec
    from hpctf.site.model import Site

_OF_THE_PERSON = ("account", "qos", "partition", "reservation", "constraint", "clusters")
"""What the build requests, too, where a person requests it for the training: without their
account it would not start."""


@dataclass(frozen=True)
class BuildJob:
    """A job that builds an environment, whose name no other build has.

    ``folder`` has its log; it is empty if it is somebody else's job, and the folder is not known.
    """

    job_id: str
    cluster: str | None
    name: str
    folder: str


def build_plan(spec: EnvironmentSpec, site: Site, asked: Resources, folder: str) -> Plan:
    """Return the plan of the job that builds an environment for a training: one task, no ranks.

    `folder` says what to build, and gets the log.
    """
    settings = site.environments
    name, target = find_target(site, settings.build_target or asked.target)
    given = ("account",) if settings.build_target is not None else _OF_THE_PERSON
    task = Resources(
        time_s=seconds_of(settings.build_time),
        sbatch={key: value for key, value in asked.sbatch.items() if key in given},
    )
    return task_plan(
        job_name(spec, site),
        folder,
        site,
        (name, target),
        task,
        kind="environment",
        python=sys.executable,
        start=ENVIRONMENT_JOB,
        umask=site.umask,
    )


def job_name(spec: EnvironmentSpec, site: Site) -> str:
    """Return the name that the job of an environment has in Slurm."""
    store = hashlib.sha256(str(Store(site).root).encode()).hexdigest()[:6]
    return f"hpctf-env-{spec.key}-{store}"


def find_or_submit(spec: EnvironmentSpec, site: Site, asked: Resources) -> BuildJob:
    """Return the job that builds an environment: one that waits or runs already, or a new one.

    Raises
    ------
    SubmissionError, SchedulerError
        Slurm refused, or could not be asked.
    SiteError
        The store cannot be written.
    """
    name = job_name(spec, site)
    logs = _logs(site)
    _, target = find_target(site, site.environments.build_target or asked.target)
    cluster = target.clusters or chosen_by_shell(os.environ).get("clusters")
    known = Slurm(cluster).active(name)
    if known is not None:
        return BuildJob(known, cluster, name, _folder_of(logs, name, known))
    umask = int(site.umask, 8)
    folder = logs / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}"
    make_folder(folder, umask)
    # The passwords of indexes are among them.
    write_json(folder / BUILD, {"spec": spec.as_json(), "site": asdict(site)}, PRIVATE_FILE)
    script = folder / "job.sbatch"
    write_script(script, render(build_plan(spec, site, asked, str(folder))))
    with uninterrupted():
        identity = Identity(os.geteuid(), None, frozenset({name}), str(script))
        command = ["sbatch", "--parsable", str(script)]
        try:
            job_id, cluster = sbatch(command, umask, identity, cluster, folder)
        except NoAnswer as error:
            raise NoAnswer(error.message, "Submit again: a job that has come is used.") from None
        (logs / f"{name}.{job_id}").symlink_to(folder.name)
    return BuildJob(job_id, cluster, name, str(folder))


def release(job: dict[str, Any], *, held: bool = False) -> None:
    """Cancel a build's job, as a run's record names it, unless another job waits for it.

    Somebody else's job, and one that Slurm cannot be asked about, goes on: it does no harm. `held`
    tells that the caller is in `one_at_a_time` already.
    """
    folder = Path(job["folder"]).parent if job["folder"] else Path(os.devnull)
    lock = contextlib.nullcontext() if held else locked(folder / f"{job['name']}.lock")
    with lock, contextlib.suppress(SchedulerError):
        slurm = Slurm(job["cluster"])
        if slurm.active(job["name"]) == job["job_id"] and not slurm.waits_for(job["job_id"]):
            slurm.cancel(job["job_id"])


@contextlib.contextmanager
def one_at_a_time(spec: EnvironmentSpec, site: Site) -> Iterator[None]:
    """Let submissions of one environment wait for each other, so that they share one job."""
    with locked(_logs(site) / f"{job_name(spec, site)}.lock"):
        yield


def _logs(site: Site) -> Path:
    return Store(site).make(LOGS)


def _folder_of(logs: Path, name: str, job_id: str) -> str:
    try:
        named = os.readlink(logs / f"{name}.{job_id}")
    except OSError:
        return ""
    return str(logs / named) if named.startswith(f"{name}-") and os.sep not in named else ""
