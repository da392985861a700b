"""Making a run's environment before the run: here, or in a job that the run waits for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.common.files import write_json
from hpctf.errors import BuildError
from hpctf.submission.dependencies import waiting_for

if TYPE_CHECKING:
    from hpctf.environment.spec import EnvironmentSpec
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.plan import Plan
    from hpctf.planning.planner import Planned
    from hpctf.run_folder.layout import RunFolder
    from hpctf.site.model import Site


@dataclass(frozen=True)
class Prepared:
    """Plans, in the estimators' order, whose environment is there or whose jobs wait for its build.

    ``spec`` is the environment, if hpctf builds it, ``build`` what the runs' records keep of the
    job that does.
    """

    plans: list[Plan]
    site: Site
    spec: EnvironmentSpec | None = None
    build: dict[str, Any] | None = None

    def keep(self, folder: RunFolder) -> None:
        """Keep with a run what its environment is made of, and the log of its build.

        The exact versions are known once it is built; else the job copies them when it begins.
        """
        if self.spec is None:
            return
        from hpctf.environment.store import Store

        write_json(folder.path / "environment.json", self.spec.public())
        if self.build is None:
            Store(self.site).write_lock(self.spec.key, folder.path)
        elif self.build["folder"]:
            folder.build_log.symlink_to(Path(self.build["folder"]) / "build.log")


def will_build(planned: Planned, site: Site) -> list[str]:
    """Return what is to be told of an environment that is not there yet."""
    if planned.spec is None or _is_ready(planned.spec, site):
        return []
    where = "in a job before the run" if _in_a_job(site) else "here, before the run is submitted"
    return [f"Environment {planned.spec.key} does not exist yet: hpctf builds it {where}."]


@contextlib.contextmanager
def prepared(
    planned: Sequence[Planned],
    estimators: Sequence[TensorFlow],
    site: Site,
    tell: Callable[[str], None],
) -> Iterator[Prepared]:
    """Have the environment of runs there, or a job that builds it, while they are submitted.

    A job that was submitted for them alone is cancelled if they are not.

    Raises
    ------
    BuildError, SiteError
        The environment cannot be built here.
    SchedulerError
        Slurm refused the job that builds it.
    """
    plans = [one.plan for one in planned]
    spec = planned[0].spec
    if len(plans) > 1:
        from hpctf.submission.submit import render_for

        render_for(plans)  # refuses those that cannot be one array, before anything is built
    if spec is None:
        yield Prepared(plans, site)
    elif _is_ready(spec, site):
        _make_image(plans[0], spec, site, tell)
        yield Prepared(plans, site, spec)
    elif not _in_a_job(site):
        from hpctf.environment.build import ensure
        from hpctf.environment.progress import telling

        with telling() as progress:
            ensure(spec, site, progress)
        _make_image(plans[0], spec, site, tell)
        yield Prepared(plans, site, spec)
    else:
        from hpctf.planning.resources import Resources
        from hpctf.submission import environment_job

        if plans[0].staging is not None:
            kind: Any = plans[0].staging.environment_kind or "off"
            site = replace(site, environments=replace(site.environments, stage=kind))
        with environment_job.one_at_a_time(spec, site):
            job = environment_job.find_or_submit(spec, site, Resources.of(estimators[0]))
            tell(f"job {job.job_id} builds environment {spec.key}; the run waits for it")
            record = asdict(job)
            try:
                yield Prepared([_after(plan, job.job_id) for plan in plans], site, spec, record)
            except BaseException:
                environment_job.release(record, held=True)
                raise


def _make_image(plan: Plan, spec: EnvironmentSpec, site: Site, tell: Callable[[str], None]) -> None:
    """Make the file that nodes get the environment from, unless it is there. A run without it is
    slower to start, and no less right."""
    if plan.staging is None or not plan.staging.environment_kind:
        return
    from hpctf.environment.image import ensure_image
    from hpctf.environment.progress import telling
    from hpctf.environment.store import Store

    store = Store(site)
    environment = store.environment(spec.key)
    try:
        with telling() as progress:
            if environment is not None:  # else somebody has removed it
                ensure_image(environment, plan.staging.environment_kind, store.umask, progress)
    except BuildError as error:
        tell(f"{error.message} The nodes run the shared environment. {error.hint or ''}".rstrip())


def _after(plan: Plan, job_id: str) -> Plan:
    """Return a plan whose job begins once another one has succeeded, and goes if it has not."""
    return waiting_for(
        plan,
        [f"afterok:{job_id}"],
        "the job that builds the environment",
        "Build it first: hpctf env build; or wait for all of them, with commas.",
    )


def _is_ready(spec: EnvironmentSpec, site: Site) -> bool:
    from hpctf.environment.store import Store

    return Store(site).is_ready(spec)


def _in_a_job(site: Site) -> bool:
    return site.scheduler == "slurm" and site.environments.build_on == "job"
