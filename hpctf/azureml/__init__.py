"""Submission scripts written for Azure ML: change their import lines, and they submit to Slurm.

    from hpctf.azureml.core import Experiment, ScriptRunConfig, Workspace

The names and their parameters are those of Azure ML's SDK v1, over `hpctf.Experiment` and
`hpctf.TensorFlow`: ``azureml.core.compute`` is ``hpctf.azureml.core.compute``, and
``hpctf migrate`` changes the lines. Those used most can be imported from here, too.
docs/azureml-names.md says of each name whether it works, and if not, what to write instead.
"""

from __future__ import annotations

from typing import Any

from hpctf.azureml.compute import (
    AmlCompute,
    AmlComputeStatus,
    ComputeTarget,
    ComputeTargetException,
)
from hpctf.azureml.configuration import (
    DockerConfiguration,
    MpiConfiguration,
    RunConfiguration,
    ScriptRunConfig,
    TensorflowConfiguration,
)
from hpctf.azureml.datasets import (
    Dataset,
    DatasetConsumptionConfig,
    FileDataset,
    FileDatasetFactory,
    TabularDatasetFactory,
)
from hpctf.azureml.datastore import DataPath, DataPathComputeBinding, DataReference, Datastore
from hpctf.azureml.environment import CondaDependencies, DockerSection, Environment, PythonSection
from hpctf.azureml.estimators import NOTED, Estimator, Mpi, ParameterServer, TensorFlow
from hpctf.azureml.experiments import Experiment
from hpctf.azureml.hyperdrive import NAMES as _OF_HYPERDRIVE
from hpctf.azureml.models import Model, ResourceConfiguration
from hpctf.azureml.modules import install, surface
from hpctf.azureml.runs import Run, RunDetails
from hpctf.azureml.webservices import CLASSES as _OF_SERVICES
from hpctf.azureml.workspace import Keyvault, Workspace
from hpctf.errors import HpctfError, TrainingFailed, UsageError

__all__ = [
    "NOTED",
    "AmlCompute",
    "ComputeTarget",
    "ComputeTargetException",
    "CondaDependencies",
    "DataPath",
    "DataReference",
    "Dataset",
    "Datastore",
    "DockerConfiguration",
    "Environment",
    "Estimator",
    "Experiment",
    "Model",
    "Mpi",
    "MpiConfiguration",
    "ParameterServer",
    "Run",
    "RunConfiguration",
    "RunDetails",
    "ScriptRunConfig",
    "TensorFlow",
    "TensorflowConfiguration",
    "Workspace",
]

VERSION = ".".join(surface()["versions"]["azureml-core"].split(".")[:3])
"""The version of azureml-core whose names these are."""


class Authentication:
    """Any of Azure ML's ways to log in: there is nothing to log in to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


def nothing(*args: Any, **kwargs: Any) -> None:
    """Do nothing: hpctf sends nothing to anybody (``azureml.telemetry``)."""


_FAILED = ("ActivityFailedException", "ExperimentExecutionException", "TrainingException")
_SURFACE = surface()["modules"]
_EXCEPTIONS = {
    name: TrainingFailed if name in _FAILED else UsageError
    for name in _SURFACE["azureml.exceptions"]
} | {"AzureMLException": HpctfError}
_SELDOM = (
    *(AmlComputeStatus, DataPathComputeBinding, DatasetConsumptionConfig, DockerSection, Keyvault),
    *(FileDataset, FileDatasetFactory, PythonSection, TabularDatasetFactory),
    ResourceConfiguration,
    *_OF_SERVICES,
)
_OURS = {name: globals()[name] for name in __all__ if name != "NOTED"} | {
    **_EXCEPTIONS,
    **{cls.__name__: cls for cls in _SELDOM},
    **_OF_HYPERDRIVE,
    "DockerEnvironment": DockerSection,
    "EnvironmentDefinition": Environment,
    "PythonEnvironment": PythonSection,
    "ScriptRun": Run,
    "get_run": Run.get,
    "set_diagnostics_collection": nothing,
}

install(
    _OURS,
    {
        "azureml.core": {"VERSION": VERSION, "__version__": VERSION},
        "azureml.core.authentication": dict.fromkeys(
            _SURFACE["azureml.core.authentication"], Authentication
        ),
        "azureml.core.runconfig": {"DEFAULT_CPU_IMAGE": None, "DEFAULT_GPU_IMAGE": None},
        "azureml.core.environment": {"DEFAULT_CPU_IMAGE": None, "DEFAULT_GPU_IMAGE": None},
    },
)
