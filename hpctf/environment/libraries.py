"""Which TensorFlow and Keras an environment has: known before it is built, or asked of its Python.

TensorFlow is not imported to find out: that takes seconds, and login nodes may not be able to.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpctf.environment import tensorflow_versions
from hpctf.environment.questions import ask_python

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from hpctf.environment.spec import EnvironmentSpec
    from hpctf.estimator.script_imports import Imports
    from hpctf.estimator.tensorflow import TensorFlow

_NAMES = {
    "tensorflow": tensorflow_versions.NAMES,
    "keras": ("keras", "keras-nightly"),
    "tf_keras": ("tf-keras", "tf-keras-nightly"),
}
"""The packages that each is in."""

_BUILT_WITH_TF_KERAS = tensorflow_versions.RELEASED
"""hpctf puts tf-keras beside these (hpctf.environment.build)."""

_ASK = """
from importlib import metadata
def version(names):
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
answer = {key: version(names) for key, names in question.items()}
"""


@dataclass(frozen=True)
class Libraries:
    """Versions, as far as they are known: ``3`` for a Keras that is yet to be installed; None for
    what is not there."""

    tensorflow: str | None
    keras: str | None
    tf_keras: str | None

    @property
    def is_keras_3(self) -> bool:
        """Whether TensorFlow is there, with Keras 3 or later."""
        major = (self.keras or "").partition(".")[0]
        return bool(self.tensorflow) and major.isdigit() and int(major) >= 3


def libraries_of(python: str, variables: Mapping[str, str]) -> Libraries | None:
    """Return what an interpreter of this machine has; None if it cannot be asked.

    `variables` are the person's own for the training: PYTHONPATH may be among them.
    """
    try:
        return Libraries(**ask_python(python, _ASK, _NAMES, variables))
    except TypeError:
        return None


def libraries_in(spec: EnvironmentSpec) -> Libraries | None:
    """Return what an environment will have once hpctf has built it; None if that is not known.

    pip takes the newest version that it may: a requirement without a bound brings Keras 3.
    """
    from hpctf.environment.requirements import name_of, requirement_of

    named = [requirement_of(line) for line in (*spec.pip, *spec.constraints)]
    of_tensorflow = [one for one in named if name_of(one) in _BUILT_WITH_TF_KERAS]
    version = spec.tensorflow_version
    if not version and (not of_tensorflow or any(one.url for one in of_tensorflow)):
        return None
    first = ".".join(map(str, tensorflow_versions.KERAS_3_FROM))
    older = (
        _limited(named, _NAMES["keras"], "3")
        or _limited(of_tensorflow, _BUILT_WITH_TF_KERAS, first)
        or (tensorflow_versions.series(version) or tensorflow_versions.KERAS_3_FROM)
        < tensorflow_versions.KERAS_3_FROM
        or spec.python_version.startswith("3.8")  # TensorFlow 2.13 is the last for it
    )
    return Libraries(version or "2", "2" if older else "3", None if older else "2")


def _limited(requirements: Iterable[Requirement], names: Iterable[str], bound: str) -> bool:
    """Whether what requirements say of packages leaves only versions below `bound`."""
    from hpctf.environment.requirements import name_of

    specifiers = (one.specifier for one in requirements if name_of(one) in names)
    return any(_is_below(one.operator, one.version, bound) for each in specifiers for one in each)


def _is_below(operator: str, version: str, bound: str) -> bool:
    """Whether a specifier allows nothing from `bound` on."""
    from packaging.version import Version

    if operator == "<":
        return Version(version) <= Version(bound)
    exact = operator in ("<=", "==", "~=")
    return exact and Version(version.removesuffix(".*")) < Version(bound)


_BUILT = ("tensorflow", "keras", "tf_keras")
_BUILT_FOR_MPI = ("horovod", "mpi4py")
"""What an environment that hpctf builds without being told any package has in it."""


def missing_from(estimator: TensorFlow, read: Callable[[], Imports | None]) -> list[str]:
    """Return what the script imports of TensorFlow and Horovod that hpctf's own Python lacks.

    As in Azure ML, they are installed for whoever names no environment. Nothing is missing where
    the person names a Python, modules or an image, or manages the environment. `read` returns what
    the script imports, once it matters.
    """
    named = estimator.python or estimator.modules or estimator.container
    imports = None if named or estimator.user_managed else read()
    if imports is None:
        return []
    brought = _BUILT + (_BUILT_FOR_MPI if estimator.backend == "mpi" else ())
    wanted = imports.top_level
    return [one for one in brought if one in wanted and importlib.util.find_spec(one) is None]
