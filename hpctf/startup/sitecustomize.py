"""Runs before a training's script (site in the standard library): see `hpctf.startup`.

Python 3.8 and up. It costs a script one more file to read, and each import a look-up.
"""

import os
import sys

TYPE_CHECKING = False  # not typing's: importing it costs 8 ms
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import Any, Mapping, Optional

HERE = os.path.dirname(__file__)

WATCHED = {
    *("azureml.core", "horovod", "horovod.common.basics", "horovod.keras", "horovod.tensorflow"),
    *("horovod.tensorflow.keras", "keras", "mpi4py", "mpi4py.MPI", "tensorflow", "tf_keras"),
}
"""Modules whose import `hpctf.startup.watched` looks at."""


PREFLIGHT = "HPCTF_PREFLIGHT"
"""Set by the rank's wrapper: ``script`` if it starts the training's Python itself, ``program`` if
another program does, which may start several. Unset: there are no other ranks."""

AZUREML = "HPCTF_WITHOUT_AZUREML"
"""``0``: nothing stands in for Azure ML's package."""


class Watch:
    """Has a look at modules of which much depends, as they are imported."""

    variables: "Mapping[str, str]"
    preflight: "Optional[str]" = None
    pid = 0

    @classmethod
    def find_spec(
        cls, name: str, path: "Any" = None, target: "Any" = None
    ) -> "Optional[ModuleSpec]":
        """Return a watched module's spec, with a loader that looks; None for all other modules."""
        if name not in WATCHED:
            return None
        from importlib import import_module

        watched: "Any" = import_module(_package() + ".watched")
        found: "Optional[ModuleSpec]" = watched.found(name, path, target, cls)
        return found


class StandIn:
    """Finds ``azureml.core`` where no other finder does (`hpctf.startup.azureml`).

    The last finder, and not a folder on PYTHONPATH, which would come before what is installed.
    """

    @classmethod
    def find_spec(
        cls, name: str, path: "Any" = None, target: "Any" = None
    ) -> "Optional[ModuleSpec]":
        """Return the spec of a module of Azure ML's that stands in; None for all other modules."""
        if name != "azureml" and not name.startswith("azureml."):
            return None
        from importlib import import_module

        found: "Optional[ModuleSpec]" = import_module(_package() + ".azureml").found(name)
        return found


def _package() -> str:
    """Return the name under which this folder can be imported. By its place: the training may have
    another hpctf, or a module of that name."""
    name = "_hpctf_startup"
    if name not in sys.modules:
        from importlib import import_module
        from importlib.util import module_from_spec, spec_from_file_location

        place = os.path.join(HERE, "__init__.py")
        spec = spec_from_file_location(name, place, submodule_search_locations=[HERE])
        if spec is None or spec.loader is None:
            raise ImportError(f"{place} is not there")
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        import_module(name + ".this_rank").begin(Watch.variables)
        import_module(name + ".preflight").begin(Watch.preflight, Watch.pid)
    return name


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
    Watch.variables = {key: os.environ[key] for key in os.environ if key.startswith("HPCTF_")}
    Watch.preflight, Watch.pid = os.environ.get(PREFLIGHT), os.getpid()
    if Watch.preflight == "script":  # its children may have another Python, or start MPI anew
        del os.environ[PREFLIGHT]
    sys.meta_path.insert(0, Watch)
    if os.environ.get(AZUREML) != "1":
        sys.meta_path.append(StandIn)
    go_on()
