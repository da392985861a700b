"""What a site configuration may say: the schema that every site's YAML is checked against."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Count = Annotated[int, Field(ge=1)]
DirectiveValue = str | int | bool

DIRECTIVE_KEY = re.compile(r"^[a-z][a-z0-9-]*$")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _check_directives(directives: dict[str, DirectiveValue]) -> dict[str, DirectiveValue]:
    for key, value in directives.items():
        if not DIRECTIVE_KEY.match(key):
            raise ValueError(f"{key!r} is not the long name of an sbatch option, such as 'mem'")
        if isinstance(value, str) and not value.isprintable():
            raise ValueError(f"the value of {key!r} holds a control character or a line break")
    return directives


class Target(_Section):
    """A compute target: a partition, or a way of using one, under a name that people choose.

    ``slots`` is how many processes hpctf may place on a node, ``gpus`` how many GPUs a node has
    (0: none; absent: not known, so not checked). ``directives`` are added to the job's, or
    replace them; those in ``drop`` are never written, for sites that forbid them.
    """

    description: str = ""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    max_nodes: Count | None = None
    slots: Count | None = None
    cpus_per_task: Count | None = None
    mem: str | None = None
    gpus: Annotated[int, Field(ge=0)] | None = None
    gpu_type: Name | None = None
    gpu_request: Literal["gpus-per-node", "gres"] = "gpus-per-node"
    time_limit: str | None = None
    directives: dict[str, DirectiveValue] = Field(default_factory=dict)
    drop: tuple[str, ...] = ()

    _directives = field_validator("directives")(_check_directives)


class MpiSettings(_Section):
    """How MPI ranks are started: ``srun --mpi=<plugin>`` or ``mpirun``, and its options."""

    launcher: Literal["srun", "mpirun"] = "srun"
    plugin: Name | None = "pmix"
    options: tuple[str, ...] = ()


class PsSettings(_Section):
    """Where parameter servers run.

    ``hetjob``: on nodes of their own, without GPUs, in ``target`` if one is named; ``shared``:
    beside the workers in one step.
    """

    placement: Literal["hetjob", "shared"] = "hetjob"
    target: Name | None = None


class PortRange(_Section):
    """The ports that TF_CONFIG may use; below Linux's ephemeral range (32768 and up)."""

    first: Annotated[int, Field(ge=1024, le=65535)] = 20000
    last: Annotated[int, Field(ge=1024, le=65535)] = 29999

    @model_validator(mode="after")
    def _ordered(self) -> PortRange:
        if self.last < self.first:
            raise ValueError(f"last ({self.last}) lies below first ({self.first})")
        return self


class Site(_Section):
    """A cluster, as its admin describes it."""

    name: Name
    description: str = ""
    scheduler: Literal["slurm", "local"] = "slurm"
    runs_root: str = "~/hpctf-runs"
    default_target: Name = "default"
    targets: dict[Name, Target] = Field(default_factory=lambda: {"default": Target()})
    directives: dict[str, DirectiveValue] = Field(default_factory=dict)
    drop: tuple[str, ...] = ()
    mpi: MpiSettings = MpiSettings()
    ps: PsSettings = PsSettings()
    ports: PortRange = PortRange()
    modules: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    epilogue: tuple[str, ...] = ()
    pin_gpus: bool = True
    max_snapshot_mb: Count = 1000
    templates: str | None = None

    _directives = field_validator("directives")(_check_directives)

    @model_validator(mode="after")
    def _targets_exist(self) -> Site:
        for key, name in (("default_target", self.default_target), ("ps.target", self.ps.target)):
            if name is not None and name not in self.targets:
                known = ", ".join(sorted(self.targets)) or "none"
                raise ValueError(f"{key} names {name!r}, which is not in targets ({known})")
        return self
