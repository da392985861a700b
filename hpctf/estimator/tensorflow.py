"""What a person asks for: the `TensorFlow` estimator, with Azure ML's names and meanings.

Source of the names: Azure ML SDK v1, ``azureml.train.dnn.TensorFlow``. An estimator knows nothing
of a site; it checks what can be checked without one. `hpctf.planning.planner` makes a plan of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpctf.errors import UsageError, did_you_mean
from hpctf.estimator.software import NOT_HERE, check_software
from hpctf.estimator.validators import (
    check_arguments,
    check_choice,
    check_count,
    check_entry_script,
    check_environment,
    check_flag,
    check_inputs,
    check_name,
    check_options,
    check_script_params,
    check_source_directory,
    check_steps,
)

BACKENDS = ("single", "mpi", "ps", "collective")


@dataclass(frozen=True)
class Mpi:
    """MPI training, Horovod included: `process_count_per_node` ranks on every node.

    Parameters
    ----------
    pin_gpus
        Whether a rank sees only its own GPUs. Say False for scripts that choose with
        ``gpus[hvd.local_rank()]``, which need to see all of the node's. None is the site's choice.
    """

    process_count_per_node: int = 1
    pin_gpus: bool | None = None

    backend = "mpi"


@dataclass(frozen=True)
class ParameterServer:
    """TensorFlow's parameter servers.

    Parameters
    ----------
    worker_count, parameter_server_count
        How many workers and parameter servers, over all nodes.
    coordinator
        True: the script runs on the chief alone, and hpctf runs TensorFlow's standard server on
        workers and ps (TensorFlow 2's ClusterCoordinator). False: the script runs on every task,
        as in Azure ML, and starts its own server.
    chief
        Whether there is a chief besides the workers. The coordinator needs one.
    placement
        ``hetjob`` (ps on nodes of their own), ``shared`` (beside the workers); None: the site's.
    max_worker_restarts
        How often a worker that crashes is started again in its place while the chief goes on.
        TensorFlow's coordinator waits for it and gives it work again.
    """

    worker_count: int = 1
    parameter_server_count: int = 1
    coordinator: bool = True
    chief: bool = True
    placement: str | None = None
    max_worker_restarts: int = 0

    backend = "ps"


@dataclass(frozen=True)
class MultiWorker:
    """MultiWorkerMirroredStrategy: `worker_count` workers; by default one a node."""

    worker_count: int | None = None

    backend = "collective"


Distribution = Mpi | ParameterServer | MultiWorker

_TELL = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")


class TensorFlow:
    """A TensorFlow training, described once and submitted anywhere.

    Parameters
    ----------
    source_directory
        Folder whose content goes with the run; by default the current one.
    entry_script
        The script to run, relative to `source_directory`.
    script_params
        Arguments of the script by name; ``{"--flag": ""}`` is a bare flag.
    arguments
        For a script: more arguments, in order, after `script_params`. For a function: its keyword
        arguments.
    function
        A callable in place of a script. Every rank's return value comes back
        (`Run.results`).
    compute_target
        One of the site's targets.
    node_count
        Nodes in all. By default as few as the backend needs.
    process_count_per_node
        Ranks a node (mpi and collective), or workers a node (ps).
    worker_count, parameter_server_count
        For ``ps``; `worker_count` for ``collective`` too.
    distributed_backend
        ``mpi``, ``ps``, ``collective``, or None for one process.
    distributed_training
        `Mpi`, `ParameterServer` or `MultiWorker`: the same, with its counts.
    use_gpu
        Ask for GPUs: all that a node of the target has, or one a process if that is not known.
    gpus_per_node
        Ask for so many GPUs a node instead.
    cpus_per_task, mem
        CPUs a process, and memory a node in Slurm's notation (``"16G"``).
    environment_variables
        Set for the training process.
    inputs
        Data by name (or a list of paths): ``HPCTF_INPUT_<NAME>`` tells the script where it lies.
    max_run_duration_seconds
        Time limit of the job.
    max_restarts
        How often the job starts itself again when it was warned of its time limit, or pre-empted
        with a grace: the script finds its checkpoints in HPCTF_CHECKPOINT_DIR. None leaves
        restarts to Slurm (pre-emption, node failure); 0 forbids these, too.
    grace_seconds
        Seconds that a warned script has to write a checkpoint; by default the site's.
    warning_signal
        What the script gets: ``SIGTERM``, ``SIGINT``, ``SIGUSR1`` or ``SIGUSR2``.
    resume_from
        A run, its id, or a folder: the new run begins with a copy of its checkpoints. A script
        that takes ``--resume-from`` gets it with the folder of a copy of the run's outputs.
    timeline
        ``mpi``: write Horovod's timeline to ``outputs/horovod-timeline.json``.
    profile
        Profile steps with TensorFlow's profiler, to ``outputs/profile``: ``(first, last)``, or
        True for steps 10 to 20. A step is a call of one ``tf.function``.
    azureml
        Whether ``azureml.core`` is there for scripts written for Azure ML; None: the site's word.
    python
        Interpreter of an existing training environment; by default the one that runs hpctf.
    sbatch
        More sbatch options by long name, such as ``{"reservation": "course"}``.
    conda_packages, pip_packages, conda_dependencies_file, pip_requirements_file
        Packages of an environment that is built for the training, once; files relative to
        `source_directory`. With ``mpi`` Horovod is installed for you.
    framework_version, python_version
        TensorFlow's and Python's versions in that environment.
    user_managed
        Take `python`, or the Python on PATH, as it is, and install nothing.
    modules
        Environment modules to load, after the site's.
    container
        Image to run in: a file that the site's runtime takes (``x.sif``, ``x.sqfs``), a folder, or
        a name such as ``docker://...``. Its Python is ``python3`` unless `python` names another.
    custom_docker_image, custom_docker_base_image, use_docker
        Azure ML's way to name a `container`.

    Raises
    ------
    UsageError
        Anything that cannot be: nothing has been written then.
    """

    def __init__(
        self,
        source_directory: str | os.PathLike[str] | None = None,
        *,
        entry_script: str | None = None,
        script_params: Mapping[str, object] | None = None,
        arguments: Sequence[object] | Mapping[str, object] | None = None,
        function: Callable[..., Any] | None = None,
        compute_target: str | None = None,
        node_count: int | None = None,
        process_count_per_node: int | None = None,
        worker_count: int | None = None,
        parameter_server_count: int | None = None,
        distributed_backend: str | None = None,
        distributed_training: Distribution | None = None,
        use_gpu: bool = False,
        gpus_per_node: int | None = None,
        cpus_per_task: int | None = None,
        mem: str | None = None,
        environment_variables: Mapping[str, object] | None = None,
        inputs: Mapping[str, str] | Sequence[str] | None = None,
        max_run_duration_seconds: int | None = None,
        python: str | os.PathLike[str] | None = None,
        sbatch: Mapping[str, object] | None = None,
        conda_packages: Sequence[str] | None = None,
        pip_packages: Sequence[str] | None = None,
        conda_dependencies_file: str | None = None,
        pip_requirements_file: str | None = None,
        conda_dependencies_file_path: str | None = None,
        pip_requirements_file_path: str | None = None,
        framework_version: str | None = None,
        python_version: str | None = None,
        user_managed: bool = False,
        modules: Sequence[str] | None = None,
        container: str | os.PathLike[str] | None = None,
        custom_docker_image: str | None = None,
        custom_docker_base_image: str | None = None,
        use_docker: bool | None = None,
        max_restarts: int | None = None,
        grace_seconds: int | None = None,
        warning_signal: str = "SIGTERM",
        resume_from: object = None,
        timeline: bool = False,
        profile: bool | Sequence[int] = False,
        azureml: bool | None = None,
        **unknown: object,
    ) -> None:
        if unknown:
            name = sorted(unknown)[0]
            if name in NOT_HERE:
                raise UsageError(f"{name} means nothing on a cluster.", NOT_HERE[name])
            known = list(self.__init__.__kwdefaults__)  # type: ignore[misc]
            raise UsageError(f"TensorFlow() has no parameter {name!r}.{did_you_mean(name, known)}")
        self.function = function
        self.source_directory = check_source_directory(source_directory, function)
        self.entry_script = check_entry_script(self.source_directory, entry_script, function)
        self.script_params = check_script_params(script_params)
        self.arguments = check_arguments(arguments, function, script_params)
        self.compute_target = check_name("compute_target", compute_target)
        self.node_count = check_count("node_count", node_count)
        self.use_gpu = check_flag("use_gpu", use_gpu) or bool(gpus_per_node)
        self.gpus_per_node = check_count("gpus_per_node", gpus_per_node, least=0)
        if use_gpu and gpus_per_node == 0:
            raise UsageError("use_gpu is set, but gpus_per_node is 0.", "Give one of the two.")
        self.cpus_per_task = check_count("cpus_per_task", cpus_per_task)
        self.mem = mem
        self.environment_variables = check_environment(environment_variables)
        self.inputs = check_inputs(inputs)
        self.max_run_duration_seconds = check_count(
            "max_run_duration_seconds", max_run_duration_seconds
        )
        self.sbatch = check_options("sbatch", sbatch)
        software = check_software(
            {
                "conda_packages": conda_packages,
                "pip_packages": pip_packages,
                "conda_dependencies_file": conda_dependencies_file,
                "conda_dependencies_file_path": conda_dependencies_file_path,
                "pip_requirements_file": pip_requirements_file,
                "pip_requirements_file_path": pip_requirements_file_path,
                "framework_version": framework_version,
                "python_version": python_version,
                "python": python,
                "user_managed": user_managed,
                "modules": modules,
                "container": container,
                "custom_docker_image": custom_docker_image,
                "custom_docker_base_image": custom_docker_base_image,
                "use_docker": use_docker,
            },
            self.source_directory,
        )
        self.conda_packages = software.conda_packages
        self.pip_packages = software.pip_packages
        self.conda_dependencies_file = software.conda_dependencies_file
        self.pip_requirements_file = software.pip_requirements_file
        self.framework_version = software.framework_version
        self.python_version = software.python_version
        self.python = software.python
        self.user_managed = software.user_managed
        self.modules = software.modules
        self.container = software.container
        self.max_restarts = check_count("max_restarts", max_restarts, least=0)
        self.grace_seconds = check_count("grace_seconds", grace_seconds)
        self.warning_signal = check_choice("warning_signal", warning_signal, _TELL)
        self.resume_from = resume_from
        self.timeline = check_flag("timeline", timeline)
        self.profile = check_steps("profile", profile)
        self.azureml = None if azureml is None else check_flag("azureml", azureml)
        self._settle_distribution(
            distributed_backend,
            distributed_training,
            {
                "process_count_per_node": check_count(
                    "process_count_per_node", process_count_per_node
                ),
                "worker_count": check_count("worker_count", worker_count),
                "parameter_server_count": check_count(
                    "parameter_server_count", parameter_server_count
                ),
            },
        )

    def _settle_distribution(
        self, backend: str | None, training: Distribution | None, counts: dict[str, int | None]
    ) -> None:
        """Make one of `distributed_backend` with its counts and `distributed_training`."""
        if backend is not None and backend not in BACKENDS:
            raise UsageError(
                f"distributed_backend is {backend!r}, but must be one of {', '.join(BACKENDS)}."
                f"{did_you_mean(str(backend), list(BACKENDS))}"
            )
        if training is not None and not isinstance(training, Distribution):
            raise UsageError(
                "distributed_training must be Mpi(...), ParameterServer(...) or MultiWorker(...), "
                f"not {training!r}."
            )
        if training is not None and backend not in (None, training.backend):
            raise UsageError(
                f"distributed_backend is {backend!r}, but distributed_training is {training!r}.",
                "Give one of the two.",
            )
        if backend is None and training is None:
            self._refuse_counts_without_backend(counts)
        self.backend = training.backend if training else backend or "single"
        if self.timeline and self.backend != "mpi":
            raise UsageError(
                f"timeline is Horovod's, but the backend is {self.backend!r}.",
                "Say profile (--profile): TensorFlow's profiler works with every backend.",
            )
        self.pin_gpus = training.pin_gpus if isinstance(training, Mpi) else None
        self.coordinator = self.chief = True
        self.ps_placement: str | None = None
        self.max_worker_restarts = 0
        if isinstance(training, ParameterServer):
            self.coordinator, self.chief = training.coordinator, training.chief
            self.ps_placement = training.placement
            restarts = check_count("max_worker_restarts", training.max_worker_restarts, least=0)
            self.max_worker_restarts = restarts or 0
            if restarts and not self.chief:
                raise UsageError(
                    f"max_worker_restarts is {restarts}, but chief is False: workers decide then "
                    "when the run ends, and cannot be started again meanwhile.",
                    "Leave the chief, or use max_restarts, which starts the whole job again.",
                )
        if self.coordinator and not self.chief:
            raise UsageError(
                "ParameterServer(coordinator=True, chief=False): the coordinator is the chief.",
                "Say coordinator=False to run the script on every worker and ps.",
            )
        if self.ps_placement not in (None, "hetjob", "shared"):
            raise UsageError(
                f"placement is {self.ps_placement!r}, but must be 'hetjob' or 'shared'."
            )
        for name in counts:
            from_training = getattr(training, name, None)
            if from_training is not None and counts[name] not in (None, from_training):
                raise UsageError(
                    f"{name} is {counts[name]}, but {from_training} in distributed_training.",
                    "Give one of the two.",
                )
            counts[name] = check_count(name, from_training) or counts[name]
        self.process_count_per_node = counts["process_count_per_node"]
        self.worker_count = counts["worker_count"]
        self.parameter_server_count = counts["parameter_server_count"]

    def _refuse_counts_without_backend(self, counts: dict[str, int | None]) -> None:
        asked = {"node_count": self.node_count, **counts}
        for name, value in asked.items():
            if (value or 0) > 1 or (name == "parameter_server_count" and value):
                raise UsageError(
                    f"{name} is {value}, but no distributed_backend is named.",
                    "Choose one: 'mpi' (Horovod), 'ps' (parameter servers) or "
                    "'collective' (MultiWorkerMirroredStrategy).",
                )

    def command_line(self) -> list[str]:
        """Return the script's arguments, in order."""
        words: list[str] = []
        for key, value in self.script_params.items():
            words.append(key)
            if value != "":
                words.append(value)
        if not isinstance(self.arguments, dict):
            words += [str(word) for word in self.arguments]
        return words
