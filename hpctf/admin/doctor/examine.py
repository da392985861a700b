"""The whole examination: the login node first, then the jobs; what is found is a `Report`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from hpctf.admin.doctor import folder_checks, interpreter, login_checks
from hpctf.admin.doctor.report import Report, Tell, failed, skipped
from hpctf.errors import HpctfError, SiteError, UsageError
from hpctf.site.loading import default_name, default_site_name, find_target, load_site
from hpctf.site.model import Site

LEAST_TIME_S = 120


@dataclass(frozen=True)
class JobOptions:
    """What is asked of the jobs: see ``hpctf doctor --job``."""

    target: str | None = None
    nodes: int = 2
    time_limit_s: int = 600
    wait_s: float = 600.0
    python: str | None = None
    environment: str | None = None
    tensorflow: bool = False


def examine(
    site_name: str | None, settings: Sequence[str], options: JobOptions | None, tell: Tell
) -> Report:
    """Look at a site from the login node and, with options, through jobs; `settings` are keys of
    the site to be tried otherwise, as ``KEY=VALUE``. Raises `UsageError` if there is no such site
    or target, or the options cannot be."""
    site: Site | None = None
    given: str | None = None
    try:
        site = load_site(site_name, settings=settings or None)
    except SiteError as error:
        report = Report(asked_for(site_name))
        report.add(failed("site", error.message, error.hint or "hpctf site validate"))
    else:
        if options is not None:
            check_options(site, options)
            given = interpreter.given_python(site, options.python, options.environment)
        report = Report(site.name, asked_for(site_name), site)
        report.add(login_checks.check_installation(site), login_checks.check_site(site))
    tell("Asking Slurm ...")
    login_checks.check_slurm(report, site)
    if site is None:
        return report
    report.add(*folder_checks.check_places(site), login_checks.check_modules(site))
    if options is not None:
        _examine_by_job(report, site, options, given, tell)
    return report


def asked_for(site_name: str | None) -> str:
    """Return which site is used where no option names one."""
    try:
        return site_name or os.environ.get("HPCTF_SITE") or default_name()
    except HpctfError:  # of the project's hpctf.yaml: it is told as the site's
        return default_site_name()


def check_options(site: Site, options: JobOptions) -> None:
    """Refuse what no job could be made of, before anything is asked."""
    if site.scheduler != "slurm":
        raise UsageError(
            f"Site {site.name!r} has no Slurm, and so no jobs to examine it by.",
            "Leave --job out, or name another site (--site).",
        )
    name, target = find_target(site, options.target)
    if options.nodes < 2:
        raise UsageError(f"--nodes is {options.nodes}, but what is between nodes needs 2 at least.")
    if target.max_nodes is not None and options.nodes > target.max_nodes:
        raise UsageError(
            f"--nodes is {options.nodes}, but target {name!r} allows {target.max_nodes}.",
            "Ask for fewer nodes, or choose another target (--target).",
        )
    if options.time_limit_s < LEAST_TIME_S:
        raise UsageError(
            f"--time is {options.time_limit_s} s, but the job may need {LEAST_TIME_S} s where "
            "something is wrong."
        )


def _examine_by_job(
    report: Report, site: Site, options: JobOptions, given: str | None, tell: Tell
) -> None:
    from hpctf.admin.doctor import job_checks, network_checks
    from hpctf.admin.doctor.jobs import Jobs, Request

    away = report.slurm_away or report.state_of("runs root") == "failed"
    if away or report.state_of("site") == "failed":
        why = "Slurm or the runs root cannot be used" if away else "the site is not valid"
        report.add(skipped("job", why))
        return
    chosen = interpreter.choose(site, given, tell)
    request = Request(
        site=site,
        target=options.target,
        nodes=options.nodes,
        time_limit_s=options.time_limit_s,
        wait_s=options.wait_s,
        python=chosen.python,
        mpi=not chosen.why_no_mpi,
        tensorflow=options.tensorflow,
        ports=network_checks.ports_to_try(site.ports),
    )
    try:
        with Jobs(request, tell) as jobs:
            jobs.submit()
            outcomes = jobs.follow()
    except HpctfError as error:
        report.add(failed("job", error.message, error.hint or ""))
        return
    job_starts = job_checks.judge_job(report, request, outcomes["job"])
    job_checks.judge_hetjob(report, request, outcomes.get("hetjob"), job_starts)
    network_checks.judge_ports(report, request, outcomes.values())
    if not request.mpi:
        report.add(skipped("MPI", chosen.why_no_mpi, chosen.way))
    elif job_starts or outcomes["job"].tried:
        network_checks.judge_mpi(report, request, outcomes["job"])
    else:
        report.add(skipped("MPI", job_checks.NOT_RUN))
