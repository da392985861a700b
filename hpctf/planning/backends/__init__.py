"""The backends: a small module each, with one function ``lay_out(estimator, site, name, target)``.

A new backend is a module here, a template ``<name>.sbatch.j2``, and a name in
`hpctf.estimator.tensorflow.BACKENDS`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.planning.backends.layout import Layout
    from hpctf.site.model import Site, Target


def lay_out(estimator: TensorFlow, site: Site, name: str, target: Target) -> Layout:
    """Return what the estimator's backend makes of it on a site's target `name`.

    Raises
    ------
    UsageError
        What this backend, or the target's size, does not allow.
    """
    backend = import_module(f"hpctf.planning.backends.{estimator.backend}")
    made: Layout = backend.lay_out(estimator, site, name, target)
    return made
