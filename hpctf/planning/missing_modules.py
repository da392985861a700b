"""What a script imports and its environment lacks, said before the queue."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from hpctf.errors import SiteError, UsageError

if TYPE_CHECKING:
    from hpctf.environment.activation import Entering
    from hpctf.environment.spec import EnvironmentSpec
    from hpctf.estimator.script_imports import Imports
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.site.model import Site

ALLOW = "HPCTF_ALLOW_MISSING_MODULES"
"""Set to 1 by who knows that the node has what this machine does not see."""

_IN_EVERY_RUN = {"__main__", "hpctf"}
_CHANGES_ITS_PATH = ("sys.path", "addsitedir", "pip install", '"pip"', "'pip'", "PYTHONPATH")


def check_modules(
    estimator: TensorFlow,
    site: Site,
    read: Callable[[], Imports | None],
    entering: Entering,
    spec: EnvironmentSpec | None,
) -> tuple[str, ...]:
    """Return what the person should be told of modules that the script's environment lacks.

    Nothing is known of images, of the modules that a person loads, and of functions. An import that
    only runs if something is the case, and an environment that may hold more than can be seen, make
    a note of it.

    Raises
    ------
    UsageError
        The script would fail as it starts: it imports what its environment is known to lack.
    """
    variables = {**os.environ, **estimator.environment_variables}
    if entering.inside or estimator.modules or variables.get(ALLOW) == "1":
        return ()
    imports = read()
    if imports is None:
        return ()
    wanted = _foreign(estimator, imports, azureml=site.azureml or bool(estimator.azureml))
    missing, known = _missing(estimator, entering, spec, wanted)
    if missing:
        paths = variables.get("PYTHONPATH", "")
        try:
            paths = _path_with(entering.modules) + os.pathsep + paths
        except SiteError:  # only nodes have these modules
            known = False
        from hpctf.environment.modules_held import lies_in

        places = list(filter(None, paths.split(os.pathsep)))
        missing = [name for name in missing if not lies_in(name, places)]
    if not missing:
        return ()

    known = known and not site.prologue and not any(map(imports.mentions, _CHANGES_ITS_PATH))
    at_start = {name.partition(".")[0] for name in imports.at_start}
    sure = [name for name in missing if known and name in at_start]
    hint = _way_out(estimator, entering, spec, sure or missing)
    if sure:
        raise UsageError(
            f"{_told(imports, sure)}, which {_named(entering, spec)} lacks.",
            f"{hint} To submit it as it is: --env {ALLOW}=1",
        )
    may = "lacks" if known else "may lack"
    return (f"{_told(imports, missing)}, which {_named(entering, spec)} {may}. {hint}",)


def _foreign(estimator: TensorFlow, imports: Imports, azureml: bool) -> list[str]:
    """Return the modules that are neither Python's, nor hpctf's, nor in the source folder."""
    from hpctf.environment.modules_held import lies_in

    folder = Path(estimator.source_directory or ".")
    places = [str(folder), str((folder / (estimator.entry_script or "")).parent)]
    own = _IN_EVERY_RUN | ({"azureml"} if azureml else set())
    return [
        name
        for name in dict.fromkeys(name.partition(".")[0] for name in imports.imported)
        if name not in own and name not in sys.stdlib_module_names and not lies_in(name, places)
    ]


def _missing(
    estimator: TensorFlow, entering: Entering, spec: EnvironmentSpec | None, wanted: list[str]
) -> tuple[list[str], bool]:
    """Return the modules that are missing, and whether that is known for sure."""
    from hpctf.environment.modules_held import lacks, not_brought_by

    if not wanted:
        return [], True
    if entering.python == sys.executable:
        return [name for name in wanted if importlib.util.find_spec(name) is None], True
    if os.path.isabs(entering.python) and os.access(entering.python, os.X_OK):
        return lacks(entering.python, wanted, estimator.environment_variables), True
    if spec is None or spec.kind == "conda":
        return [], True
    # It is yet to be built. What else the packages bring is not known before that.
    packages = spec.locked or spec.pip
    brought = not_brought_by(packages, bool(spec.horovod), wanted)
    return brought, bool(spec.locked) or set(packages) <= {"tensorboard"}


def _path_with(modules: Collection[str]) -> str:
    if not modules:
        return ""
    from hpctf.environment.toolchain import environment_with

    return environment_with(tuple(modules)).get("PYTHONPATH", "")


def _told(imports: Imports, missing: Iterable[str]) -> str:
    """Return ``train.py:3 imports sklearn, and net.py:1 imports cv2``."""
    first = (imports.first_import(name) for name in missing)
    return ", and ".join(f"{place} imports {name}" for name, place in filter(None, first))


def _named(entering: Entering, spec: EnvironmentSpec | None) -> str:
    if spec is not None:
        return f"environment {spec.key}"
    own = entering.python == sys.executable
    return "hpctf's own Python" if own else f"the Python {entering.python}"


def _way_out(
    estimator: TensorFlow, entering: Entering, spec: EnvironmentSpec | None, missing: list[str]
) -> str:
    from hpctf.environment.modules_held import package_of

    packages = list(dict.fromkeys(map(package_of, missing)))
    if estimator.python is None and not estimator.user_managed:
        words = " ".join(f"--pip {package}" for package in packages)
        own = "" if spec is not None else ": hpctf then builds an environment"
        return f"Add {words}{own}."
    python = entering.python
    return f"Install it ({python} -m pip install {' '.join(packages)})."
