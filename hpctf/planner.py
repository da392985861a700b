"""Estimator + site → plan: the one place where what was asked meets what there is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from hpctf import backends
from hpctf.directives import (
    REQUEUE_S,
    directives,
    gpus_per_node,
    job_directives,
    time_limit,
)
from hpctf.errors import UsageError
from hpctf.estimator import TensorFlow
from hpctf.plan import Component, Entry, Interruption, Launch, Plan
from hpctf.resources import NODE_CALL, NODE_START
from hpctf.sbatch import check_directive_value
from hpctf.site.load import find_target
from hpctf.site.model import Site


@dataclass(frozen=True)
class Planned:
    """A plan, and what the person should be told of it."""

    plan: Plan
    notes: tuple[str, ...]


def make_plan(
    estimator: TensorFlow, site: Site, *, run_id: str, experiment: str, run_folder: str
) -> Planned:
    """Return everything that a run of `estimator` on `site` will do.

    Nothing is written and Slurm is not asked.

    Raises
    ------
    UsageError, SiteError
        What the backend, the target or the interpreter does not allow.
    """
    estimator.refuse_what_is_not_built()
    name, target = find_target(site, estimator.compute_target)
    layout = backends.lay_out(estimator, site, name, target)
    pin = site.pin_gpus if estimator.pin_gpus is None else estimator.pin_gpus
    limit = time_limit(estimator, target)
    rules = _interruption(estimator, site, limit)
    components: list[Component] = []
    for group in layout.groups:
        group_name, group_target = find_target(site, group.target or name)
        _check_nodes(group.nodes, group_name, group_target.max_nodes, site)
        gpus = gpus_per_node(estimator, group, group_name, group_target, pin)
        of_job = job_directives(estimator, rules, layout.launcher, leads=not components)
        made = directives(estimator, group, site, group_target, gpus, of_job)
        cpus = dict(made).get("cpus-per-task", "")
        components.append(
            Component(group.nodes, group.tasks, int(cpus) if cpus.isdecimal() else None, gpus, made)
        )
    check_directive_value("job name", run_id)
    launch = _launch(site, layout.launcher, layout.options)
    return Planned(
        Plan(
            run_id=run_id,
            experiment=experiment,
            run_folder=run_folder,
            site=site.name,
            target=name,
            backend=estimator.backend,
            scheduler=site.scheduler,
            roles=tuple(
                replace(
                    role, uses_gpu=role.uses_gpu and components[role.component].gpus_per_node > 0
                )
                for role in layout.roles
            ),
            components=tuple(components),
            launch=launch,
            entry=_entry(estimator, run_folder),
            tf_config=layout.tf_config,
            ports=(site.ports.first, site.ports.last),
            reserved_ports=(site.ports.reserved and layout.tf_config and launch.method == "srun"),
            pin_gpus=pin,
            time_limit_s=limit,
            interruption=rules,
            template_folder=site.templates and os.path.expanduser(site.templates),
            umask=site.umask,
        ),
        layout.notes,
    )


def _interruption(estimator: TensorFlow, site: Site, limit: int | None) -> Interruption:
    """Return how the script is warned: at all only if it is to restart, or was given a grace."""
    asked, restarts = estimator.grace_seconds, estimator.max_restarts or 0
    if asked and limit and asked + REQUEUE_S >= limit:
        raise UsageError(
            f"grace_seconds is {asked}, but the time limit is {limit} s, of which the job needs "
            f"{REQUEUE_S} s for itself: the script would be warned at its start.",
            "Ask for more time (--time), or give less grace (--grace).",
        )
    usual = site.warning.grace_s if limit is None else min(site.warning.grace_s, limit // 3)
    return Interruption(
        signal=site.warning.signal if restarts or asked else None,
        tell=estimator.warning_signal.removeprefix("SIG"),
        grace_s=asked or max(1, usual),
        max_restarts=restarts,
    )


def _check_nodes(nodes: int, name: str, most: int | None, site: Site) -> None:
    if most is not None and nodes > most:
        where = "this machine is one node" if site.scheduler == "local" else f"it has {most}"
        raise UsageError(
            f"node_count is {nodes}, but target {name!r} allows {most}: {where}.",
            "Ask for fewer nodes, or choose another target (--target) or site (--site).",
        )


def _launch(site: Site, launcher: str, options: tuple[str, ...]) -> Launch:
    local = site.scheduler == "local" and launcher == "srun"
    return Launch(
        method="local" if local else launcher,
        hpctf_python=sys.executable,
        start=NODE_START,
        options=options,
        modules=site.modules,
        prologue=site.prologue,
        epilogue=site.epilogue,
    )


def _entry(estimator: TensorFlow, run_folder: str) -> Entry:
    python = _interpreter(estimator.python)
    environment = dict(estimator.environment_variables)
    for name, path in estimator.inputs.items():
        environment[f"HPCTF_INPUT_{name.upper()}"] = path
        environment[f"AZUREML_DATAREFERENCE_{name}"] = path
    if estimator.function is not None:
        _check_same_python(python)
        command: tuple[str, ...] = (python, NODE_CALL, run_folder)
        return Entry("function", command, python, environment)
    script = estimator.entry_script
    assert script is not None
    is_python = script.endswith(".py")
    if not is_python and not os.access(f"{estimator.source_directory}/{script}", os.X_OK):
        raise UsageError(
            f"entry_script {script!r} is neither Python (.py) nor executable.",
            f"chmod +x {script}, if it is a program.",
        )
    if not is_python or script.startswith("-"):  # else it is looked for on PATH, or is an option
        script = os.path.join(".", script)
    program = (python, script) if is_python else (script,)
    return Entry("script", (*program, *estimator.command_line()), python, environment)


def _check_same_python(python: str) -> None:
    """Refuse to send a function to another Python: its bytecode is of this version alone."""
    if python == sys.executable:
        return
    ask = [python, "-I", "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    answer = subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip()
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if answer != own:
        raise UsageError(
            f"The function is of Python {own}, but {python} is Python {answer or 'of no known'}: "
            "functions cannot go from one to the other.",
            f"Put it in a script (entry_script), or use a training environment of Python {own}.",
        )


def _interpreter(python: str | None) -> str:
    """Return the training interpreter's absolute path; a link stays a link, since a virtual
    environment is known by it."""
    if python is None:
        return sys.executable
    found = shutil.which(os.path.expanduser(python))
    if found is None:
        raise UsageError(
            f"python is {python!r}, but there is no such program.",
            "Name the interpreter of an environment, such as ~/my-env/bin/python.",
        )
    return str(Path(found).absolute())
