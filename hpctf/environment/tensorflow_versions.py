"""What is known of TensorFlow's packages and versions: names, Pythons, defaults."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpctf.errors import UsageError, shown

if TYPE_CHECKING:
    from packaging.requirements import Requirement

TESTED = "2.21"
"""What is installed when nobody names a version: the newest that hpctf's tests train with."""

NEWEST_WITH_GPU_HOROVOD = "2.18"
"""Later ones ship no XLA headers, which Horovod's GPU operations are compiled with (measured)."""

EMPTY_HEADERS_FROM = (2, 19)
"""From here on Horovod's CPU build needs the headers to be there, and nothing of them."""

KERAS_3_FROM = (2, 16)
"""From here on TensorFlow's Keras is Keras 3; tf-keras is the one that Horovod trains with."""

NO_TENSORBOARD_FROM = (2, 21)
"""From here on TensorFlow does not bring TensorBoard, which Keras's callback of that name needs."""

NAMES = (
    *("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tensorflow-rocm", "tensorflow-cpu-aws"),
    *("tensorflow-aarch64", "intel-tensorflow", "tf-nightly", "tf-nightly-cpu", "tf-nightly-gpu"),
)
"""Packages that bring TensorFlow."""

RELEASED = tuple(name for name in NAMES if "nightly" not in name)
"""Those of releases: nightly builds have a TensorBoard of their own, tb-nightly."""

_GPU_ENDED = (2, 12)

_PYTHONS = {
    (2, 21): ((3, 10), (3, 13)),
    (2, 20): ((3, 9), (3, 13)),
    **dict.fromkeys([(2, 19), (2, 18), (2, 17), (2, 16)], ((3, 9), (3, 12))),
    **dict.fromkeys([(2, 15), (2, 14)], ((3, 9), (3, 11))),
    **dict.fromkeys([(2, 13), (2, 12)], ((3, 8), (3, 11))),
    **dict.fromkeys([(2, 11), (2, 10), (2, 9), (2, 8)], ((3, 8), (3, 10))),
    **dict.fromkeys([(2, 7), (2, 6), (2, 5)], ((3, 8), (3, 9))),
    **dict.fromkeys([(2, 4), (2, 3), (2, 2)], ((3, 8), (3, 8))),
}
"""Oldest and newest Python of each version's wheels on PyPI; from 3.8, which hpctf needs."""


OLDEST = min(_PYTHONS)
"""The oldest that can be installed."""


def series(version: str) -> tuple[int, int] | None:
    """Return ``(2, 18)`` for ``2.18.1``; None for text that does not begin so."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None


def is_at_least(version: str, series_wanted: tuple[int, int]) -> bool:
    """Return whether a version is known to be of a series, or of a later one."""
    return (series(version) or (0, 0)) >= series_wanted


def pythons_of(version: str) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Return the oldest and the newest Python that a TensorFlow has packages for.

    None: nothing is known of the newest, for a version that is newer than this table, or not known
    either. The installer then finds out.
    """
    known = series(version)
    if known in _PYTHONS:
        return _PYTHONS[known]
    newest = max(_PYTHONS)
    return (_PYTHONS[newest] if known and known > newest else min(_PYTHONS.values()))[0], None


def specifier_of(framework_version: str) -> str:
    """Return ``==2.18.*`` for ``2.18``, and ``==2.18.1`` for ``2.18.1``.

    Raises
    ------
    UsageError
        It is no version, or older than what runs on the Pythons that hpctf works with.
    """
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?([abrc]+\d+)?", framework_version):
        raise UsageError(
            f"framework_version is {shown(framework_version)}, but must be a version of "
            f"TensorFlow, such as {TESTED!r} or '2.18.1'."
        )
    if (series(framework_version) or OLDEST) < OLDEST:
        raise UsageError(
            f"framework_version is {shown(framework_version)}, but TensorFlow "
            f"{OLDEST[0]}.{OLDEST[1]} is the oldest with packages for Python 3.8, which hpctf "
            "needs.",
            "For an older one, build the environment yourself and name it: --python EXE.",
        )
    precise = framework_version.count(".") > 1
    return f"=={framework_version}" if precise else f"=={framework_version}.*"


def package_for(site_package: str | None, gpu: bool, machine: str) -> str:
    """Return the package that brings TensorFlow: the site's, or the one for its processors."""
    if site_package is not None:
        return site_package
    if gpu:
        return "tensorflow[and-cuda]"
    return "tensorflow-cpu" if machine == "x86_64" else "tensorflow"


def named_version(requirements: Sequence[Requirement]) -> str:
    """Return the version that people pin TensorFlow to, as ``2.18``; empty if they do not."""
    for requirement in requirements:
        for specifier in requirement.specifier:
            found = series(specifier.version)
            if specifier.operator in ("==", "===", "~=") and found:
                return f"{found[0]}.{found[1]}"
    return ""


def check_names(requirements: Sequence[Requirement]) -> None:
    """Refuse ``tensorflow-gpu`` where it is no more: its 2.12 is empty, and cannot be installed.

    Raises
    ------
    UsageError
        It is named without a version, or with one that is empty.
    """
    from packaging.utils import canonicalize_name

    for requirement in requirements:
        if canonicalize_name(requirement.name) != "tensorflow-gpu":
            continue
        version = series(named_version([requirement]))
        if version is None or not OLDEST <= version < _GPU_ENDED:
            raise UsageError(
                f"The package {shown(str(requirement))} cannot be installed: tensorflow-gpu ended "
                "with TensorFlow 2.11, and has become part of tensorflow.",
                "Write 'tensorflow[and-cuda]' in its place (without GPUs: 'tensorflow').",
            )
