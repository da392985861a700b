"""What a site configuration may say, and its defaults: frozen data, checked by `hpctf.site.schema`.

Reading a site that has been checked before needs no pydantic, whose import would take longer than
all else that submitting does; so the constraints in the annotations are of this module's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, ClassVar, Literal

from hpctf.common.units import seconds_of
from hpctf.errors import shown
from hpctf.scheduler.sbatch_options import check_directives, check_drop


class Between:
    """Says to pydantic that a number must lie between two others, both included."""

    def __init__(self, least: int, most: int = 1_000_000_000) -> None:
        self.least = least
        self.most = most

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Return the schema of `source` with the bounds (pydantic's hook for metadata)."""
        return {**handler(source), "ge": self.least, "le": self.most}


DirectiveValue = str | int | bool
Count = Annotated[int, Between(1)]
Port = Annotated[int, Between(1024, 65535)]

_NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,254}\Z")
MODULE = re.compile(r"\A-?[A-Za-z0-9_.][A-Za-z0-9_.+/:@=-]{0,254}\Z")
"""An environment module's name, which Lmod and Environment Modules take as one word; with a minus:
to unload."""

_SUFFIX = re.compile(r"\A[A-Za-z0-9.-]{0,64}\Z")
_UMASK = re.compile(r"\A0?0[0-7]{2}\Z")


class _Strict:
    """What says to pydantic how the sections of a site are checked."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "coerce_numbers_to_str": True}


def check_name(what: str, name: str | None) -> None:
    """Refuse what cannot stand in a file's name or on a command line as it is."""
    if name is not None and not _NAME.match(name):
        raise ValueError(f"{what} is {shown(name)}, but must be of letters, digits, _, . and -")


def check_modules(what: str, names: tuple[str, ...]) -> None:
    """Refuse what is not a module's name, such as two of them in one text."""
    for name in names:
        if not MODULE.match(name):
            raise ValueError(
                f"{what} has {shown(name)}, but each must be one module's name, such as gcc/12, "
                "or -gcc to unload it"
            )


@dataclass(frozen=True)
class Target(_Strict):
    """A compute target: a partition, or a way of using one, under a name that people choose.

    ``description`` is shown to people. ``partition``, ``account``, ``qos`` and ``constraint`` are
    sbatch's. ``max_nodes`` is how many nodes a job may have at most. ``slots`` is how many
    processes hpctf may place on a node, ``gpus`` how many GPUs a node has (0: none; absent: not
    known, so not checked), and ``gpu_request`` the directive that asks for them (none: a node comes
    with all of its GPUs). ``gpu_type`` is Slurm's name for their kind. ``cpus_per_task`` and
    ``mem`` (a node's, as Slurm writes it) are requested where the person does not say.
    ``cpus_per_gpu`` are a GPU's share of a node's CPUs: a job with GPUs asks for that many, shared
    out among its tasks, where one without asks for ``cpus_per_task``. ``time_limit`` is what a job
    gets where the person does not say, as Slurm writes it. ``directives`` are added to the job's,
    or replace them; those in ``drop`` are never written, for sites that forbid them. ``clusters``
    names another cluster of the same Slurm (``sbatch --clusters``).
    """

    description: str = ""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    max_nodes: Count | None = None
    slots: Count | None = None
    cpus_per_task: Count | None = None
    cpus_per_gpu: Count | None = None
    mem: str | None = None
    gpus: Annotated[int, Between(0)] | None = None
    gpu_type: str | None = None
    gpu_request: Literal["gpus-per-node", "gres", "none"] = "gpus-per-node"
    time_limit: str | None = None
    clusters: str | None = None
    directives: dict[str, DirectiveValue] = field(default_factory=dict)
    drop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_directives(self.directives)
        check_drop(self.drop)
        check_name("gpu_type", self.gpu_type)
        check_name("clusters", self.clusters)
        if self.time_limit is not None:
            seconds_of(self.time_limit)


@dataclass(frozen=True)
class MpiSettings(_Strict):
    """How MPI ranks are started: ``srun --mpi=<plugin>`` or ``mpirun``, and its options.

    ``launcher`` starts them. ``plugin`` is srun's (``srun --mpi=list``); without one, srun starts
    them as the site's Slurm or its MPI's modules have it. ``command`` is the program that does
    mpirun's work (``mpiexec``, TACC's ``ibrun``). ``options`` are the launcher's own, a word each.
    """

    launcher: Literal["srun", "mpirun"] = "srun"
    plugin: str | None = "pmix"
    command: str = "mpirun"
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name("plugin", self.plugin)
        check_name("command", self.command)


@dataclass(frozen=True)
class PsSettings(_Strict):
    """Where parameter servers run.

    ``placement`` is ``hetjob``: on nodes of their own, without GPUs, in ``target`` if one is named;
    or ``shared``: beside the workers in one step.
    """

    placement: Literal["hetjob", "shared"] = "hetjob"
    target: str | None = None


@dataclass(frozen=True)
class PortRange(_Strict):
    """The ports that TF_CONFIG may use; below Linux's ephemeral range (32768 and up).

    ``first`` and ``last`` are both of the range. ``reserved``: let Slurm reserve ports for each
    step (``srun --resv-ports``, which needs MpiParams=ports=... in slurm.conf), and take those of
    the range only if one is in use.
    """

    first: Port = 20000
    last: Port = 29999
    reserved: bool = False

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError(f"last ({self.last}) lies below first ({self.first})")


@dataclass(frozen=True)
class WarningSettings(_Strict):
    """How runs that restart are warned before their time limit.

    ``signal`` is what Slurm sends to the ranks (``sbatch --signal``), ``grace_s`` the seconds that
    a script has from the warning on.
    """

    signal: Literal["USR1", "USR2"] = "USR2"
    grace_s: Annotated[int, Between(1, 86_400)] = 60


@dataclass(frozen=True)
class NetworkSettings(_Strict):
    """Which network the ranks talk over.

    ``interfaces`` are told to NCCL, Gloo and Open MPI's TCP; ``host_suffix`` makes the name of a
    node's address there out of its Slurm name (JUWELS: ``i``), for TF_CONFIG.
    """

    interfaces: tuple[str, ...] = ()
    host_suffix: str = ""

    def __post_init__(self) -> None:
        for name in self.interfaces:
            check_name("interfaces", name)
        if not _SUFFIX.match(self.host_suffix):
            raise ValueError(
                f"host_suffix is {shown(self.host_suffix)}, but must be of letters, digits, . and -"
            )


@dataclass(frozen=True)
class HorovodSettings(_Strict):
    """How Horovod is built for an environment's TensorFlow and the site's MPI.

    ``version`` is Horovod's. ``gpu_operations`` builds it for GPUs (TensorFlow 2.18 or older);
    ``build_variables`` are set for its build (``HOROVOD_NCCL_HOME``, ``CXX`` ...); options such as
    ``CXXFLAGS`` and folders such as ``PATH`` are added to hpctf's own.
    """

    version: str = "0.28.1"
    gpu_operations: Literal["NCCL", "MPI"] | None = None
    build_variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name("version", self.version)


@dataclass(frozen=True)
class EnvironmentSettings(_Strict):
    """How training environments are built, and where they are kept.

    ``store`` is a folder that login and compute nodes share. ``build_on`` says where building may
    happen; ``build_target`` and ``build_time`` are those of the build's job. ``pip`` is the program
    that installs pip's packages, ``conda`` the one for conda's (micromamba, mamba or conda; absent:
    the first of them that is there, else py-rattler), from ``channels``, which count as
    ``channel_priority`` says. ``virtual_packages`` are what the nodes have where the machine that
    builds has not. ``index_url``, ``extra_index_urls``,
    ``find_links`` (folders of wheels) and ``proxy`` are where packages come from; ``offline``:
    from nowhere but ``find_links`` and caches. ``pythons`` are interpreters, or folders of them,
    that ``python_version`` may choose from, besides those on PATH. ``tensorflow`` is the name of
    the package where it is not PyPI's. ``stage``: nodes get copies of it on their own disks, from
    one file (``squashfs``, ``tar``). ``modules`` are loaded to build and to run. ``horovod`` says
    how Horovod is built.
    """

    store: str = "~/.local/share/hpctf/environments"
    build_on: Literal["login", "job"] = "login"
    build_target: str | None = None
    build_time: str = "01:00:00"
    pip: Literal["uv", "pip"] = "uv"
    conda: str | None = None
    channels: tuple[str, ...] = ("conda-forge",)
    channel_priority: Literal["strict", "flexible", "disabled"] = "flexible"
    virtual_packages: dict[Literal["archspec", "cuda", "glibc"], str] = field(default_factory=dict)
    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    offline: bool = False
    proxy: str | None = None
    pythons: tuple[str, ...] = ()
    tensorflow: str | None = None
    stage: Literal["off", "squashfs", "tar"] = "off"
    modules: tuple[str, ...] = ()
    horovod: HorovodSettings = field(default_factory=HorovodSettings)

    def __post_init__(self) -> None:
        check_name("tensorflow", self.tensorflow)
        check_modules("environments.modules", self.modules)
        seconds_of(self.build_time)


@dataclass(frozen=True)
class ContainerSettings(_Strict):
    """What runs container images, and how.

    ``runtime`` runs them, with ``options`` of its own. ``binds`` are folders that the container
    sees.
    """

    runtime: Literal["apptainer", "singularity", "pyxis", "charliecloud"] = "apptainer"
    options: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()


@dataclass(frozen=True)
class StagingSettings(_Strict):
    """Where nodes keep copies of a run's data on their own disks, and how long.

    ``folder`` is on each node's own disk; its variables are those of the job there. ``$TMPDIR``
    alone is ``/tmp`` where that is not set. ``keep`` is ``job``, or ``node``: copies stay for later
    jobs of the same person, until others need the room. ``compare`` says how a kept copy is
    recognised as what the source is now: by size and ``time``, or by ``content``, which reads both.
    ``fallback`` is what a run does on a node without the room: ``none``, it fails before the
    training starts; ``shared``, the node reads the shared folder.
    """

    folder: str = "$TMPDIR"
    keep: Literal["job", "node"] = "job"
    compare: Literal["time", "content"] = "time"
    fallback: Literal["none", "shared"] = "none"

    def __post_init__(self) -> None:
        if not self.folder.startswith(("/", "$")) or "\0" in self.folder or "\n" in self.folder:
            raise ValueError(
                f"staging.folder is {shown(self.folder)}, but must be an absolute path, or begin "
                "with a variable of the job's, such as $TMPDIR"
            )


@dataclass(frozen=True)
class TrustSettings(_Strict):
    """Who may own and write what is executed as the person: environments, templates, programs.

    ``users`` and ``groups`` are names, besides the person, root, and who owns the admin's folder.
    All members of a group are trusted.
    """

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site(_Strict):
    """A cluster, as its admin describes it.

    ``name`` is what ``--site`` calls it, ``description`` what people are shown. ``extends`` names
    the site whose settings this one starts from. ``scheduler`` is ``slurm``, or ``local``: this
    machine alone. ``runs_root`` is the shared folder of all runs; it may hold ``~`` and
    ``$VARIABLES``. ``models_root`` is that of all registered models; without it they lie in the
    runs root. ``umask`` is what the run folder, all that a run writes, and models are made with.

    ``targets`` are the compute targets by name, ``default_target`` the one used where none is
    named. ``directives`` are sbatch options of every job; those in ``drop`` are never written.
    ``mpi`` says how MPI ranks are started. ``ps`` says where parameter servers run. ``ports`` are
    those that TF_CONFIG may use. ``warning`` says how trainings are warned of their time limit.
    ``network`` is what the ranks talk over. ``environments`` says how training environments are
    built. ``containers`` says what runs images. ``staging`` says where nodes keep copies of a run's
    data. ``trust`` names those whose files may be executed.

    ``modules`` are loaded in every job. ``prologue`` and ``epilogue`` are shell lines before and
    after the step. ``pin_gpus``: a rank sees only its own GPUs. ``azureml``: scripts written for
    Azure ML find ``azureml.core``. ``max_snapshot_mb`` is the largest source folder that goes with
    a run. ``system_metrics_s`` are the seconds between two samples of what each rank uses of its
    node (CPU, memory, GPUs); 0: none are taken. ``questions_per_minute`` is how often at most all
    of a person's commands and notebooks that follow runs together ask Slurm. ``co2_g_per_kwh``
    are the grams of CO2 of the site's power; 0: not known. ``node_energy`` is what Slurm measures
    energy with (AcctGatherEnergyType). ``templates`` is a folder of templates: it comes before
    hpctf's own. ``locked`` are dotted keys (``targets.gpu``) that no later layer or option changes.
    """

    name: str
    extends: str | None = None
    description: str = ""
    scheduler: Literal["slurm", "local"] = "slurm"
    runs_root: str = "~/hpctf-runs"
    models_root: str | None = None
    umask: str = "0077"
    default_target: str = "default"
    targets: dict[str, Target] = field(default_factory=lambda: {"default": Target()})
    directives: dict[str, DirectiveValue] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    mpi: MpiSettings = field(default_factory=MpiSettings)
    ps: PsSettings = field(default_factory=PsSettings)
    ports: PortRange = field(default_factory=PortRange)
    warning: WarningSettings = field(default_factory=WarningSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    environments: EnvironmentSettings = field(default_factory=EnvironmentSettings)
    containers: ContainerSettings = field(default_factory=ContainerSettings)
    staging: StagingSettings = field(default_factory=StagingSettings)
    trust: TrustSettings = field(default_factory=TrustSettings)
    modules: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    epilogue: tuple[str, ...] = ()
    pin_gpus: bool = True
    azureml: bool = True
    max_snapshot_mb: Count = 1000
    system_metrics_s: Annotated[int, Between(0, 86_400)] = 10
    questions_per_minute: Annotated[int, Between(1, 600)] = 4
    co2_g_per_kwh: Annotated[int, Between(0, 5_000)] = 0
    node_energy: Literal["none", "gpu", "ibmaem", "ipmi", "pm_counters", "rapl", "xcc"] = "none"
    templates: str | None = None
    locked: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name("name", self.name)
        check_name("extends", self.extends)
        check_modules("modules", self.modules)
        if not _UMASK.match(self.umask):
            raise ValueError(
                f"umask is {shown(self.umask)}, but must be octal and leave the owner everything, "
                "such as 0077"
            )
        check_directives(self.directives)
        check_drop(self.drop)
        for target in self.targets:
            check_name("the target's name", target)
        named = {
            "default_target": self.default_target,
            "ps.target": self.ps.target,
            "environments.build_target": self.environments.build_target,
        }
        for key, name in named.items():
            if name is not None and name not in self.targets:
                known = ", ".join(sorted(self.targets)) or "none"
                raise ValueError(f"{key} names {shown(name)}, which is not in targets ({known})")


def site_from(content: dict[str, Any]) -> Site:
    """Return the site that `dataclasses.asdict` made plain, also after a way through JSON."""
    targets = {name: _built(Target, target) for name, target in content["targets"].items()}
    site: Site = _built(Site, {**content, "targets": targets})
    return site


def _built(kind: Any, content: dict[str, Any]) -> Any:
    """Return a section of its values: sections in it, and tuples where JSON has lists."""
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in content.items()}
    for one in fields(kind):
        if is_dataclass(one.default_factory) and one.name in values:
            values[one.name] = _built(one.default_factory, values[one.name])
    return kind(**values)
