"""``azureml.core`` for scripts written for Azure ML, where their environment has none.

Loaded when a script imports azureml and no other finder has it (`sitecustomize`). The Run it gives
is `hpctf.azureml_run`, over hpctf's own tracking client.
"""

import os
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn, Optional

from . import this_rank, tried

PROVIDED = ("azureml", "azureml.core", "azureml.core.run", "azureml.telemetry")

VERSION = "1.61.0"
"""The version of azureml-core whose names these are."""

_INPUTS = "name the data as inputs (--input NAME=PATH): the script finds them at HPCTF_INPUT_<NAME>"
_FILES = "keep files with the run: ./outputs, or run.upload_file"
_MODELS = (
    "write the model to ./outputs, and register it once the run has ended: hpctf models register; "
    "an earlier one is an input (--input NAME=PATH)"
)
_SUBMISSION = "submission scripts import from hpctf.azureml, where hpctf is installed"

REFUSED = {
    "Dataset": _INPUTS,
    "Datastore": _INPUTS,
    "Environment": _SUBMISSION,
    "Experiment": "Run.get_context().experiment is this run's; " + _SUBMISSION,
    "Keyvault": "pass --env NAME=VALUE, or read a file that only you can read",
    "Model": _MODELS,
    "RunConfiguration": _SUBMISSION,
    "ScriptRunConfig": _SUBMISSION,
    "Webservice": _FILES,
    "Workspace": "there is no workspace on a cluster; Run.get_context() is the run",
}
"""Names of ``azureml.core`` that mean nothing within a training, and the way out."""

_OF_SUBMISSION = (
    *("contrib", "pipeline", "train", "widgets"),
    *("core.compute", "core.conda_dependencies", "core.environment", "core.runconfig"),
)
REFUSED_MODULES = {
    **{f"azureml.{name}": _SUBMISSION for name in _OF_SUBMISSION},
    **dict.fromkeys(("azureml.core.dataset", "azureml.core.datastore", "azureml.data"), _INPUTS),
    "azureml.core.authentication": "there is nothing to log in to",
    "azureml.core.experiment": REFUSED["Experiment"],
    "azureml.core.model": _MODELS,
    "azureml.core.workspace": REFUSED["Workspace"],
}


def found(name: str) -> Optional[ModuleSpec]:
    """Return the spec of a module that stands in; None for those that there are none of. One that
    means nothing here is refused, with the way out."""
    if name in REFUSED_MODULES:
        words = _refusal(name, REFUSED_MODULES[name])
        if tried.is_imported_by_script():
            this_rank.refused(words)
        raise ModuleNotFoundError(words, name=name)
    if name not in PROVIDED:
        return None
    loader: Any = Loader()
    return ModuleSpec(name, loader, origin=__file__, is_package=name in PROVIDED[:2])


class Loader:
    """Makes the modules that stand in."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module."""
        if module.__name__ == "azureml":
            return
        if module.__name__ == "azureml.telemetry":
            # hpctf sends nothing to anybody.
            vars(module).update(set_diagnostics_collection=lambda *args, **kwargs: None)
            return
        run = import_module("hpctf.azureml_run")
        vars(module).update(
            Run=run.Run, VERSION=VERSION, __all__=["Run"], __doc__=run.__doc__, __getattr__=_refuse
        )


def tell_of_the_real_one(module: ModuleType) -> None:
    """Say once a run that Azure ML's own package goes before the one that stands in."""
    of_ours = isinstance(module.__loader__, Loader)
    if of_ours or os.environ.get("HPCTF_RANK") != "0" or "HPCTF_WITHOUT_AZUREML" in os.environ:
        return
    folder = os.path.dirname(getattr(module, "__file__", None) or "")
    this_rank.tell(
        f"azureml.core is Azure ML's own here ({folder}): Run.get_context() gives its offline run, "
        "and what is logged is printed, not kept. Uninstall azureml-core from the training "
        "environment, or log with: from hpctf import Run. --no-azureml says nothing of this."
    )


def _refuse(name: str) -> NoReturn:
    if name in REFUSED:
        words = _refusal("azureml.core." + name, REFUSED[name])
        if tried.is_imported_by_script():
            this_rank.refused(words)
        raise ImportError(words, name="azureml.core")
    raise AttributeError(f"module 'azureml.core' has no attribute {name!r} under hpctf")


def _refusal(name: str, instead: str) -> str:
    return f"{name} is not there in a run of hpctf: {instead} (docs/from-azure-ml.md)."
