"""The plan of a job that is no run: one task of hpctf's own, without ranks."""

from __future__ import annotations

import os

from hpctf.plan import Component, Entry, Launch, Plan
from hpctf.planning.backends.layout import Group
from hpctf.planning.directives import directives, gpus_per_node
from hpctf.planning.resources import Resources
from hpctf.scheduler.programs import chosen_by_shell
from hpctf.site.model import Site, Target
from hpctf.site.trust import template_folder


def task_plan(
    job_name: str,
    folder: str,
    site: Site,
    target: tuple[str, Target],
    asked: Resources,
    *,
    kind: str,
    python: str,
    start: str,
    umask: str,
    options: dict[str, str] | None = None,
) -> Plan:
    """Return the plan of a job.

    Parameters
    ----------
    folder
        What the task works on, and where its log lies.
    target
        The target's name, and the target.
    kind
        What stands where a run has its backend: the template's name follows from it.
    python, start
        The interpreter, and the script that it runs.
    options
        Directives of this job alone.
    """
    name, found = target
    chosen = chosen_by_shell(os.environ)
    group = Group(1, 1, gpu_tasks=1)
    gpus = gpus_per_node(asked, group, name, found, pin=False)
    made = directives(asked, group, site, found, gpus, options or {}, chosen)
    return Plan(
        run_id=job_name,
        experiment="",
        run_folder=folder,
        site=site.name,
        target=name,
        backend=kind,
        scheduler=site.scheduler,
        roles=(),
        components=(Component(1, 1, directives=made),),
        launch=Launch("srun", python, start, prologue=site.prologue),
        entry=Entry("script", (), ""),
        umask=umask,
        template_folder=template_folder(site),
    )
