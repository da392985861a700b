"""What a training environment is made of, and the name that its content gives it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from hpctf.common.secrets import without_credentials
from hpctf.environment.requirements import Sources
from hpctf.errors import UsageError, shown

RECIPE = 1
"""How hpctf builds: a change that makes other environments of the same packages raises it."""

_LATER = ("channel_priority", "virtual_packages", "variables", "purpose")
"""Fields that came later: where they are empty, an environment keeps the name it had before."""


@dataclass(frozen=True)
class EnvironmentSpec:
    """All that makes a training environment what it is. Two that differ never share a folder.

    Parameters
    ----------
    kind
        ``pip``: a virtual environment over `python`; ``conda``: Python comes from conda.
    python_version
        Of a pip environment's interpreter, in full (``3.11.2``); of a conda one's, as asked.
    python
        The interpreter that a pip environment is made with.
    pip, constraints
        Requirements, each as pip reads it, and what limits them.
    local
        Folders and files of this machine among them, each with the digest of its content.
    conda, channels
        Conda packages, and the channels that they come from, the first one first.
    tensorflow
        The requirement that brings TensorFlow; None if `pip` or `conda` names it, or none does.
    tensorflow_version
        What is known of its version before anything is resolved: ``2.21``, or ``""``.
    horovod
        The version of Horovod that is built for it; None: without.
    gpu_operations, build_variables, mpi
        How Horovod is built, and the MPI that it is built for (``Open MPI 4.1.4``).
    modules
        Environment modules that are loaded to build and to run.
    channel_priority
        Conda's: ``strict``, ``flexible`` or ``disabled``; empty in a pip environment.
    virtual_packages
        Names and versions of conda's virtual packages (``cuda``, ``12.4``) that the site says.
    variables
        What an ``environment.yml`` sets in the environment.
    locked
        Exact versions to install in place of what `pip` resolves to, from a lock file.
    locked_conda
        The same of `conda`: addresses of packages.
    purpose
        What an environment of hpctf's own is for (`hpctf.environment.own`); empty: for training.
    """

    kind: Literal["pip", "conda"]
    python_version: str
    python: str = ""
    pip: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    sources: Sources = field(default_factory=Sources)
    local: tuple[tuple[str, str], ...] = ()
    conda: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    tensorflow: str | None = None
    tensorflow_version: str = ""
    horovod: str | None = None
    gpu: bool = False
    gpu_operations: str | None = None
    build_variables: tuple[tuple[str, str], ...] = ()
    mpi: str = ""
    modules: tuple[str, ...] = ()
    machine: str = "x86_64"
    locked: tuple[str, ...] = ()
    locked_conda: tuple[str, ...] = ()
    channel_priority: str = ""
    virtual_packages: tuple[tuple[str, str], ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    purpose: str = ""

    @property
    def overrides(self) -> dict[str, str]:
        """The variables by which conda, mamba and py-rattler read `virtual_packages`."""
        return {
            f"CONDA_OVERRIDE_{name.upper()}": version for name, version in self.virtual_packages
        }

    @property
    def key(self) -> str:
        """The environment's name: what people look for, and a digest of all that it is made of.

        The order of packages does not matter, nor that of constraints; that of channels and
        modules does.
        """
        content = self.public()
        for name in ("pip", "constraints", "conda", "local", "locked"):
            content[name] = sorted(content[name])
        for name in _LATER:
            if not content[name]:
                del content[name]
        content["recipe"] = RECIPE
        text = json.dumps(content, sort_keys=True)
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:10]
        short = ".".join(self.python_version.split(".")[:2])
        words = [self.purpose or f"tf{self.tensorflow_version}", f"py{short}"]
        words += ["conda"] if self.kind == "conda" else []
        words += ["gpu"] if self.gpu else []
        words += ["mpi"] if self.horovod else []
        return re.sub(r"[^A-Za-z0-9.-]", "_", "-".join([*words, digest]))

    def as_json(self) -> dict[str, Any]:
        """Return the spec as what JSON can hold; `spec_from` makes it a spec again."""
        return dict(json.loads(json.dumps(asdict(self))))

    def public(self) -> dict[str, Any]:
        """Return it as `as_json` does, without the passwords of addresses: what is kept and shown.
        With another password it is the same environment."""
        return dict(without_credentials(self.as_json()))


def spec_from(content: dict[str, Any]) -> EnvironmentSpec:
    """Return the spec that `EnvironmentSpec.as_json` returned.

    Raises
    ------
    UsageError
        It is none.
    """
    known = {f.name for f in fields(EnvironmentSpec)}
    try:
        if set(content) - known:
            raise TypeError(f"unknown: {', '.join(sorted(set(content) - known))}")
        values = {name: _frozen(value) for name, value in content.items() if name != "sources"}
        sources = Sources(**{k: _frozen(v) for k, v in content.get("sources", {}).items()})
        return EnvironmentSpec(**values, sources=sources)
    except (TypeError, AttributeError) as error:
        raise UsageError(
            f"This is no environment's description: {shown(str(error))}.",
            "Pass a file that hpctf itself wrote.",
        ) from None


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
