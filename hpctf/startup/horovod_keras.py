"""Horovod's Keras modules: refused under Keras 3, put right under tf-keras."""

import os
import sys
from functools import wraps
from types import ModuleType
from typing import Any, Optional

from .versions import major

ALLOW = "HPCTF_ALLOW_HOROVOD_KERAS"
"""Set to 1 by who wants Horovod's module under Keras 3 all the same."""


def refuse_keras_3(module: ModuleType) -> None:
    """Refuse a module that would use Keras 3, before it runs.

    Raises
    ------
    ImportError
        Keras is version 3 or later, and nobody has said that this is wanted.
    """
    version = _keras_of(module.__name__)
    if major(version) >= 3 and os.environ.get(ALLOW) != "1":
        raise ImportError(_refusal(module.__name__, str(version)), name=module.__name__)


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
            raise TypeError(
                "DistributedOptimizer: this {} is of Keras {}, but TF_USE_LEGACY_KERAS=1 chooses "
                "tf-keras, and Horovod would not average its gradients. Take it from tf.keras, or "
                "leave TF_USE_LEGACY_KERAS out and import hpctf.keras as hvd.".format(
                    type(optimizer).__name__, version
                )
            )
        return own(optimizer, *args, **kwargs)

    module.DistributedOptimizer = DistributedOptimizer


def _refusal(name: str, version: str) -> str:
    own = name == "horovod.keras"  # it takes the package keras, which is Keras 3 then, too
    legacy = "import horovod.tensorflow.keras as hvd" if own else "this import as it is"
    return (
        "{name} does not average gradients under Keras 3 (here {version}), and says nothing of it: "
        "each rank would train a model of its own. Change this import to\n"
        "    import hpctf.keras as hvd\n"
        "which has the same names. Or train with tf-keras: TF_USE_LEGACY_KERAS=1 in the run's "
        "environment, and {legacy}. Set {allow}=1 to import it all the same."
    ).format(name=name, version=version, legacy=legacy, allow=ALLOW)
