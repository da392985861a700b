"""hpctf: train TensorFlow models on Slurm clusters, as easily as with Azure ML's estimator.

    from hpctf import Experiment, TensorFlow

    estimator = TensorFlow(source_directory="my-proj", entry_script="train.py",
                           script_params={"--batch-size": 50}, node_count=2,
                           distributed_backend="mpi")
    run = Experiment("mnist").submit(estimator)
    run.wait_for_completion(show_output=True)

Importing the package is cheap: each name is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from hpctf._version import __version__ as __version__
    from hpctf.client.hpctf.distribution import strategy
    from hpctf.client.hpctf.sharding import shard
    from hpctf.cluster_spec import tf_config
    from hpctf.errors import HpctfError, TrainingFailed, UsageError
    from hpctf.estimator.stage import Stage
    from hpctf.estimator.tensorflow import Mpi, MultiWorker, ParameterServer, TensorFlow
    from hpctf.experiment import Experiment
    from hpctf.export.onnx_model import export_litert, export_onnx
    from hpctf.hyperdrive_run import HyperDriveRun
    from hpctf.model import Model
    from hpctf.run import Run
    from hpctf.scores import resume_scoring, score
    from hpctf.serving.deploy import InferenceConfig
    from hpctf.studies import tune
    from hpctf.tuning.config import HyperDriveConfig
    from hpctf.webservice import LocalWebservice, SlurmWebservice, Webservice

# What training scripts import is one set of files, whether all of hpctf is installed or its client.
__path__.append(__path__[0] + "/client/hpctf")

__all__ = [
    "Experiment",
    "HpctfError",
    "HyperDriveConfig",
    "HyperDriveRun",
    "InferenceConfig",
    "LocalWebservice",
    "Model",
    "Mpi",
    "MultiWorker",
    "ParameterServer",
    "Run",
    "SlurmWebservice",
    "Stage",
    "TensorFlow",
    "TrainingFailed",
    "UsageError",
    "Webservice",
    "export_litert",
    "export_onnx",
    "resume_scoring",
    "score",
    "shard",
    "strategy",
    "tf_config",
    "tune",
]

_HOMES = {
    "__version__": "hpctf._version",
    "Experiment": "hpctf.experiment",
    "HpctfError": "hpctf.errors",
    "export_litert": "hpctf.export.onnx_model",
    "export_onnx": "hpctf.export.onnx_model",
    "HyperDriveConfig": "hpctf.tuning.config",
    "HyperDriveRun": "hpctf.hyperdrive_run",
    "InferenceConfig": "hpctf.serving.deploy",
    "LocalWebservice": "hpctf.webservice",
    "Model": "hpctf.model",
    "Mpi": "hpctf.estimator.tensorflow",
    "MultiWorker": "hpctf.estimator.tensorflow",
    "ParameterServer": "hpctf.estimator.tensorflow",
    "Run": "hpctf.run",
    "SlurmWebservice": "hpctf.webservice",
    "Stage": "hpctf.estimator.stage",
    "TensorFlow": "hpctf.estimator.tensorflow",
    "TrainingFailed": "hpctf.errors",
    "UsageError": "hpctf.errors",
    "Webservice": "hpctf.webservice",
    "resume_scoring": "hpctf.scores",
    "score": "hpctf.scores",
    "shard": "hpctf.sharding",
    "strategy": "hpctf.distribution",
    "tf_config": "hpctf.cluster_spec",
    "tune": "hpctf.studies",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "keras":
        return import_module("hpctf.keras")
    if name not in _HOMES:
        raise AttributeError(f"module 'hpctf' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
