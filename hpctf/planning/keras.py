"""Which Keras a script trains with on a backend; what would not train is refused before the queue.

Measured with TensorFlow 2.21 and Keras 3.15: Keras 3 trains under neither ParameterServerStrategy
nor MultiWorkerMirroredStrategy, and Horovod's own Keras modules do not average its gradients. In a
run the same is seen to by `hpctf.startup`, which also knows what cannot be known here: functions,
images, modules, and what a script chooses itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from hpctf.errors import UsageError

if TYPE_CHECKING:
    from hpctf.environment.activation import Entering
    from hpctf.environment.libraries import Libraries
    from hpctf.environment.spec import EnvironmentSpec
    from hpctf.estimator.script_imports import Imports, Place
    from hpctf.estimator.tensorflow import TensorFlow

VARIABLE = "TF_USE_LEGACY_KERAS"
"""What TensorFlow looks at, as it is imported; who sets it, chooses."""

ALLOW = "HPCTF_ALLOW_HOROVOD_KERAS"
"""Set to 1 by who wants Horovod's module under Keras 3 all the same."""

_STRATEGIES = {"ps": "ParameterServerStrategy", "collective": "MultiWorkerMirroredStrategy"}

_HOROVODS = ("horovod.tensorflow.keras", "horovod.keras")

_TF_KERAS = (
    "tensorflow.keras",
    "tensorflow.compat.v1.keras",
    "tensorflow.compat.v2.keras",
    # TensorFlow's other names for parts of Keras
    "tensorflow.initializers",
    "tensorflow.losses",
    "tensorflow.metrics",
    "tensorflow.optimizers",
)


def settle_keras(
    estimator: TensorFlow,
    read: Callable[[], Imports | None],
    entering: Entering,
    spec: EnvironmentSpec | None,
) -> tuple[str, ...]:
    """Return what the person should be told of the Keras that the script gets.

    Parameters
    ----------
    read
        Returns what the script imports, once it matters.
    entering, spec
        How the run gets into its environment, and what that is made of, if hpctf builds it.

    Raises
    ------
    UsageError
        The script would fail with that Keras on the estimator's backend, or train wrong in silence.
    """
    if estimator.backend == "single" or entering.inside or estimator.modules:
        return ()
    imports = read()
    if imports is None or not _is_concerned(estimator.backend, imports):
        return ()
    from hpctf.environment.libraries import libraries_in, libraries_of

    there, python = None, entering.python
    if os.path.isabs(python) and os.access(python, os.X_OK):
        there = libraries_of(python, estimator.environment_variables)
    if there is None and spec is not None:
        there = libraries_in(spec)
    if there is None or not there.is_keras_3 or imports.mentions(VARIABLE):
        return ()
    where = f"environment {spec.key}" if spec else entering.python
    variables = {**os.environ, **estimator.environment_variables}  # a job has its submitter's
    if estimator.backend == "mpi":
        _check_horovod(imports, there, where, variables)
        return ()
    return _choose(estimator.backend, imports, there, where, variables.get(VARIABLE))


def _is_concerned(backend: str, imports: Imports) -> bool:
    """Whether a script uses what may train wrong on its backend."""
    if backend != "mpi":
        return imports.first_use("keras", *_TF_KERAS) is not None
    # Also under a ``try``: a script that then does without them trains alone. One that has
    # hpctf.keras besides chooses by itself, and the run looks at what it chose.
    return bool(imports.first_attempt(*_HOROVODS)) and not imports.first_attempt("hpctf.keras")


def _choose(
    backend: str, imports: Imports, there: Libraries, where: str, chosen: str | None
) -> tuple[str, ...]:
    """Return what to tell of tf-keras with a backend that Keras 3 does not train with."""
    keras = f"Keras {there.keras}"
    rule = f"does not train with {_STRATEGIES[backend]} (backend {backend!r})"
    opt_out = f"--env {VARIABLE}=0 lets it run as it is."
    if not (chosen is None or _is_legacy(chosen)):
        return ()
    direct = imports.first_import("keras")
    if direct:
        raise UsageError(
            f"{direct[1]} imports keras, which is {keras} in {where}, and that {rule}.",
            "Write instead: from tensorflow import keras, which is tf-keras in such a run. Or "
            f"train with Horovod: --backend mpi, and import hpctf.keras as hvd. {opt_out}",
        )
    used = imports.first_use(*_TF_KERAS)
    if used is None:
        return ()
    if there.tf_keras is None:
        raise UsageError(
            f"{used[1]} uses tf.keras, which must be tf-keras: {keras} {rule}. {where} has none.",
            f"{_install(there, where)} {opt_out}",
        )
    if chosen is not None:
        return ()
    return (
        f"tf.keras is tf-keras in this run ({VARIABLE}=1), since {keras} {rule}. "
        f"--env {VARIABLE}=0 leaves it as it is.",
    )


def _check_horovod(
    imports: Imports, there: Libraries, where: str, variables: Mapping[str, str]
) -> None:
    """Refuse Horovod's Keras modules where they would not average, or have no tf-keras."""
    if variables.get(ALLOW) == "1":
        return
    legacy = _is_legacy(variables.get(VARIABLE))
    # horovod.keras takes the package keras, whatever tf.keras is.
    wrong = imports.first_attempt(*(_HOROVODS[1:] if legacy else _HOROVODS))
    if wrong:
        raise _not_averaged(*wrong, there, where)
    right = imports.first_attempt(*_HOROVODS)
    if right and there.tf_keras is None:
        raise UsageError(
            f"{VARIABLE} chooses tf-keras for {right[0]} ({right[1]}), but {where} has none.",
            f"{_install(there, where)} Or leave {VARIABLE} out, and import hpctf.keras as hvd.",
        )


def _not_averaged(module: str, place: Place, there: Libraries, where: str) -> UsageError:
    legacy = f"Pass --env {VARIABLE}=1: tf.keras is tf-keras then, and this import works."
    if module == "horovod.keras":  # it takes the package keras, which stays Keras 3
        legacy = (
            f"Pass --env {VARIABLE}=1, and write: import horovod.tensorflow.keras as hvd, and: "
            "from tensorflow import keras."
        )
    if there.tf_keras is None:
        legacy += f" ({_install(there, where)})"
    return UsageError(
        f"{place} imports {module}, which does not average gradients under Keras 3 (here "
        f"{there.keras}), and says nothing of it: each rank would train a model of its own.",
        f"{legacy} Or change the import to: import hpctf.keras as hvd, which has the same names, "
        "and take experimental_run_tf_function out of model.compile. "
        f"--env {ALLOW}=1 lets it run as it is.",
    )


def _is_legacy(value: str | None) -> bool:
    """Whether TensorFlow takes a value of `VARIABLE` as a yes (its own __init__)."""
    return value in ("1", "true", "True")


def _install(there: Libraries, where: str) -> str:
    """Return how tf-keras gets there: alone, since its dependencies would bring a TensorFlow."""
    version = there.tensorflow or ""
    series = ".".join(version.split(".")[:2])
    package = "tf-keras-nightly" if "dev" in version else f"tf-keras~={series}.0"
    return (
        f"Install it: {where} -m pip install --no-deps {package}. Or let hpctf build the "
        f"environment, with tf-keras in it: --framework-version {series}, --pip PACKAGE."
    )
