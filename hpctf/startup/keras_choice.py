"""Which Keras ``tf.keras`` is: with parameter servers and MultiWorkerMirroredStrategy, tf-keras.

Measured with TensorFlow 2.21 and Keras 3.15: under MultiWorkerMirroredStrategy ``fit`` of Keras 3
fails, and under ParameterServerStrategy all of it does. tf-keras works under both.
"""

import os
import re
import sys
from types import ModuleType

from . import this_rank, tried
from .versions import major, tf_keras, versions

VARIABLE = "TF_USE_LEGACY_KERAS"
"""What TensorFlow looks at, as it is imported; who has set it, has chosen."""

_BACKENDS = {"ps": "ParameterServerStrategy", "collective": "MultiWorkerMirroredStrategy"}

_TF_KERAS = re.compile(
    r"\b(?:tensorflow|tf)\.keras\b|\btf_keras\b|from tensorflow import .*\bkeras\b"
)
"""What a script names that goes on without the package ``keras``."""

_chosen = False


def choose() -> None:
    """Make ``tf.keras`` tf-keras, before TensorFlow is imported, where Keras 3 does not train."""
    global _chosen
    concerned = os.environ.get("HPCTF_BACKEND") in _BACKENDS and VARIABLE not in os.environ
    if not concerned or _chosen:
        return
    there = versions()
    if major(there.get("Keras")) < 3:
        return
    _chosen = True
    os.environ[VARIABLE] = "1"
    if os.environ.get("HPCTF_RANK") == "0" and "tf-keras" in there:
        why = f"Keras {there['Keras']} does not train with {_strategy()}."
        this_rank.tell(
            f"tf.keras is tf-keras {there['tf-keras']} in this run ({VARIABLE}=1): {why}"
        )


def tell_what_is_missing() -> None:
    """Say what to do where ``tf.keras`` is used and tf-keras is not there.

    TensorFlow looks for it at its own import, too: whoever does without Keras need not be told.
    """
    spec = getattr(sys.modules.get("tensorflow"), "__spec__", None)
    if not _chosen or spec is None or getattr(spec, "_initializing", False):
        return
    this_rank.tell(
        f"tf.keras must be tf-keras with {_strategy()}, and {sys.executable} does not have it. "
        f"Install it there: pip install --no-deps '{tf_keras()}'. Or --env {VARIABLE}=0, to have "
        "Keras 3 all the same."
    )


def refuse_keras_3(module: ModuleType) -> None:
    """Refuse the package ``keras`` where tf-keras is chosen, by hpctf or by who runs the training.
    Raises `ImportError` if it is Keras 3: its models do not train here, and its optimizers clip
    gradients before they are exchanged."""
    version = versions().get("Keras")
    if os.environ.get("HPCTF_BACKEND") not in _BACKENDS or major(version) < 3:
        return
    legacy = os.environ.get(VARIABLE, "1") in ("1", "true", "True")  # as TensorFlow reads it
    if _chosen or legacy:
        words = (
            f"keras is Keras {version} here, which does not train with {_strategy()}. Change this "
            "import to\n    from tensorflow import keras\nwhich is tf-keras in this run. Or train "
            f"with Horovod (--backend mpi, import hpctf.keras). --env {VARIABLE}=0 imports it all "
            "the same."
        )
        if tried.is_imported_by_script() and not tried.importer_names(_TF_KERAS):
            this_rank.refused(words)
        raise ImportError(words, name=module.__name__)
    if os.environ.get("HPCTF_RANK") == "0":
        # What goes wrong in a loop, no library says (docs/correctness.md).
        amiss = "may count fewer steps than it takes, for Adam and for schedules"
        if os.environ["HPCTF_BACKEND"] == "collective":
            amiss = "clips gradients before they are exchanged"
        asks = f"Keras {version} with {_strategy()}, as {VARIABLE}={os.environ[VARIABLE]} asks"
        this_rank.tell(f"{asks}: fit fails, and a loop of one's own {amiss}.")


def _strategy() -> str:
    return _BACKENDS[os.environ["HPCTF_BACKEND"]]
