"""The table of the estimator's parameters: to add one, add an entry here.

Source of the names: Azure ML SDK v1, ``azureml.train.dnn.TensorFlow``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY
from functools import partial
from pathlib import Path
from typing import Any

from hpctf.common.units import seconds_of
from hpctf.estimator import software, validators, words
from hpctf.estimator.distribution import BACKENDS, SETTINGS, Distribution
from hpctf.estimator.earlier_runs import check_after
from hpctf.estimator.parameter import (
    DISTRIBUTION,
    ENVIRONMENT,
    FAULT_TOLERANCE,
    GROUPS,
    OUTPUT,
    RESOURCES,
    SLURM,
    TRAINING,
    Described,
    Option,
    Parameter,
    described,
    older_name_of,
)
from hpctf.estimator.validators import check_choice, check_count, check_flag, check_name, optional

_Count = Parameter[int | None, int | None]
_Flag = Parameter[bool, bool]
_Choice = Parameter[bool | None, bool | None]
_Text = Parameter[str | None, str | None]
_Path = Parameter[str | os.PathLike[str] | None, str | None]
_Texts = Parameter[Sequence[str] | None, list[str]]
_Function = Parameter[Callable[..., Any] | None, Callable[..., Any] | None]
_Words = Sequence[object] | Mapping[str, object] | None
_SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")


def _count(
    group: str,
    doc: str,
    flag: str,
    overrides: str = "",
    *,
    metavar: str = "N",
    least: int = 1,
    short: str = "",
) -> _Count:
    """Return the parameter of a whole number, of `least` or more."""
    check, option = partial(check_count, least=least), Option(flag, int, metavar, short=short)
    return Parameter(group, doc, check, option, overrides=overrides)


@described
class Parameters(Described):
    """What a person can ask for, in the order of the checks and of ``--help``."""

    not_here = software.NOT_HERE

    source_directory: Parameter[str | os.PathLike[str] | None, Path | None] = Parameter(
        TRAINING,
        "Folder whose content is copied into the run; by default the current one.",
        validators.check_source_directory,
        needs=("function",),
        recorded=False,
    )
    _: KW_ONLY
    entry_script: _Text = Parameter(
        TRAINING,
        "The script to run, relative to `source_directory`.",
        validators.check_entry_script,
        needs=("source_directory", "function"),
    )
    script_params: Parameter[Mapping[str, object] | None, dict[str, str]] = Parameter(
        TRAINING,
        'Arguments of the script by name; ``{"--flag": ""}`` is a bare flag.',
        validators.check_script_params,
        Option("script_params", dict),
    )
    arguments: Parameter[_Words, list[str] | dict[str, object]] = Parameter(
        TRAINING,
        "For a script: more arguments, in order, after `script_params`. For a function: its "
        "keyword arguments.",
        validators.check_arguments,
        Option("args", list),
        needs=("function", "script_params"),
    )
    function: _Function = Parameter(
        TRAINING,
        "A callable in place of a script. Every rank's return value comes back (`Run.results`).",
        validators.check_function,
        recorded=False,
    )
    environment_variables: Parameter[Mapping[str, object] | None, dict[str, str]] = Parameter(
        TRAINING,
        "Set for the training process.",
        validators.check_environment,
        Option(
            "--env",
            dict,
            "NAME[=VALUE]",
            words.variables,
            help="Variable to set (without a value: as in the shell).",
        ),
    )
    inputs: Parameter[Mapping[str, str] | Sequence[str] | None, dict[str, str]] = Parameter(
        TRAINING,
        "Data that the script reads. By name (or a list of paths): ``HPCTF_INPUT_<NAME>`` tells "
        "the script where it lies. ``@RUN/outputs/FILE`` is what an earlier run writes, and waits "
        "for that run to complete.",
        validators.check_inputs,
        Option("--input", dict, "NAME=PATH", path="path", aliases=("inputs",)),
    )
    stage: Parameter[Mapping[str, str] | Sequence[str] | None, dict[str, str]] = Parameter(
        TRAINING,
        "Inputs to copy to each node's own disk. Once per node, before the ranks start: "
        "``HPCTF_INPUT_<NAME>`` is the node's copy then. ``inputs={name: Stage(path)}`` is the "
        "same.",
        validators.check_inputs,
        Option("--stage", dict, "NAME=PATH", path="path"),
    )
    stage_environment: _Choice = Parameter(
        TRAINING,
        "Copy the environment that hpctf builds to each node's own disk. None: as the site says.",
        optional(check_flag),
        Option("--stage-env/--no-stage-env", bool, shown="--stage-env"),
        overrides="environments.stage",
    )
    resume_from: Parameter[object, object] = Parameter(
        TRAINING,
        "A run, its id, or a folder: the new run begins with a copy of its checkpoints. A script "
        "that takes ``--resume-from`` gets it with the folder of a copy of the run's outputs.",
        None,
        Option(
            "--resume-from",
            metavar="RUN|FOLDER",
            path="or name",
            help="Begin with a copy of this run's checkpoints; a script that takes --resume-from "
            "also gets its outputs (as in Azure ML).",
        ),
    )
    azureml: _Choice = Parameter(
        TRAINING,
        "Let scripts import ``azureml.core`` (default). None: as the site says.",
        optional(check_flag),
        Option("--azureml/--no-azureml", bool, shown="--no-azureml"),
        overrides="azureml",
    )
    distributed_backend: Parameter[str | None, str | None] = Parameter(
        DISTRIBUTION,
        "How to distribute the training. ``mpi``, ``ps``, ``collective``, or None for one process.",
        optional(partial(check_choice, allowed=BACKENDS)),
        Option("--backend", BACKENDS, short="-b"),
        kept=False,
    )
    distributed_training: Parameter[Distribution | None, Distribution | None] = Parameter(
        DISTRIBUTION,
        "`Mpi`, `ParameterServer` or `MultiWorker`: the same, with its counts.",
        kept=False,
    )
    process_count_per_node: _Count = _count(
        DISTRIBUTION, "Processes per node (ps: workers per node).", "--procs-per-node"
    )
    worker_count: _Count = _count(DISTRIBUTION, "Workers in all (ps, collective).", "--workers")
    parameter_server_count: _Count = _count(DISTRIBUTION, "Parameter servers in all.", "--ps")
    compute_target: _Text = Parameter(
        RESOURCES, "Compute target of the site.", check_name, Option("--target", metavar="NAME")
    )
    node_count: _Count = _count(
        RESOURCES, "Nodes in all. By default as few as the backend needs.", "--nodes", short="-n"
    )
    use_gpu: _Flag = Parameter(
        RESOURCES,
        "Request GPUs. All that a node of the target has, or one per process if that is not known.",
        validators.check_use_gpu,
        Option("--use-gpu", bool),
        default=False,
        needs=("gpus_per_node",),
    )
    gpus_per_node: _Count = _count(
        RESOURCES, "GPUs per node.", "--gpus-per-node", "target.gpus", least=0, short="-g"
    )
    cpus_per_task: _Count = _count(
        RESOURCES, "CPUs per process.", "--cpus-per-task", "target.cpus_per_task"
    )
    mem: _Text = Parameter(
        RESOURCES,
        "Memory per node, as Slurm writes it (16G).",
        None,
        Option("--mem", metavar="SIZE"),
        overrides="target.mem",
    )
    max_run_duration_seconds: _Count = Parameter(
        RESOURCES,
        "Time limit of the job.",
        check_count,
        Option(
            "--time",
            metavar="TIME",
            read=seconds_of,
            help="Time limit, as Slurm writes it: 30 (minutes), 01:30:00, 2-0 (days-hours).",
            short="-t",
        ),
        overrides="target.time_limit",
    )
    python: _Path = Parameter(
        ENVIRONMENT,
        "Interpreter of the training environment. By default the one that runs hpctf.",
        software.check_python,
        Option("--python", str, "EXE", path="or name"),
    )
    user_managed: _Flag = Parameter(
        ENVIRONMENT,
        "Take `python`, or the Python on PATH, as it is, and install nothing.",
        check_flag,
        default=False,
    )
    pip_packages: _Texts = Parameter(
        ENVIRONMENT,
        "pip packages of an environment that hpctf builds once. With ``mpi`` it adds Horovod.",
        software.check_packages,
        Option("--pip", list, "PACKAGE", help="A pip package to install; can be repeated."),
    )
    pip_requirements_file: _Path = Parameter(
        ENVIRONMENT,
        "A requirements file. Relative to `source_directory`.",
        software.check_file,
        Option("--pip-file", str, "FILE", words.from_here, path="path"),
        needs=("source_directory",),
    )
    conda_packages: _Texts = Parameter(
        ENVIRONMENT,
        "conda packages of that environment.",
        software.check_packages,
        Option("--conda", list, "PACKAGE", help="A conda package to install; can be repeated."),
    )
    conda_dependencies_file: _Path = Parameter(
        ENVIRONMENT,
        "A conda environment.yml. Relative to `source_directory`.",
        software.check_file,
        Option("--conda-file", str, "FILE", words.from_here, path="path"),
        needs=("source_directory",),
    )
    framework_version: _Text = Parameter(
        ENVIRONMENT,
        "TensorFlow's version (2.18).",
        software.check_version,
        Option("--framework-version", str, "VERSION"),
    )
    python_version: _Text = Parameter(
        ENVIRONMENT,
        "Python's version (3.11).",
        software.check_version,
        Option("--python-version", str, "VERSION"),
    )
    container: _Path = Parameter(
        ENVIRONMENT,
        "Run in x.sif, x.sqfs, docker://... A file that the site's runtime takes, a folder, or an "
        "image's name. Its Python is ``python3`` unless `python` names another.",
        software.check_container,
        Option("--container", str, "IMAGE", path="if there"),
        needs=("custom_docker_image", "use_docker"),
    )
    modules: _Texts = Parameter(
        ENVIRONMENT,
        "Environment modules to load, after the site's.",
        software.check_modules,
        Option("--module", list, "NAME", aliases=("modules",), help="Environment module to load."),
    )
    custom_docker_image: _Text = Parameter(
        ENVIRONMENT, "Azure ML's way to name a `container`.", kept=False
    )
    use_docker: _Choice = Parameter(
        ENVIRONMENT, "Azure ML's: whether an image is used.", optional(check_flag), kept=False
    )
    conda_dependencies_file_path: _Path = older_name_of("conda_dependencies_file", ENVIRONMENT)
    pip_requirements_file_path: _Path = older_name_of("pip_requirements_file", ENVIRONMENT)
    custom_docker_base_image: _Text = older_name_of("custom_docker_image", ENVIRONMENT)
    max_restarts: _Count = _count(
        FAULT_TOLERANCE,
        "How often to restart at the time limit (0: never). Also when pre-empted with "
        "a grace; the script finds its checkpoints in HPCTF_CHECKPOINT_DIR. None leaves restarts "
        "to Slurm (pre-emption, node failure); 0 forbids these, too.",
        "--max-restarts",
        least=0,
    )
    grace_seconds: _Count = _count(
        FAULT_TOLERANCE,
        "Time to write a checkpoint. In seconds; by default the site's.",
        "--grace",
        "warning.grace_s",
        metavar="SECONDS",
    )
    warning_signal: Parameter[str, str] = Parameter(
        FAULT_TOLERANCE,
        "Signal that warns the script (SIGTERM). The others: ``SIGINT``, ``SIGUSR1``, ``SIGUSR2``.",
        partial(check_choice, allowed=_SIGNALS),
        Option("--warn-with", str, "SIGNAL", words.signal),
        default="SIGTERM",
    )
    sbatch: Parameter[Mapping[str, object] | None, dict[str, object]] = Parameter(
        SLURM,
        'More sbatch options by long name, such as ``{"reservation": "course"}``.',
        validators.check_options,
        Option(
            "--sbatch", dict, "KEY[=VALUE]", words.sbatch_options, help="One more sbatch option."
        ),
    )
    after: Parameter[object, list[str]] = Parameter(
        SLURM,
        "Runs that must have ended before this one starts. Runs, ids or folders; ``RUN:any`` for "
        "any end, ``RUN:failed`` for a failure, else they must have completed.",
        check_after,
        Option(
            "--after",
            list,
            "RUN[:ok|any|failed]",
            help="Start once this run has completed (any: ended; failed: failed); can be repeated.",
        ),
    )
    timeline: _Flag = Parameter(
        OUTPUT,
        "mpi: write Horovod's timeline to outputs/.",
        check_flag,
        Option("--timeline", bool),
        default=False,
    )
    profile: Parameter[bool | Sequence[int] | None, tuple[int, int] | None] = Parameter(
        OUTPUT,
        "Profile steps 10-20 with TensorFlow, to outputs/. Or ``(first, last)``. A step is a call "
        "of one ``tf.function``.",
        validators.check_steps,
        Option("--profile", bool),
        Option(
            "--profile-steps", str, "FIRST-LAST", words.steps, help="Profile these steps instead."
        ),
        default=False,
    )


OF_BACKENDS = {name: one for settings in SETTINGS.values() for name, one in settings.items()}
"""The settings of backends: parameters of `Mpi` and `ParameterServer`."""

RECORDED = {name: one for name, one in Parameters.parameters.items() if one.recorded}
"""The parameters that a run has on record, under their names."""

SOFTWARE = [name for name, one in RECORDED.items() if one.group == ENVIRONMENT]
"""Those that say what the training runs in."""

CHANGEABLE = [name for name, one in {**RECORDED, **OF_BACKENDS}.items() if one.changeable]
"""Those that may differ when a run is submitted again."""

OPTIONS = {
    option.key: (parameter, option)
    for parameter in sorted(
        [*Parameters.parameters.values(), *OF_BACKENDS.values()],
        key=lambda parameter: GROUPS.index(parameter.group),
    )
    for option in parameter.options
}
"""Options by their keys, each with its parameter, in the order of `GROUPS`."""


def overrides_of(estimator: Parameters) -> Iterator[tuple[str, str, object]]:
    """Yield (parameter as messages name it, the site's key that it overrides, its value)."""
    for name, parameter in {**RECORDED, **OF_BACKENDS}.items():
        if parameter.overrides:
            yield parameter.label, parameter.overrides, getattr(estimator, name)
