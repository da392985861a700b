"""The environments of hpctf's own: exact packages for every Python that hpctf runs with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from hpctf.common.paths import LOCKS
from hpctf.environment.interpreters import Interpreter
from hpctf.environment.lock import Lock, check_as_locked
from hpctf.environment.own import _packages, own_spec
from hpctf.errors import BuildError, SiteError
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


def test_a_site_that_builds_with_pip_gets_what_the_lock_says() -> None:
    """pip spells names as their packages do, and venv installs pip itself."""
    spec = replace(own_spec("serving", Site("here")), locked=("opt-einsum==3.4.0",))
    found = ("opt_einsum==3.4.0", "pip==23.0.1", "setuptools==66.1.1")
    check_as_locked(Lock(spec.key, spec, found))
    with pytest.raises(BuildError, match=r"not in the lock: six==1\.17\.0\."):
        check_as_locked(Lock(spec.key, spec, (*found, "six==1.17.0")))
    with pytest.raises(BuildError, match=r"missing: opt-einsum==3\.4\.0"):
        check_as_locked(Lock(spec.key, spec, found[1:]))
