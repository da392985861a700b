"""What a training imports that hpctf's own Python cannot give it: then an environment is built."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from hpctf.imports import imported_by

if TYPE_CHECKING:
    from hpctf.estimator import TensorFlow

_BUILT = ("tensorflow", "keras", "tf_keras")
_BUILT_FOR_MPI = ("horovod", "mpi4py")
"""What an environment that hpctf builds without being told any package has in it."""


def missing_from(estimator: TensorFlow) -> list[str]:
    """Return what the script imports of TensorFlow and Horovod that hpctf's own Python lacks.

    As in Azure ML, they are installed for whoever names no environment. Nothing is missing where
    the person names a Python, modules or an image, or manages the environment.
    """
    named = estimator.python or estimator.modules or estimator.container
    if named or estimator.user_managed or not (estimator.entry_script or "").endswith(".py"):
        return []
    assert estimator.source_directory is not None and estimator.entry_script is not None
    folder = Path(estimator.source_directory)
    wanted = imported_by(folder / estimator.entry_script, folder)
    brought = _BUILT + (_BUILT_FOR_MPI if estimator.backend == "mpi" else ())
    return [one for one in brought if one in wanted and importlib.util.find_spec(one) is None]
