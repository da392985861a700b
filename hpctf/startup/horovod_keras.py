"""Horovod's Keras modules: refused under Keras 3, put right under tf-keras and Keras 2.

In a run of several ranks a refusal ends the rank: behind ``except: hvd = None``, which many scripts
have, each rank would train alone, and say nothing of it. A process that has no others to train with
gets an exception, and may go on without Horovod.
"""

import os
import sys
from functools import wraps
from types import ModuleType
from typing import Any, NoReturn, Optional, Type

from . import horovod_rates, this_rank
from .versions import major, tf_keras, versions

ALLOW = "HPCTF_ALLOW_HOROVOD_KERAS"
"""Set to 1 by who wants Horovod's module under Keras 3 all the same."""


def refuse_keras_3(module: ModuleType) -> None:
    """Refuse a module that would use Keras 3, before it runs, unless somebody wants it so."""
    version = _keras_of(module.__name__)
    if major(version) >= 3 and os.environ.get(ALLOW) != "1":
        _refuse(_refusal(module.__name__, str(version)), ImportError)


def _refuse(words: str, kind: Type[Exception]) -> NoReturn:
    if this_rank.trains_with_others():
        this_rank.end("refused: " + words)
    raise kind(words)


def put_right(module: ModuleType) -> None:
    """Give ``horovod.tensorflow.keras`` the backend of the Keras it works with.

    From TensorFlow 2.16 on its ``from keras import backend as K`` finds Keras 3's, with which
    MetricAverageCallback and the callbacks of learning rates fail.
    """
    import tensorflow

    if major(_keras_of(module.__name__)) >= 3:  # as its user wants it
        return
    for one in (module, getattr(module, "callbacks", None)):
        if hasattr(one, "K"):
            one.K = tensorflow.keras.backend  # type: ignore[union-attr]
    _refuse_optimizers_of_keras_3(module)
    horovod_rates.put_right(module)


def _keras_of(name: str) -> Optional[str]:
    """Return the version of the Keras that a module of Horovod's would use, or None if it cannot
    be told: the module then says itself what is missing."""
    try:
        if name == "horovod.keras":
            import keras

            version = keras.__version__
        else:
            import tensorflow

            # tf-keras's public module has no version: the package does that classes come from.
            package = tensorflow.keras.Model.__module__.partition(".")[0]
            version = sys.modules[package].__version__
    except (ImportError, AttributeError):
        return None
    return str(version) if str(version).partition(".")[0].isdigit() else None


def _refuse_optimizers_of_keras_3(module: Any) -> None:
    """Make Horovod refuse an optimizer that a script has from the package keras beside tf-keras:
    it would wrap that, too, and not average."""
    own = getattr(module, "DistributedOptimizer", None)
    if own is None:
        return

    @wraps(own)
    def DistributedOptimizer(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        packages = {base.__module__.partition(".")[0] for base in type(optimizer).__mro__}
        version = str(getattr(sys.modules.get("keras"), "__version__", "0"))
        if "keras" in packages and major(version) >= 3:
            words = (
                f"DistributedOptimizer: this {type(optimizer).__name__} is of Keras {version}, but "
                "TF_USE_LEGACY_KERAS=1 chooses tf-keras, and Horovod would not average its "
                "gradients. Take it from tf.keras, or leave TF_USE_LEGACY_KERAS out and import "
                "hpctf.keras as hvd."
            )
            _refuse(words, TypeError)
        return own(optimizer, *args, **kwargs)

    module.DistributedOptimizer = DistributedOptimizer


def _refusal(name: str, version: str) -> str:
    """Return why, and what to do: the flag first, with which the script stays as it is."""
    legacy = "Pass --env TF_USE_LEGACY_KERAS=1: tf.keras is tf-keras then, and this import works."
    if name == "horovod.keras":  # it takes the package keras, which stays Keras 3
        legacy = (
            "Pass --env TF_USE_LEGACY_KERAS=1, and write: import horovod.tensorflow.keras as hvd, "
            "and: from tensorflow import keras."
        )
    if "tf-keras" not in versions():
        legacy += f" (Install it first: pip install --no-deps '{tf_keras()}'.)"
    return (
        f"{name} does not average gradients under Keras 3 (here {version}), and says nothing of "
        f"it: each rank would train a model of its own. {legacy} Or change the import to: import "
        "hpctf.keras as hvd, which has the same names, and take experimental_run_tf_function out "
        f"of model.compile. --env {ALLOW}=1 imports it as it is."
    )
