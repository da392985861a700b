"""What a training imports that hpctf's own Python cannot give it: then an environment is built."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpctf.estimator.script_imports import Imports
    from hpctf.estimator.tensorflow import TensorFlow

_BUILT = ("tensorflow", "keras", "tf_keras")
_BUILT_FOR_MPI = ("horovod", "mpi4py")
"""What an environment that hpctf builds without being told any package has in it."""


def missing_from(estimator: TensorFlow, read: Callable[[], Imports | None]) -> list[str]:
    """Return what the script imports of TensorFlow and Horovod that hpctf's own Python lacks.

    As in Azure ML, they are installed for whoever names no environment. Nothing is missing where
    the person names a Python, modules or an image, or manages the environment.

    Parameters
    ----------
    read
        Returns what the script imports, once it matters.
    """
    named = estimator.python or estimator.modules or estimator.container
    imports = None if named or estimator.user_managed else read()
    if imports is None:
        return []
    brought = _BUILT + (_BUILT_FOR_MPI if estimator.backend == "mpi" else ())
    wanted = imports.top_level
    return [one for one in brought if one in wanted and importlib.util.find_spec(one) is None]
