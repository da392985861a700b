"""Estimator + site → plan: the one place where what was asked meets what there is."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING

from hpctf.common.answers import PRINT, answer_of
from hpctf.common.paths import NODE_CALL, NODE_START
from hpctf.common.trusted_path import check_chosen
from hpctf.environment.activation import Entering, enter
from hpctf.errors import SiteError, UsageError
from hpctf.estimator.parameters import overrides_of
from hpctf.estimator.script_imports import Imports, imports_of_entry
from hpctf.estimator.software import names_packages
from hpctf.estimator.tensorflow import TensorFlow
from hpctf.plan import Component, Entry, Interruption, Launch, Plan
from hpctf.planning import backends
from hpctf.planning.directives import (
    REQUEUE_S,
    directives,
    drop_notes,
    dropped_by,
    gpus_per_node,
    job_directives,
    time_limit,
)
from hpctf.planning.keras import settle_keras
from hpctf.planning.locked_options import refuse_locked_options
from hpctf.planning.missing_modules import check_modules
from hpctf.planning.resources import Resources, notes_without_slurm
from hpctf.planning.staging import staging_of
from hpctf.run_folder import worlds
from hpctf.scheduler.programs import ask, chosen_by_shell, shell_notes
from hpctf.scheduler.sbatch_options import check_directive_value, check_run_folder
from hpctf.site.loading import find_target
from hpctf.site.model import Site
from hpctf.site.trust import template_folder, trusted_by

if TYPE_CHECKING:
    from hpctf.environment.spec import EnvironmentSpec

_Read = Callable[[], Imports | None]
"""Returns what the script imports, once it matters."""

_OWN_VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


@dataclass(frozen=True)
class Planned:
    """A plan, and what the person should be told of it."""

    plan: Plan
    notes: tuple[str, ...]
    spec: EnvironmentSpec | None = None
    """The environment that must be there before it runs."""


def make_plan(
    estimator: TensorFlow,
    site: Site,
    *,
    run_id: str,
    experiment: str,
    run_folder: str,
    spec: EnvironmentSpec | None = None,
) -> Planned:
    """Return everything that a run of `estimator` on `site` will do.

    Nothing is written and Slurm is not asked.

    Parameters
    ----------
    spec
        The environment to run in, in place of what the estimator says of one.

    Raises
    ------
    UsageError, SiteError
        What the backend, the target or the interpreter does not allow.
    UntrustedPath
        Every user of the machine could add code or an ignore file to the source folder.
    """
    name, target = find_target(site, estimator.compute_target)
    if estimator.source_directory is not None:  # all that lies there goes with the run
        check_chosen(estimator.source_directory, "The source folder", trusted_by(site))
    layout = backends.lay_out(estimator, site, name, target)
    pin = site.pin_gpus if estimator.pin_gpus is None else estimator.pin_gpus
    asked = Resources.of(estimator)
    limit = time_limit(asked, target, site)
    used = [group.target or name for group in layout.groups]
    refuse_locked_options(asked, list(overrides_of(estimator)), site, used)
    notes = list(layout.notes)
    of_shell = chosen_by_shell(os.environ) if site.scheduler == "slurm" else {}
    rules = _interruption(estimator, site, limit)
    components: list[Component] = []
    for group in layout.groups:
        group_name, group_target = find_target(site, group.target or name)
        _check_nodes(group.nodes, group_name, group_target.max_nodes, site)
        gpus = gpus_per_node(asked, group, group_name, group_target, pin)
        dropped = dropped_by(site, group_target)
        of_job = job_directives(
            asked, rules, layout.launcher, leads=not components, dropped=dropped
        )
        notes += drop_notes(asked, site, group_name, group_target)
        made = directives(asked, group, site, group_target, gpus, of_job, of_shell)
        cpus = dict(made).get("cpus-per-task", "")
        components.append(
            Component(group.nodes, group.tasks, int(cpus) if cpus.isdecimal() else None, gpus, made)
        )
    if site.scheduler == "slurm":
        notes += shell_notes(os.environ, dict(components[0].directives))
    else:  # where a time limit is kept, too
        notes += notes_without_slurm(replace(asked, time_s=None), "the run")
    _check_clusters(components)
    if site.scheduler == "slurm":
        check_directive_value("job name", run_id)
        check_run_folder(run_folder)
    read = cache(partial(imports_of_entry, estimator))
    spec, why = _spec(estimator, site, read) if spec is None else (spec, ())
    azureml = site.azureml if estimator.azureml is None else estimator.azureml
    sdk = _brings_sdk(spec, read) if azureml else ()
    entering = enter(estimator, site, spec, run_folder)
    keras = settle_keras(estimator, read, entering, spec)
    lacking = check_modules(estimator, site, read, entering, spec)
    alone = _alone(estimator, read, sum(role.count for role in layout.roles))
    launch = _launch(site, layout.launcher, layout.options, entering)
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
            entry=_entry(estimator, run_folder, entering),
            tf_config=layout.tf_config,
            ports=(site.ports.first, site.ports.last),
            reserved_ports=(site.ports.reserved and layout.tf_config and launch.method == "srun"),
            pin_gpus=pin,
            time_limit_s=limit,
            interruption=rules,
            template_folder=template_folder(site),
            umask=site.umask,
            environment=entering.environment,
            interfaces=site.network.interfaces,
            azureml=azureml,
            host_suffix="" if site.scheduler == "local" else site.network.host_suffix,
            system_metrics_s=site.system_metrics_s,
            questions_per_minute=site.questions_per_minute,
            co2_g_per_kwh=site.co2_g_per_kwh,
            node_energy=site.node_energy,
            staging=staging_of(estimator, site, entering),
        ),
        (*dict.fromkeys(notes), *entering.notes, *why, *sdk, *keras, *lacking, *alone),
        spec,
    )


def _alone(estimator: TensorFlow, read: _Read, ranks: int) -> tuple[str, ...]:
    imports = read() if estimator.backend == "mpi" and ranks > 1 else None
    if (
        imports is None
        or not imports.first_import("tensorflow", "keras")
        or imports.first_attempt("horovod", "mpi4py", "hpctf")
        or worlds.tell_ranks_apart(imports.texts())
    ):
        return ()
    return (
        f"the script uses neither Horovod nor mpi4py, and does not look at its rank: each of its "
        f"{ranks} ranks would train a model of its own, and the run would not count as completed. "
        "Train with import hpctf.keras as hvd, or with hpctf.strategy(); or use --backend single.",
    )


def _check_clusters(components: list[Component]) -> None:
    named = {dict(component.directives).get("clusters", "") for component in components}
    if len(named) > 1:
        words = " and ".join(sorted(repr(name) if name else "this one" for name in named))
        raise UsageError(
            f"The components of the job are for different clusters ({words}), but a heterogeneous "
            "job is of one.",
            "Use --ps-placement shared, or a ps target (ps: {target: ...}) of the same cluster.",
        )
    if "all" in named:
        raise UsageError(
            "clusters is 'all', which does not tell where the job may be.",
            "Name the clusters: --sbatch clusters=one,another.",
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


def _spec(
    estimator: TensorFlow, site: Site, read: _Read
) -> tuple[EnvironmentSpec | None, tuple[str, ...]]:
    """Return the environment to build, if one is, and why where nobody has requested it."""
    missing: list[str] = []
    if not names_packages(estimator):
        from hpctf.environment.libraries import missing_from

        missing = missing_from(estimator, read)
        if not missing:
            return None, ()
    from hpctf.environment.resolve import spec_of

    spec = spec_of(estimator, site, missing)
    note = (
        f"hpctf's own Python has no {' and no '.join(missing)}, which {estimator.entry_script} "
        f"imports: the run gets environment {spec.key if spec else ''}. Name another one with "
        "--python, or its packages with --pip."
    )
    return spec, (note,) if missing else ()


def _brings_sdk(spec: EnvironmentSpec | None, read: _Read) -> tuple[str, ...]:
    named = [line for line in spec.pip if line.lower().startswith("azureml")] if spec else []
    imports = read() if named else None
    if imports is None or "azureml" not in imports.top_level:
        return ()
    return (
        f"{', '.join(named)} may bring Azure ML's own azureml.core, with which what the script "
        "logs is printed, not kept: leave out Azure ML's packages; hpctf's azureml.core stands in.",
    )


def _launch(site: Site, launcher: str, options: tuple[str, ...], entering: Entering) -> Launch:
    local = site.scheduler == "local" and launcher == "srun"
    if entering.step_options and launcher != "srun":
        raise SiteError(
            f"Site {site.name!r} starts MPI ranks by {launcher}, but its containers.runtime is "
            "'pyxis', which is srun's.",
            "Set mpi: {launcher: srun} in the site file, or containers: {runtime: apptainer}.",
        )
    return Launch(
        method="local" if local else launcher,
        hpctf_python=sys.executable,
        start=NODE_START,
        options=options,
        modules=entering.modules,
        prologue=site.prologue,
        epilogue=site.epilogue,
        step_options=entering.step_options,
        rank_python=entering.rank_python,
        command=site.mpi.command,
    )


def _entry(estimator: TensorFlow, run_folder: str, entering: Entering) -> Entry:
    python = entering.python
    environment = dict(estimator.environment_variables)
    for name, path in estimator.inputs.items():
        environment[f"HPCTF_INPUT_{name.upper()}"] = path
        environment[f"AZUREML_DATAREFERENCE_{name}"] = path
    if estimator.timeline:
        environment.setdefault("HOROVOD_TIMELINE", f"{run_folder}/outputs/horovod-timeline.json")
    if estimator.profile:
        environment["HPCTF_PROFILE"] = "{}-{}".format(*estimator.profile)
    if estimator.function is not None:
        if os.path.isabs(python) and os.path.exists(python) and not entering.inside:
            _check_same_python(python)
        command: tuple[str, ...] = (python, NODE_CALL, run_folder, _OWN_VERSION)
        return Entry("function", command, python, environment, entering.container)
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
    words = (*program, *estimator.command_line())
    return Entry("script", words, python, environment, entering.container)


def _check_same_python(python: str) -> None:
    """Refuse to send a function to another Python: its bytecode is of this version alone. One that
    is not there yet, or in a container, is asked on the node (hpctf/node/function_call.py)."""
    if python == sys.executable:
        return
    code = f"import json, sys; answer = '%d.%d' % sys.version_info[:2]; {PRINT}"
    done = ask([python, "-I", "-S", "-c", code], kind="python")
    answer = ""
    with contextlib.suppress(ValueError):
        answer = answer_of(done.stdout)
    if answer != _OWN_VERSION:
        raise UsageError(
            f"Cannot run this function with {python}: it is pickled by Python {_OWN_VERSION}, and "
            f"{f'that is Python {answer}' if answer else 'that one did not report its version'}.",
            "Put it in a script (entry_script), or use a training environment of Python "
            f"{_OWN_VERSION}.",
        )
