"""Registers what a run has kept as a model, from within the run.

The registry is the work of the hpctf that submitted the run, in a Python of its own: the script's
may have nothing that it needs.
"""

import json
import os
import subprocess
from typing import Any, Dict, Mapping, Optional

from .refusing import refusal
from .values import scalar

PYTHON = "HPCTF_PYTHON"
"""The variable that names hpctf's Python on the node."""

_OF_THE_SCRIPT = ("PYTHON", "LD_PRELOAD", "VIRTUAL_ENV")
"""How variables begin that are the script's environment's."""


class RegisteredModel:
    """A version of a model that was registered in this run.

    Attributes
    ----------
    name, version, id
        Such as ``digits``, 3 and ``digits:3``.
    tags, properties, description
        What is said of it.
    """

    def __init__(self, details: Mapping[str, Any]) -> None:
        self.name: str = details["name"]
        self.version: int = details["version"]
        self.id: str = details["id"]
        self.tags: Dict[str, Any] = details["tags"]
        self.properties: Dict[str, Any] = details["properties"]
        self.description: str = details["description"] or ""

    def __repr__(self) -> str:
        return f"Model({self.id})"


def register(folder: str, name: str, path: Optional[str], about: Mapping[str, Any]) -> Any:
    """Register a file or folder of a run, and return the version.

    Parameters
    ----------
    about
        ``tags`` and ``properties``, and the options of ``hpctf models register``.

    Raises
    ------
    RuntimeError
        It is not registered; the error says why.
    """
    python = os.environ.get(PYTHON)
    if python is None:
        raise refusal(
            RuntimeError,
            f"run.register_model({name!r}): hpctf cannot be called from within a container. Write "
            "the model to ./outputs, and register it once the run has ended, with: hpctf models "
            f"register {name} outputs/MODEL --run {os.path.basename(folder)}",
        )
    words = [python, "-I", "-m", "hpctf", "models", "register", "--json", "--run", folder]
    for kind in ("tags", "properties"):
        for key, value in (about.get(kind) or {}).items():
            words += [_OPTIONS[kind], f"{key}={scalar(value, f'register_model({kind})')}"]
    for option in ("description", "framework", "framework-version"):
        if about.get(option) is not None:
            words += [f"--{option}", str(about[option])]
    done = subprocess.run(
        [*words, "--", name, name if path is None else path],
        env=_environment(),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    if done.returncode != 0:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise RuntimeError(f"run.register_model({name!r}): {said.replace('hpctf: error: ', '')}")
    return RegisteredModel(json.loads(done.stdout))


_OPTIONS = {"tags": "--tag", "properties": "--property"}


def _environment() -> Dict[str, str]:
    return {key: os.environ[key] for key in os.environ if not key.startswith(_OF_THE_SCRIPT)}
