"""The environments of hpctf's own: exact packages for every Python that hpctf runs with."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

from hpctf.common.paths import LOCKS
from hpctf.environment.interpreters import Interpreter
from hpctf.environment.own import _packages, own_spec
from hpctf.errors import SiteError
from hpctf.site.model import Site

NAMES = sorted(lock.stem for lock in Path(LOCKS).glob("*.txt"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("minor", range(10, 15))
def test_a_lock_has_one_exact_version_of_each_package(name: str, minor: int) -> None:
    lock = Path(LOCKS, f"{name}.txt").read_text()
    found = [Requirement(line) for line in _packages(lock, Interpreter("", f"3.{minor}.1"))]
    assert len({one.name for one in found}) == len(found) > 0
    assert all(str(one.specifier).startswith("==") for one in found)


def test_it_is_called_after_what_it_is_for() -> None:
    spec = own_spec("serving", Site("here"))
    assert spec.key.startswith("serving-py3.")
    assert any(line.startswith("onnxruntime==") for line in spec.locked)
    assert not any(line.startswith("tensorflow") for line in spec.locked)


def test_a_python_that_no_lock_is_for_is_refused() -> None:
    with pytest.raises(SiteError, match="hpctf's environment for serving needs"):
        own_spec("serving", Site("here"), ((4, 0), None))
