"""Which MPI library a process has loaded."""

import ctypes
import re
from typing import Iterator, Optional

_LIBRARY = re.compile(r"\s(/\S*/lib\w*mpi\w*[-.\w]*\.so[.\d]*)$")
"""A line of /proc/PID/maps that names libmpi.so.40, libmpich.so.12, libmpi_cray.so and so on."""

_LONGEST = 8192
"""Bytes of the longest version text (MPI_MAX_LIBRARY_VERSION_STRING: Open MPI 256, MPICH 8192)."""


def library_version() -> Optional[str]:
    """Return what the loaded MPI library calls itself: ``Open MPI v4.1.4``; None if none is.

    ``MPI_Get_library_version`` may be called before MPI is initialised (MPI 3.1, section 8.1.1).
    """
    for place in _loaded():
        try:
            ask = ctypes.CDLL(place).MPI_Get_library_version
        except (OSError, AttributeError):
            continue
        text, length = ctypes.create_string_buffer(_LONGEST + 1), ctypes.c_int()
        if ask(text, ctypes.byref(length)) == 0:
            return _first_words(text.value.decode("utf-8", "replace"))
    return None


def _loaded() -> Iterator[str]:
    """Yield the files of this process's libraries that may be MPI's."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            lines = maps.read().splitlines()
    except OSError:
        return
    seen = set()
    for line in lines:
        match = _LIBRARY.search(line)
        if match and match.group(1) not in seen:
            seen.add(match.group(1))
            yield match.group(1)


def _first_words(text: str) -> str:
    """Return name and version alone: Open MPI adds where and when it was built, MPICH how."""
    line = (text.strip().splitlines() or [""])[0].partition(",")[0]
    return " ".join(line.replace("Version:", " ").split())
