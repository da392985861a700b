"""The plan: everything that will run, as frozen data, with nothing left to look up.

Estimator and site make a plan; templates, executors and nodes read it, and nothing else. It is
plain data, so it goes to JSON and back unchanged (`Plan.to_json`, `Plan.from_json`). The nodes
read that JSON as a dictionary: importing this module would cost each rank more than its use.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Role:
    """A group of tasks that do the same.

    Parameters
    ----------
    name
        TensorFlow's name: ``chief``, ``worker`` or ``ps``.
    count
        How many tasks; their indices are ``0 .. count - 1``.
    component
        Index of the job's component (see `Component`) that holds them.
    runs
        ``script``: the person's script or function; ``server``: TensorFlow's standard server.
    decides
        Whether the run goes on until these tasks have ended. Those that do not decide are asked
        to end once the deciding ones have, and count as success.
    grace_s
        Seconds that a task which does not decide may go on after the last deciding one ended.
    uses_gpu
        Whether its tasks see the node's GPUs.
    serves
        Whether its tasks only serve others: asked to end, they go on until the deciding ones have
        ended, who may need them to write a checkpoint.
    max_restarts
        How often a task that crashes is started again in its place, while the others go on.
    """

    name: str
    count: int
    component: int = 0
    runs: str = "script"
    decides: bool = True
    grace_s: float = 0.0
    uses_gpu: bool = True
    serves: bool = False
    max_restarts: int = 0


@dataclass(frozen=True)
class Component:
    """One component of a job: an allocation of its own in a heterogeneous job.

    Parameters
    ----------
    nodes, tasks
        How many nodes and how many tasks on them, in all.
    cpus_per_task, gpus_per_node
        What each task, each node gets; None is the site's default.
    directives
        sbatch's long options without dashes and their values, in order; an empty value is a bare
        flag. They are all that the component's ``#SBATCH`` lines say.
    """

    nodes: int
    tasks: int
    cpus_per_task: int | None = None
    gpus_per_node: int = 0
    directives: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Launch:
    """How the ranks are started.

    Parameters
    ----------
    method
        ``srun``, ``mpirun`` or ``local``.
    options
        The launcher's own options, each one word.
    command
        The program that does mpirun's work.
    hpctf_python
        The interpreter that runs hpctf's wrapper on the nodes.
    start
        Path of the wrapper's start script.
    modules, prologue, epilogue
        Environment modules to load, and the site's shell lines before and after the step.
    step_options
        Options of every component's srun, each one word: those that enter a container.
    rank_python
        The interpreter that runs the ranks' wrapper, where srun starts them inside a container;
        empty: `hpctf_python`.
    """

    method: str
    hpctf_python: str
    start: str
    options: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    epilogue: tuple[str, ...] = ()
    step_options: tuple[str, ...] = ()
    rank_python: str = ""
    command: str = "mpirun"


@dataclass(frozen=True)
class Container:
    """What a rank calls to run the training inside an image.

    Parameters
    ----------
    command
        The runtime and its options, before the image.
    image
        A file, or a name with its scheme.
    gpu_options
        More options, for a rank that uses GPUs.
    after
        Words between the image and what runs in it.
    variables
        File in the image with its variables, where the runtime leaves it to others to set them.
    hides
        Variables that the runtime itself must not see.
    replaced
        Whether the runtime becomes the training, rather than stay beside it and pass signals on.
    """

    command: tuple[str, ...]
    image: str
    gpu_options: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    variables: str = ""
    hides: tuple[str, ...] = ()
    replaced: bool = False


@dataclass(frozen=True)
class Entry:
    """What every rank that runs the script is to execute.

    Parameters
    ----------
    kind
        ``script`` or ``function``.
    command
        The whole argument vector, interpreter first; paths within the snapshot are relative.
    python
        The training environment's interpreter: it also runs TensorFlow's standard server. A bare
        name is looked for on the node's PATH, or the container's.
    environment
        Variables of the person's own, set for the training process and nothing else.
    container
        What it runs inside of, if each rank is to call it.
    """

    kind: str
    command: tuple[str, ...]
    python: str
    environment: dict[str, str] = field(default_factory=dict)
    container: Container | None = None


@dataclass(frozen=True)
class Interruption:
    """What happens before a time limit, and when the job is taken off its nodes.

    Parameters
    ----------
    signal
        Name of the signal by which Slurm warns the ranks (``USR2``), or None: no warning.
    tell
        Name of the signal that the script gets for it, and for Slurm's SIGTERM.
    grace_s
        Seconds that the script has from then on.
    max_restarts
        How often the job starts itself again afterwards.
    """

    signal: str | None = None
    tell: str = "TERM"
    grace_s: int = 60
    max_restarts: int = 0


@dataclass(frozen=True)
class Earlier:
    """A run that must have ended before another one starts.

    Parameters
    ----------
    run, folder
        Its id and its run folder.
    when
        How it must have ended: ``ok``, ``any`` or ``failed``.
    job_id
        The job that Slurm is to wait for; empty if the run had ended before.
    """

    run: str
    folder: str
    when: str
    job_id: str = ""


@dataclass(frozen=True)
class Handover:
    """An input that an earlier run writes: its name, and the path within that run's folder."""

    name: str
    run: str
    folder: str
    path: str

    @property
    def file(self) -> str:
        """The path of what is handed over."""
        return f"{self.folder}/{self.path}"

    def __str__(self) -> str:
        return f"@{self.run}/{self.path}"


@dataclass(frozen=True)
class Staging:
    """What every node gets a copy of, on its own disk, before the ranks start.

    Parameters
    ----------
    inputs
        The shared paths, by the inputs' names.
    folder, keep, compare, fallback
        Those of the site (`hpctf.site.model.StagingSettings`).
    environment
        Folder of the store with the training environment and its image, or empty: the shared one.
    environment_kind
        The image's: ``squashfs`` or ``tar``.
    """

    inputs: dict[str, str]
    folder: str
    keep: str = "job"
    compare: str = "time"
    fallback: str = "none"
    environment: str = ""
    environment_kind: str = ""


@dataclass(frozen=True)
class Plan:
    """All that a run will do.

    Parameters
    ----------
    run_id, experiment, run_folder
        Names of the run, and where on the shared file system it lives.
    site, target, backend
        What it was planned for; `backend` also names the template (``<backend>.sbatch.j2``).
    scheduler
        ``slurm`` or ``local``.
    roles
        In rank order: the first role's tasks are the first ranks.
    components
        In Slurm's order; more than one makes a heterogeneous job.
    tf_config
        Whether the ranks get TF_CONFIG.
    ports
        First and last port of the range that TF_CONFIG may use.
    reserved_ports
        Whether srun reserves ports for the step, which come before those of the range.
    pin_gpus
        Whether a rank sees only its own share of the node's GPUs.
    time_limit_s
        Seconds the job may run; None is the site's own limit.
    template_folder
        The site's folder of templates, looked in before hpctf's own.
    interruption
        How the script is warned, and whether the job starts again.
    resumed_from
        Folder that the checkpoints were copied from, or None.
    resumed_outputs
        The earlier run's outputs, of which the script has a copy (``--resume-from``), or None.
    umask
        What the run folder and all in it are made with, octal (``0077``).
    environment
        Key of the environment that hpctf builds for it, or empty.
    interfaces
        Network interfaces that NCCL, Gloo and Open MPI's TCP are to use; empty: their own choice.
    host_suffix
        What the nodes' names end in on the network that TF_CONFIG names.
    system_metrics_s
        Seconds between two samples of what each rank uses of its node; 0: none are taken.
    questions_per_minute
        How often at most a person's processes that follow runs ask Slurm.
    co2_g_per_kwh
        Grams of CO2 of the site's power; 0: not known.
    node_energy
        The sensor by which Slurm measures the energy of jobs; none: it does not.
    azureml
        Whether ``azureml.core`` is there for scripts whose environment has none.
    after
        The runs that it follows, whether Slurm waits for them or they had ended before.
    handovers
        Those of its inputs that earlier runs write.
    staging
        What every node gets a copy of, if anything.
    """

    run_id: str
    experiment: str
    run_folder: str
    site: str
    target: str
    backend: str
    scheduler: str
    roles: tuple[Role, ...]
    components: tuple[Component, ...]
    launch: Launch
    entry: Entry
    tf_config: bool = False
    ports: tuple[int, int] = (20000, 29999)
    reserved_ports: bool = False
    pin_gpus: bool = True
    time_limit_s: int | None = None
    template_folder: str | None = None
    interruption: Interruption = field(default_factory=Interruption)
    resumed_from: str | None = None
    resumed_outputs: str | None = None
    umask: str = "0077"
    environment: str = ""
    interfaces: tuple[str, ...] = ()
    host_suffix: str = ""
    system_metrics_s: int = 0
    questions_per_minute: int = 4
    co2_g_per_kwh: int = 0
    node_energy: str = "none"
    azureml: bool = True
    after: tuple[Earlier, ...] = ()
    handovers: tuple[Handover, ...] = ()
    staging: Staging | None = None

    @property
    def tasks(self) -> int:
        """How many ranks the run has."""
        return sum(role.count for role in self.roles)

    @property
    def clusters(self) -> str:
        """The Slurm clusters that it may run on (``sbatch --clusters``), or empty."""
        return dict(self.components[0].directives).get("clusters", "")

    @property
    def resumes(self) -> str | None:
        """What it goes on from, as `resume_from` takes it: a run's folder, or another one."""
        if self.resumed_outputs is None:
            return self.resumed_from
        return os.path.dirname(self.resumed_outputs)

    def ranks(self) -> list[tuple[str, int]]:
        """Return (role name, index) of every rank, in rank order."""
        return [(role.name, index) for role in self.roles for index in range(role.count)]

    def to_json(self) -> str:
        """Return the plan as indented JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Rebuild a plan from `to_json`'s text."""
        raw: dict[str, Any] = json.loads(text)
        raw["roles"] = tuple(Role(**role) for role in raw["roles"])
        for component in raw["components"]:
            component["directives"] = tuple(map(tuple, component["directives"]))
        raw["components"] = tuple(Component(**component) for component in raw["components"])
        raw["launch"] = Launch(**_tuples(raw["launch"]))
        raw["entry"] = Entry(**_tuples(raw["entry"]))
        if raw["entry"].container is not None:
            container = Container(**_tuples(raw["entry"].container))
            raw["entry"] = replace(raw["entry"], container=container)
        raw["interruption"] = Interruption(**raw["interruption"])
        raw["after"] = tuple(Earlier(**one) for one in raw.get("after", ()))
        raw["handovers"] = tuple(Handover(**one) for one in raw.get("handovers", ()))
        if raw.get("staging") is not None:
            raw["staging"] = Staging(**raw["staging"])
        return cls(**_tuples(raw))


def _tuples(raw: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()}
