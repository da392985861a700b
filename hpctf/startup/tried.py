"""What a rank tried to train with: put on record also if it is not there, or fails as it loads.

A script that does without Horovod where its import fails trains alone, and nothing else tells.
"""

import os
import sys
from typing import Any, Iterator, Optional, Pattern

from . import this_rank

_OF_SCRIPT = ("horovod", "mpi4py", "keras")
"""What ranks find each other with, and Keras 3, which trains without TensorFlow on other backends:
noted if it is the script that looks for it. Packages such as h5py and Weights & Biases look for
them by themselves."""

_INSTALLED = ("site-packages", "dist-packages")
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""hpctf's own package, which may be installed, too."""


def note(module: str) -> None:
    """Put on record that a module is being looked for."""
    if not this_rank.trains_with_others():
        return
    if module == "tensorflow" or (module in _OF_SCRIPT and _is_of_script(_importer())):
        this_rank.leave("imports", module=module)


def importing_package() -> str:
    """Return the installed package that imports: ``h5py``; nothing if it is the script."""
    file = _importer()
    if file is None or _is_of_script(file):
        return ""
    parts = os.path.abspath(file).split(os.sep)
    after = max(parts.index(folder) for folder in _INSTALLED if folder in parts) + 1
    return parts[after].partition(".")[0]


def is_imported_by_script() -> bool:
    """Whether it is the script that imports, and not a package, nor one that asks whether there is
    such a module (``importlib.util.find_spec``)."""
    asking = ("importlib/util.py", "<frozen importlib.util>")
    return _is_of_script(_importer()) and not any(file.endswith(asking) for file in _running())


def importer_names(words: Pattern[str]) -> bool:
    """Whether the text of the file that imports has such words."""
    try:
        with open(_importer() or "", encoding="utf-8", errors="replace") as stream:
            return words.search(stream.read()) is not None
    except OSError:
        return False


def _importer() -> Optional[str]:
    """Return the file of the code that imports, or asks whether a module is there."""
    for file in _running():
        machinery = "importlib" in file or file.startswith("<frozen")
        if not machinery and os.path.dirname(os.path.abspath(file)) != os.path.dirname(__file__):
            return file
    return None


def _running() -> Iterator[str]:
    """Yield the files of the code that is running, the innermost first."""
    frame: Any = sys._getframe()
    while frame is not None:
        yield frame.f_code.co_filename
        frame = frame.f_back


def _is_of_script(file: Optional[str]) -> bool:
    if file is None:
        return False
    path = os.path.abspath(file)
    return path.startswith(_OURS + os.sep) or not any(
        os.sep + folder + os.sep in path for folder in _INSTALLED
    )
