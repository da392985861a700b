"""Building Horovod for one TensorFlow, one Python and one MPI, and keeping the wheel.

The wheel fits these alone, which neither pip's nor uv's cache knows; so it has a cache of its own,
``<store>/wheels``, and theirs are kept out of it. What the recipe knows was measured: see
docs/environments.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from hpctf.environment.build_commands import Commands
from hpctf.environment.pip import Pip
from hpctf.environment.progress import Tell
from hpctf.environment.spec import RECIPE, EnvironmentSpec
from hpctf.environment.tensorflow_versions import (
    EMPTY_HEADERS_FROM,
    NEWEST_WITH_GPU_HOROVOD,
    is_at_least,
)
from hpctf.errors import BuildError

NEEDS = ("mpi4py", "cloudpickle", "psutil", "pyyaml", "packaging")
"""What Horovod uses when it runs, and mpi4py, with which people use MPI beside it."""

TOOLS = ("pip", "setuptools<81", "wheel")
"""What building it uses, in the environment itself: it must see that TensorFlow."""

_HEADERS = (
    "tensorflow/compiler/tf2xla/xla_op_kernel.h",
    "tensorflow/compiler/tf2xla/xla_op_registry.h",
    "tensorflow/compiler/xla/client/xla_builder.h",
    "tensorflow/compiler/xla/service/custom_call_target_registry.h",
    "tensorflow/compiler/xla/service/hlo.pb.h",
    "tensorflow/compiler/xla/shape.h",
    "tensorflow/compiler/xla/xla_data.pb.h",
)
_MOST_JOBS = 8

_STANDARD_HEADERS = ("algorithm", "cstdint", "stdexcept", "string")
"""Headers whose names Horovod uses without including them. Older compilers bring them with others;
each new one brings fewer (gcc.gnu.org/gcc-13/porting_to.html, likewise 14 and 15)."""

_AMENDMENTS = {
    "third_party/flatbuffers/include/flatbuffers/stl_emulation.h": (
        "  pointer const data_;\n  const size_type count_;\n",
        "  pointer data_;\n  size_type count_;\n",
    ),
    "setup.py": ("else 'RelWithDebInfo'", "else 'Release'"),
}
"""Of each file of Horovod's source what a compiler refuses or need not do, and what stands there
instead.

Debug symbols take a seventh of the time of a build, and would be of no use without the source. A
template assigns to its own const members, which g++ 14 refuses even if nobody uses it, and no
flag helps. Horovod's CMake puts its own folders of headers before ours, so that another header
cannot stand before this one; a forced include would have to stand for the class as a whole."""


def horovod_wheel(
    spec: EnvironmentSpec,
    python: Path,
    tensorflow: str,
    wheels: Path,
    pip: Pip,
    tell: Tell,
) -> Path:
    """Return the wheel of Horovod for an environment, built now unless it is kept in `wheels`.

    `tensorflow` is the version that is installed there.

    Raises
    ------
    BuildError
        It cannot be built; the compiler's words are in the log.
    """
    if spec.gpu_operations and is_at_least(tensorflow, EMPTY_HEADERS_FROM):
        newest = NEWEST_WITH_GPU_HOROVOD
        raise BuildError(
            f"Horovod with GPU operations can be built for TensorFlow {newest} or older, "
            f"but {tensorflow} is installed.",
            f"Ask for framework_version='{newest}'.",
        )
    kept = wheels / _name(spec, tensorflow)
    found = _wheel_in(kept)
    if found is not None:
        tell(f"Installing Horovod {spec.horovod}, which is kept for TensorFlow {tensorflow}")
        return found
    tell(f"Building Horovod {spec.horovod} for TensorFlow {tensorflow} and {spec.mpi}")
    what = f"Building Horovod {spec.horovod}"
    pip_of: list[str | Path] = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    options = ["--no-build-isolation", "--no-deps", "--no-cache-dir", "--progress-bar", "off"]
    own = build_variables(spec, python, tensorflow, pip.work, pip.commands)
    variables = {**pip.indexes.variables, **own}
    built = pip.work / "wheels"
    wanted = pip.file("horovod.txt", [*pip.indexes.private, f"horovod=={spec.horovod}"])
    words: list[str | Path] = [*options, *pip.indexes.for_pip, "-r", wanted]
    pip.commands.run([*pip_of, "download", *words, "--dest", built], what, variables)

    # An index of the site's own may have a wheel, which nobody need build.
    for archive in built.glob("horovod-*.tar.gz"):
        words = [*options, "--wheel-dir", built, amended_source(archive, pip.work)]
        pip.commands.run([*pip_of, "wheel", *words], what, variables)

    found = _wheel_in(built)
    if found is None:
        raise pip.commands.failed(what, "there is no wheel")
    return found


def keep_wheel(spec: EnvironmentSpec, tensorflow: str, wheel: Path, wheels: Path) -> None:
    """Keep a wheel that has been checked, for the next environment that it fits."""
    kept = wheels / _name(spec, tensorflow)
    if wheel.parent == kept:
        return
    with contextlib.suppress(OSError):  # kept by somebody else meanwhile: theirs is as good
        os.rename(wheel.parent, kept)


def _name(spec: EnvironmentSpec, tensorflow: str) -> str:
    """Return the folder of a wheel: what it fits, and a digest of all that it depends on."""
    python = "".join(spec.python_version.split(".")[:2])
    version = spec.python_version if spec.kind == "conda" else python
    built_for = (spec.kind, version, spec.mpi, spec.modules, spec.gpu_operations)
    content = (*built_for, spec.build_variables, spec.machine, RECIPE)
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]
    return f"horovod-{spec.horovod}-tf{tensorflow}-py{python}-{digest}"


def _wheel_in(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("horovod-*.whl"))), None)


def amended_source(archive: Path, work: Path) -> Path:
    """Unpack Horovod's source and return its folder, which today's compilers take.

    What is not there as it is known (`_AMENDMENTS`), in another version, stays as it is.
    """
    source = work / "source"
    shutil.unpack_archive(archive, source)
    (folder,) = source.iterdir()
    for name, (old, new) in _AMENDMENTS.items():
        path = folder / name
        if path.exists():
            path.write_text(path.read_text().replace(old, new))
    return folder


def build_variables(
    spec: EnvironmentSpec, python: Path, tensorflow: str, work: Path, commands: Commands
) -> dict[str, str]:
    """Return the variables that Horovod's build reads, with the site's own."""
    variables = {
        "HOROVOD_WITH_MPI": "1",
        "HOROVOD_WITHOUT_GLOO": "1",
        "HOROVOD_WITH_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_PYTORCH": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",  # CMake 4 refuses what its sources ask for
        "CXXFLAGS": " ".join(f"-include {name}" for name in _STANDARD_HEADERS),
        "MAKEFLAGS": f"-j{min(len(os.sched_getaffinity(0)), _MOST_JOBS)}",
    }
    if spec.gpu_operations:
        variables["HOROVOD_GPU_OPERATIONS"] = spec.gpu_operations
    elif is_at_least(tensorflow, EMPTY_HEADERS_FROM):
        variables["CXXFLAGS"] += f" -I{_empty_headers(work)}"
    variables = with_sites_own(variables, dict(spec.build_variables), commands.variables)
    path = variables.get("PATH", commands.variables.get("PATH", os.defpath))
    return {**variables, "PATH": f"{python.parent}{os.pathsep}{path}"}


def with_sites_own(
    ours: Mapping[str, str], sites: Mapping[str, str], environment: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables of a build with a site's own added.

    Options (``CXXFLAGS``, ``MAKEFLAGS`` ...) come after ours, so that they win where both say the
    same; folders (``PATH``, ``CPATH``, ``CMAKE_PREFIX_PATH`` ...) before those that the modules
    bring. Any other variable has one value, which is the site's: ``HOROVOD_WITH_GLOO`` then also
    takes the place of our ``HOROVOD_WITHOUT_GLOO``.
    """
    made = dict(ours)
    for name, value in sites.items():
        if name.endswith("FLAGS"):
            value = " ".join(part for part in (made.get(name), value) if part)
        elif name.endswith("PATH"):
            value = os.pathsep.join(part for part in (value, environment.get(name)) if part)
        for one, other in (("_WITH_", "_WITHOUT_"), ("_WITHOUT_", "_WITH_")):
            if name.startswith(f"HOROVOD{one}") and value == "1":
                made.pop(name.replace(one, other, 1), None)
        made[name] = value
    return made


def _empty_headers(work: Path) -> Path:
    """Make the headers that TensorFlow ships no more: a build for CPUs needs nothing of them."""
    folder = work / "include"
    for name in _HEADERS:
        header = folder / name
        header.parent.mkdir(parents=True, exist_ok=True)
        header.touch()
    return folder
