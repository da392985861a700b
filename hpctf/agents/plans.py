"""The plan of a run whose ranks are agents."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hpctf.agents.process import WARNING
from hpctf.errors import UsageError
from hpctf.planning.directives import REQUEUE_S

if TYPE_CHECKING:
    from hpctf.planning.planner import Planned
    from hpctf.site.model import Site


def for_agents(
    planned: Planned, site: Site, *, jobs: int, per_job: int, start: str, hint: str
) -> Planned:
    """Return the plan of a run of one process, with agents for ranks.

    Parameters
    ----------
    jobs, per_job
        How many jobs there are, and how many agents in each.
    start
        The script that starts them.
    hint
        What to do where agents cannot.

    Raises
    ------
    UsageError
        They cannot enter the site's containers, or stage data.
    """
    plan = planned.plan
    if plan.staging is not None and plan.staging.inputs:
        raise UsageError(
            "stage: agents run many trials or parts in one job, and stage no data for them.",
            "Use --input in place of --stage.",
        )
    if plan.launch.step_options:
        raise UsageError(
            "Agents cannot run in a container that srun enters (containers.runtime: pyxis).", hint
        )
    options = dict(plan.components[0].directives)
    dropped = set(site.drop)
    options.pop("signal", None)
    if site.warning.signal and "signal" not in dropped:
        options["signal"] = f"B:{WARNING}@{plan.interruption.grace_s + REQUEUE_S}"
    if not {"requeue", "no-requeue"} & options.keys() | ({"requeue"} & dropped):
        options["requeue"] = ""
    component = replace(plan.components[0], directives=tuple(options.items()))
    agents = replace(plan.roles[0], count=jobs * per_job)
    changed = replace(
        plan,
        roles=(agents,),
        components=(component,),
        launch=replace(plan.launch, start=start),
        interruption=replace(plan.interruption, signal=None, max_restarts=0),
        staging=None,  # nor environments, which sites may stage of themselves
    )
    return replace(planned, plan=changed)


def check_arrays(site: Site, hint: str) -> None:
    """Raise `UsageError` if a site has no job arrays, which agents need."""
    if "array" in site.drop:
        raise UsageError(f"Site {site.name!r} has no job arrays, which agents need.", hint)
