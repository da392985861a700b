"""Runs before a training's script (site in the standard library): see `hpctf.startup`.

Python 3.8 and up. It costs a script without Horovod one more file to read, and each import a
comparison.
"""

import os
import sys

TYPE_CHECKING = False  # not typing's: importing it costs 8 ms
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import Any, Optional

HERE = os.path.dirname(__file__)

GUARDED = ("horovod.keras", "horovod.tensorflow.keras")


class HorovodKeras:
    """Finds Horovod's Keras modules, and has them looked at before they are imported."""

    @classmethod
    def find_spec(
        cls, name: str, path: "Any" = None, target: "Any" = None
    ) -> "Optional[ModuleSpec]":
        """Return the module's spec with `horovod_keras.Guarded` as its loader, or None."""
        if name not in GUARDED:
            return None
        from importlib.util import module_from_spec, spec_from_file_location

        # By its place: the training may have another hpctf, or a module of that name.
        place = os.path.join(HERE, "horovod_keras.py")
        spec = spec_from_file_location("_hpctf_horovod_keras", place)
        if spec is None or spec.loader is None:
            return None
        guard = module_from_spec(spec)
        spec.loader.exec_module(guard)
        found: "Optional[ModuleSpec]" = guard.guarded(name, path, target, cls)
        return found


def go_on() -> None:
    """Import the sitecustomize that Python would have imported without this one."""
    sys.path[:] = [place for place in sys.path if place != HERE]
    ours = sys.modules.pop(__name__, None)
    try:
        __import__(__name__)
    except ImportError as error:
        if error.name != __name__:
            raise
    finally:
        if ours is not None:  # Python wants to find what it was asked to import
            sys.modules.setdefault(__name__, ours)


if __name__ == "sitecustomize":
    sys.meta_path.insert(0, HorovodKeras)
    go_on()
