"""hpctf as a training script sees it: ``from hpctf import Run; run = Run.get_context()``.

Standard library only, Python 3.8 and up; each name is loaded when it is first used. Where hpctf
itself is installed in the training environment, `import hpctf` gives that whole package instead:
this one steps aside.
"""

import os
import sys
from importlib.machinery import ModuleSpec
from typing import Optional

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .distribution import strategy
    from .run_context import Run
    from .sharding import shard

__all__ = ["Run", "shard", "strategy"]

_OF_HPCTF_ITSELF = (
    "Experiment",
    "HpctfError",
    "Mpi",
    "MultiWorker",
    "ParameterServer",
    "TensorFlow",
    "TrainingFailed",
    "UsageError",
    "tf_config",
)


_HOMES = {"Run": "hpctf.run_context", "shard": "hpctf.sharding", "strategy": "hpctf.distribution"}


def __getattr__(name: str) -> object:
    if name == "keras" or name in _HOMES:
        from importlib import import_module

        home = import_module(_HOMES.get(name, "hpctf." + name))
        return getattr(home, name) if name in _HOMES else home
    if name in _OF_HPCTF_ITSELF:
        raise ImportError(
            f"hpctf.{name} is not there: this training environment has hpctf's client (Run) alone. "
            "Install hpctf in it for the rest."
        )
    raise AttributeError(f"module 'hpctf' has no attribute {name!r}")


def _installed() -> Optional[ModuleSpec]:
    """Return the spec of the hpctf that this environment has of its own, or None."""
    client = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    before = list(sys.path)
    sys.path[:] = [place for place in before if os.path.realpath(place or ".") != client]
    try:
        for finder in list(sys.meta_path):  # an editable install has a finder of its own
            find = getattr(finder, "find_spec", None)
            found: Optional[ModuleSpec] = find("hpctf", None) if find else None
            if found is not None and found.loader is not None and found.origin is not None:
                return found
    finally:
        sys.path[:] = before
    return None


def _step_aside() -> None:
    """Put the installed package into this one's place (importlib: what ``sys.modules`` holds
    after a module has run is what its importer gets)."""
    from importlib.util import module_from_spec

    spec = _installed()
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    ours = {
        name: sys.modules.pop(name) for name in list(sys.modules) if name == "hpctf.run_context"
    }
    sys.modules["hpctf"] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.update(ours, hpctf=sys.modules[__name__])
        raise


if __name__ == "hpctf":  # not as hpctf.client.hpctf, a part of the whole package
    _step_aside()
