"""Which versions an environment has, read from the names of its folders: nothing is imported."""

import os
import re
import sys
from contextlib import suppress
from typing import Dict, Iterable, Optional

_TENSORFLOWS = (
    "tensorflow tensorflow-cpu tensorflow-gpu tensorflow-rocm tensorflow-cpu-aws "
    "tensorflow-aarch64 intel-tensorflow tf-nightly tf-nightly-cpu tf-nightly-gpu"
)
_LABELS = {
    **dict.fromkeys(_TENSORFLOWS.split(), "TensorFlow"),
    "keras": "Keras",
    "tf-keras": "tf-keras",
    "horovod": "Horovod",
}
"""What is called how, by the names of packages (PEP 503)."""


def versions(path: Optional[Iterable[str]] = None) -> Dict[str, str]:
    """Return the versions of TensorFlow, Keras, tf-keras and Horovod that a search path has, by
    default ``sys.path``."""
    found: Dict[str, str] = {}
    for folder in sys.path if path is None else path:
        names = []
        with suppress(OSError):
            names = sorted(os.listdir(folder or os.curdir))
        for name in names:
            stem, _, kind = name.rpartition(".")
            if kind in ("dist-info", "egg-info"):
                project, _, rest = stem.partition("-")
                label = _LABELS.get(re.sub(r"[-_.]+", "-", project).lower())
                if label:
                    found.setdefault(label, rest.partition("-")[0])
    return found


def tf_keras() -> str:
    """Return the tf-keras that goes with TensorFlow's version, as pip takes it."""
    series = ".".join(versions().get("TensorFlow", "").split(".")[:2])
    return f"tf-keras~={series}.0" if series else "tf-keras"


def major(version: Optional[str]) -> int:
    """Return the first number of a version; 0 for none."""
    head = (version or "").partition(".")[0]
    return int(head) if head.isdigit() else 0
