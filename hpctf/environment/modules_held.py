"""Which modules an environment holds, and which package brings one that it lacks."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from hpctf.environment.questions import ask_python

_PACKAGES = {
    "Bio": "biopython",
    "Crypto": "pycryptodome",
    "PIL": "pillow",
    "absl": "absl-py",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "pymupdf",
    "git": "gitpython",
    "google": "protobuf",
    "hydra": "hydra-core",
    "imblearn": "imbalanced-learn",
    "jwt": "pyjwt",
    "mpl_toolkits": "matplotlib",
    "osgeo": "gdal",
    "ot": "pot",
    "pkg_resources": "setuptools",
    "pywt": "pywavelets",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
"""Packages that have another name than the module that they bring, as on PyPI."""

_BESIDE_TENSORFLOW = frozenset([
    "tensorflow", "keras", "tf_keras", "tensorboard", "numpy", "PIL", "absl", "astunparse",
    "certifi", "charset_normalizer", "clang", "cloudpickle", "flatbuffers", "gast", "google",
    "grpc", "h5py", "idna", "markdown", "markupsafe", "ml_dtypes", "namex", "narwhals",
    "opt_einsum", "optree", "packaging", "pasta", "pygments", "requests", "rich", "setuptools",
    "pkg_resources", "six", "tensorflow_estimator", "termcolor", "typing_extensions", "urllib3",
    "werkzeug", "wheel", "wrapt"
])  # fmt: skip
"""Modules of environments in which nothing was requested but a TensorFlow of 2.15 to 2.21."""

_WITH_HOROVOD = frozenset(["horovod", "mpi4py", "psutil", "yaml", "cffi", "pycparser"])

_ASK = """
from importlib.util import find_spec
def lacks(name):
    try:
        return find_spec(name) is None
    except (ImportError, ValueError):
        return False
answer = [name for name in question if lacks(name)]
"""


def package_of(module: str) -> str:
    """Return the package that brings a module: ``scikit-learn`` for ``sklearn``."""
    return _PACKAGES.get(module, module.replace("_", "-"))


def lacks(python: str, modules: Collection[str], variables: Mapping[str, str]) -> list[str]:
    """Return those of `modules` that an interpreter of this machine does not find.

    What lies in its site-packages is seen without starting it. One that cannot be asked lacks
    nothing, as far as is known. `variables` are the person's own for the training.
    """
    folders = (Path(python).parent.parent / "lib").glob("python3*/site-packages")
    places = [str(folder) for folder in folders]
    missing = [name for name in modules if not lies_in(name, places)]
    if not missing:
        return []
    answer = ask_python(python, _ASK, missing, variables)
    return [name for name in missing if isinstance(answer, list) and name in answer]


def not_brought_by(packages: Collection[str], horovod: bool, modules: Collection[str]) -> list[str]:
    """Return those of `modules` that none of `packages` (requirements) is named like, nor
    TensorFlow brings along, nor, with it, Horovod."""
    from hpctf.environment.requirements import name_of, requirement_of

    held = _BESIDE_TENSORFLOW | (_WITH_HOROVOD if horovod else frozenset())
    named = {_bare(name_of(requirement_of(package))) for package in packages}
    return [
        name
        for name in modules
        if name not in held and named.isdisjoint({_bare(name), _bare(package_of(name))})
    ]


def lies_in(module: str, places: Collection[str]) -> bool:
    """Whether a module's folder or file, of any kind, lies in one of these folders."""
    return any(
        os.path.isdir(os.path.join(place, module)) or any(Path(place).glob(f"{module}.*"))
        for place in places
    )


def _bare(name: str) -> str:
    """Return a name without what differs between its spellings, and between builds of it."""
    from packaging.utils import canonicalize_name

    return re.sub(r"-(?:headless|contrib|gpu|cpu|binary|nightly)\b", "", canonicalize_name(name))
