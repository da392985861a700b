"""The later way of SDK v1 to say what is to run: ``ScriptRunConfig`` and ``RunConfiguration``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpctf.azureml.datastore import OnDisk
from hpctf.azureml.environment import CondaDependencies, Environment
from hpctf.azureml.estimators import TensorFlow
from hpctf.azureml.refusing import refuses, sealed
from hpctf.errors import UsageError, shown
from hpctf.estimator import tensorflow

THIRTY_DAYS_S = 2_592_000
"""What Azure ML gives a run that names no time of its own."""


@sealed
@refuses("MpiConfiguration")
class MpiConfiguration:
    """Ranks of MPI, Horovod included."""

    def __init__(self, process_count_per_node: int = 1, node_count: int = 1) -> None:
        self.process_count_per_node = process_count_per_node
        self.node_count = node_count


@sealed
@refuses("TensorflowConfiguration")
class TensorflowConfiguration:
    """Workers and parameter servers; without the latter, workers of MultiWorkerMirroredStrategy."""

    def __init__(self, worker_count: int = 1, parameter_server_count: int = 1) -> None:
        self.worker_count = worker_count
        self.parameter_server_count = parameter_server_count


@sealed
@refuses("DockerConfiguration")
class DockerConfiguration:
    """Whether the environment's image is used, or its packages alone."""

    def __init__(
        self,
        use_docker: bool = False,
        shared_volumes: bool = True,
        arguments: Sequence[str] | None = None,
        shm_size: str | None = None,
    ) -> None:
        self.use_docker = use_docker
        self.arguments = list(arguments or ())
        self.shm_size = shm_size


@sealed
@refuses("RunConfiguration")
class RunConfiguration:
    """Where and how a script runs."""

    def __init__(
        self,
        script: str | None = None,
        arguments: Sequence[Any] | None = None,
        framework: str | None = None,
        communicator: str | None = None,
        conda_dependencies: CondaDependencies | None = None,
        command: str | Sequence[Any] | None = None,
    ) -> None:
        self.script = script
        self.arguments = list(arguments or ())
        self.command = command
        self.framework = framework or "Python"
        self.communicator = communicator or "None"
        self.target: Any = None
        self.node_count = 1
        self.max_run_duration_seconds: int | None = None
        self.environment = Environment("default-environment")
        if conda_dependencies is not None:
            self.environment.python.conda_dependencies = conda_dependencies
        self.environment_variables: dict[str, str] = {}
        self.mpi = MpiConfiguration()
        self.tensorflow = TensorflowConfiguration()
        self.docker = DockerConfiguration()
        self.auto_prepare_environment = True  # set by scripts; hpctf builds what they name
        self.data_references: dict[str, OnDisk] = {}
        self.data: dict[str, OnDisk] = {}

    def distribution(self) -> tuple[tensorflow.Distribution | None, int | None]:
        """Return what `framework` and `communicator` say, and the nodes."""
        kind = self.communicator.lower()
        nodes = self.node_count if self.node_count > 1 else None
        if kind in ("mpi", "intelmpi", "openmpi"):
            return tensorflow.Mpi(self.mpi.process_count_per_node), self.node_count
        if kind == "parameterserver":
            workers = self.tensorflow.worker_count
            servers = self.tensorflow.parameter_server_count
            if servers == 0:
                return tensorflow.MultiWorker(workers), nodes
            ps = tensorflow.ParameterServer(workers, servers, coordinator=False, chief=False)
            return ps, nodes
        if kind != "none":
            raise UsageError(
                f"communicator is {shown(self.communicator)}, which is not TensorFlow's.",
                "Use 'Mpi' (Horovod) or 'ParameterServer'.",
            )
        return None, nodes


@sealed
@refuses("ScriptRunConfig")
class ScriptRunConfig:
    """A script with its arguments, where and how it runs.

    Parameters
    ----------
    source_directory, script, arguments
        The script, and what it is called with; data sets and data references become paths.
    command
        A command in place of `script`: ``["python", "train.py", "--epochs", 5]``.
    run_config
        All that follows, in one.
    compute_target, environment, distributed_job_config, docker_runtime_config
        Where it runs, in what, and its distribution: `MpiConfiguration` or
        `TensorflowConfiguration`.
    resume_from
        As `hpctf.TensorFlow` has it.
    max_run_duration_seconds
        Time limit of the job; Azure ML's default (30 days) leaves it to the target.
    asked
        More parameters of `hpctf.TensorFlow`, such as ``mem`` or ``use_gpu``.
    """

    MAX_DURATION_SECONDS_DEFAULT = THIRTY_DAYS_S

    def __init__(
        self,
        source_directory: str | os.PathLike[str] | None = None,
        script: str | None = None,
        arguments: Sequence[Any] | None = None,
        run_config: RunConfiguration | None = None,
        compute_target: Any = None,
        environment: Environment | None = None,
        distributed_job_config: MpiConfiguration | TensorflowConfiguration | None = None,
        resume_from: object = None,
        max_run_duration_seconds: int | None = THIRTY_DAYS_S,
        command: str | Sequence[Any] | None = None,
        docker_runtime_config: DockerConfiguration | None = None,
        **asked: Any,
    ) -> None:
        config = RunConfiguration() if run_config is None else run_config
        self.source_directory = source_directory
        self.script = script or config.script
        self.arguments = list(config.arguments if arguments is None else arguments)
        self.command = command or config.command
        self.resume_from = resume_from
        self.run_config = config
        self.asked = asked
        if compute_target is not None:
            config.target = compute_target
        if environment is not None:
            config.environment = environment
        if docker_runtime_config is not None:
            config.docker = docker_runtime_config
        if max_run_duration_seconds != THIRTY_DAYS_S:
            config.max_run_duration_seconds = max_run_duration_seconds
        if distributed_job_config is not None:
            _distribute(config, distributed_job_config)
        if bool(self.script) == bool(self.command):
            raise UsageError(
                "ScriptRunConfig() takes either script or command.",
                "Name the script: ScriptRunConfig(source_directory='.', script='train.py').",
            )

    def estimator(self, scratch: Path) -> TensorFlow:
        """Return the estimator that asks for the same; `scratch` is for files that it names."""
        config, notes = self.run_config, list[str]()
        script, words = (self.script, self.arguments) if self.script else self._of_command()
        training, nodes = config.distribution()
        given = config.environment.asked(scratch, notes)
        variables = {**(given.pop("environment_variables") or {}), **config.environment_variables}
        if not config.docker.use_docker and not config.environment.docker.enabled:
            given.pop("custom_docker_image", None)
        asked = {
            "entry_script": script,
            "arguments": words,
            "compute_target": config.target,
            "distributed_training": training,
            "node_count": nodes,
            "environment_variables": variables or None,
            "max_run_duration_seconds": config.max_run_duration_seconds,
            "resume_from": self.resume_from,
            "inputs": {**config.data_references, **config.data} or None,
            **given,
        }
        # As in Azure ML, a run gets all GPUs that the nodes of its target are known to have.
        gpus = getattr(getattr(config.target, "target", None), "gpus", None)
        asked |= {"use_gpu": bool(gpus)} | self.asked
        made = TensorFlow(self.source_directory, **asked)
        made.notes = [*notes, *made.notes]
        return made

    def _of_command(self) -> tuple[str, list[Any]]:
        command = self.command
        words = shlex.split(command) if isinstance(command, str) else list(command or ())
        program = os.path.basename(str(words[0])) if words else ""
        if program in ("python", "python3", "bash", "sh") and len(words) > 1:
            words = words[1:]
        if not words or str(words[0]).startswith("-"):
            raise UsageError(
                f"The command {shown(command)} names no script.",
                "Put it in a script of the source folder: command=['python', 'train.py'].",
            )
        return str(words[0]), words[1:]


def _distribute(config: RunConfiguration, distribution: object) -> None:
    if isinstance(distribution, MpiConfiguration):
        config.communicator, config.mpi = "Mpi", distribution
        config.node_count = distribution.node_count
    elif isinstance(distribution, TensorflowConfiguration):
        config.communicator, config.tensorflow = "ParameterServer", distribution
    else:
        raise UsageError(
            f"distributed_job_config is {shown(distribution)}, which is not TensorFlow's.",
            "Use MpiConfiguration(...) (Horovod) or TensorflowConfiguration(...).",
        )
