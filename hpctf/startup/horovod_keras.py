"""Horovod's Keras modules: refused under Keras 3, put right under tf-keras.

Python 3.8 and up, standard library only; loaded by `sitecustomize` when a script imports one.
"""

import os
import sys
from functools import wraps
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Optional

ALLOW = "HPCTF_ALLOW_HOROVOD_KERAS"
"""Set to 1 by who wants Horovod's module under Keras 3 all the same."""


def guarded(name: str, path: Any, target: Any, but: Any) -> Optional[ModuleSpec]:
    """Return what all finders `but` one find, with a loader that looks first; or None."""
    for finder in list(sys.meta_path):
        find = getattr(finder, "find_spec", None)
        found: Optional[ModuleSpec] = (
            find(name, path, target) if find and finder is not but else None
        )
        if found is not None:
            if found.loader is not None:
                found.loader = Guarded(found.loader)  # type: ignore[assignment]
            return found
    return None


class Guarded:
    """A loader that refuses Horovod's Keras module where it would train wrong, and puts it right
    where it only has the wrong import; in all else it is the loader it was made of."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_loader"], name)

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        """Return the loader's module, or None."""
        made: Optional[ModuleType] = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, if it is right to.

        Raises
        ------
        ImportError
            Keras is version 3 or later, and nobody has said that this is wanted.
        """
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        name = module.__name__
        version = _keras_of(name)
        keras_3 = version is not None and int(version.partition(".")[0]) >= 3
        if keras_3 and os.environ.get(ALLOW) != "1":
            raise ImportError(_refusal(name, str(version)), name=name)
        self._loader.exec_module(module)
        if not keras_3 and name == "horovod.tensorflow.keras":
            _put_right(module)


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


def _put_right(module: ModuleType) -> None:
    """Give Horovod's module the backend of the Keras it works with.

    From TensorFlow 2.16 on its ``from keras import backend as K`` finds Keras 3's, with which
    MetricAverageCallback and the callbacks of learning rates fail.
    """
    import tensorflow

    for one in (module, getattr(module, "callbacks", None)):
        if hasattr(one, "K"):
            one.K = tensorflow.keras.backend  # type: ignore[union-attr]
    _refuse_optimizers_of_keras_3(module)


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
        if "keras" in packages and int(version.partition(".")[0]) >= 3:
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
