"""Plan → batch script."""

from __future__ import annotations

from hpctf.plan import Plan
from hpctf.site.templates import fill_in


def render(plan: Plan, array: tuple[str, ...] = (), *, keep: bool = True) -> str:
    """Return the batch script of a plan.

    Parameters
    ----------
    array
        The run folders of a job array, one a task; empty for a job of its own.
    keep
        Whether the compiled templates may be kept in the user's cache folder.

    Raises
    ------
    SiteError
        A template that is missing or wrong, with its file and line.
    """
    name = f"{plan.backend}.sbatch.j2"
    return fill_in(name, plan.site, plan.template_folder, keep=keep, plan=plan, array=array)


def render_agents(plan: Plan, jobs: int, first: int = 0, *, keep: bool = True) -> str:
    """Return the batch script of a study's agents, which are an array of so many jobs.

    Parameters
    ----------
    jobs
        0 is the study's driver, which is a job of its own.
    first
        The number of the array's first job among those of the study.
    """
    name, array = "agents.sbatch.j2", range(first, first + jobs)
    return fill_in(name, plan.site, plan.template_folder, keep=keep, plan=plan, array=array)


def render_local(plan: Plan) -> str:
    """Return the shell script that a local run with environment modules begins with."""
    return fill_in("local.sh.j2", plan.site, plan.template_folder, keep=True, plan=plan, array=())
