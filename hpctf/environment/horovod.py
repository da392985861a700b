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
from pathlib import Path

from hpctf.environment import tensorflows
from hpctf.environment.commands import Commands
from hpctf.environment.indexes import Indexes
from hpctf.environment.progress import Tell
from hpctf.environment.spec import RECIPE, EnvironmentSpec
from hpctf.errors import BuildError
from hpctf.files import PRIVATE_FILE, write_atomic

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


def horovod_wheel(
    spec: EnvironmentSpec,
    python: Path,
    tensorflow: str,
    wheels: Path,
    commands: Commands,
    indexes: Indexes,
    work: Path,
    tell: Tell,
) -> Path:
    """Return the wheel of Horovod for an environment, built now unless it is kept.

    Parameters
    ----------
    tensorflow
        The version that is installed there.
    wheels
        The folder of kept wheels.

    Raises
    ------
    BuildError
        It cannot be built; the compiler's words are in the log.
    """
    if spec.gpu_operations and _at_least(tensorflow, tensorflows.EMPTY_HEADERS_FROM):
        raise BuildError(
            f"Horovod with GPU operations can be built for TensorFlow "
            f"{tensorflows.NEWEST_WITH_GPU_HOROVOD} or older, but {tensorflow} is installed.",
            f"Ask for framework_version='{tensorflows.NEWEST_WITH_GPU_HOROVOD}'.",
        )
    kept = wheels / _name(spec, tensorflow)
    found = _wheel_in(kept)
    if found is not None:
        tell(f"Installing Horovod {spec.horovod}, which is kept for TensorFlow {tensorflow}")
        return found
    tell(f"Building Horovod {spec.horovod} for TensorFlow {tensorflow} and {spec.mpi}")
    built = work / "wheels"
    words: list[str | Path] = [
        python,
        "-m",
        "pip",
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "--no-cache-dir",
    ]
    words += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    wanted = work / "horovod.txt"
    lines = [*indexes.private, f"horovod=={spec.horovod}"]
    write_atomic(wanted, "".join(f"{line}\n" for line in lines), PRIVATE_FILE)
    words += [*_for_pip(indexes), "--wheel-dir", built, "-r", wanted]
    commands.run(
        words,
        f"Building Horovod {spec.horovod}",
        {**indexes.variables, **_variables(spec, python, tensorflow, work, commands)},
    )
    found = _wheel_in(built)
    if found is None:
        raise commands.failed(f"Building Horovod {spec.horovod}", "there is no wheel")
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
    content = [
        spec.kind,
        spec.python_version if spec.kind == "conda" else python,
        spec.mpi,
        spec.modules,
        spec.gpu_operations,
        spec.build_variables,
        spec.machine,
        RECIPE,
    ]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:10]
    return f"horovod-{spec.horovod}-tf{tensorflow}-py{python}-{digest}"


def _wheel_in(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("horovod-*.whl"))), None)


def _variables(
    spec: EnvironmentSpec, python: Path, tensorflow: str, work: Path, commands: Commands
) -> dict[str, str]:
    """Return the variables that Horovod's build reads; the site's own come last."""
    variables = {
        "PATH": f"{python.parent}{os.pathsep}{commands.variables.get('PATH', os.defpath)}",
        "HOROVOD_WITH_MPI": "1",
        "HOROVOD_WITHOUT_GLOO": "1",
        "HOROVOD_WITH_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_PYTORCH": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "CMAKE_POLICY_VERSION_MINIMUM": "3.5",  # CMake 4 refuses what its sources ask for
        "LDFLAGS": "-Wl,--strip-debug",
        "MAKEFLAGS": f"-j{min(len(os.sched_getaffinity(0)), _MOST_JOBS)}",
    }
    if spec.gpu_operations:
        variables["HOROVOD_GPU_OPERATIONS"] = spec.gpu_operations
    elif _at_least(tensorflow, tensorflows.EMPTY_HEADERS_FROM):
        variables["CXXFLAGS"] = f"-I{_empty_headers(work)}"
    return {**variables, **dict(spec.build_variables)}


def _empty_headers(work: Path) -> Path:
    """Make the headers that Horovod includes, that TensorFlow ships no more, and that a build
    for CPUs needs nothing of."""
    folder = work / "include"
    for name in _HEADERS:
        header = folder / name
        header.parent.mkdir(parents=True, exist_ok=True)
        header.touch()
    return folder


def _at_least(version: str, series: tuple[int, int]) -> bool:
    return (tensorflows.series(version) or (0, 0)) >= series


def _for_pip(indexes: Indexes) -> list[str]:
    """Return the places of packages as options of pip's; variables say how they are reached."""
    words: list[str] = []
    options = iter(indexes.words)
    for word in options:
        if word in ("--index-url", "--extra-index-url", "--find-links"):
            words += [word, next(options)]
        elif word == "--no-index":
            words.append(word)
        elif word == "--offline":
            words.append("--no-index")
    return words
