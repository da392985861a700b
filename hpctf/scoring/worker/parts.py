"""Parts on the disk: each there whole, or not at all."""

import os
import socket
from typing import Any, Dict

import numpy as np

PARTS = "parts"
"""Folder of the run's."""

_NAMES = "names"


def part_file(folder: str, number: int) -> str:
    """Return where a part lies once it has been scored."""
    return os.path.join(folder, PARTS, f"part-{number:07}.npz")


def write_part(folder: str, number: int, outputs: Dict[str, Any]) -> None:
    """Write a part's outputs under a hidden name, and rename that once all is on the disk."""
    path = part_file(folder, number)
    place, name = os.path.split(path)
    hidden = os.path.join(place, f".{name}.{socket.gethostname()}.{os.getpid()}")
    arrays: Dict[str, Any] = {_NAMES: np.array(list(outputs), dtype=str)}
    arrays.update({str(index): array for index, array in enumerate(outputs.values())})
    with open(hidden, "wb") as stream:
        np.savez(stream, **arrays)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(hidden, path)


def read_part(folder: str, number: int) -> Dict[str, Any]:
    """Return a part's outputs."""
    with np.load(part_file(folder, number), allow_pickle=False) as archive:
        names = archive[_NAMES].tolist()
        return {name: archive[str(index)] for index, name in enumerate(names)}
