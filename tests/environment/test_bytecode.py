"""An environment that differs from another by a package shares the rest with it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hpctf.environment.build import ensure
from hpctf.environment.bytecode import link_compiled
from hpctf.environment.store import Store
from tests.support.built import OLDER_TENSORFLOW
from tests.support.stand_in_wheels import ask

TAG = str(sys.implementation.cache_tag)


def compiled(folder: Path) -> dict[str, int]:
    """Return the inode of each compiled module, by its path within ``site-packages``."""
    site_packages = next((folder / "lib").glob("python*/site-packages"))
    found = site_packages.rglob("__pycache__/*.pyc")
    return {str(path.relative_to(site_packages)): path.stat().st_ino for path in found}


def test_what_another_environment_has_compiled_and_checked_is_not_done_again(site: Path) -> None:
    first, loaded = ask(site, pip_packages=("tiny",))
    more, _ = ask(site, pip_packages=("tiny", "needy"))
    ensure(first, loaded)
    said: list[str] = []
    python = ensure(more, loaded, said.append)
    assert f"Its TensorFlow is that of environment {first.key}, which was checked" in said

    environments = {one.key: one for one in Store(loaded).environments()}
    before, now = (
        compiled(environments[first.key].current),
        compiled(environments[more.key].current),
    )
    assert before.items() <= now.items()
    assert f"__pycache__/needy.{TAG}.pyc" in now or f"needy/__pycache__/__init__.{TAG}.pyc" in now
    assert environments[more.key].record()["checked"] == environments[first.key].record()["checked"]
    assert os.access(python, os.X_OK)


def test_with_another_version_it_is_checked_again(site: Path) -> None:
    said: list[str] = []
    for tensorflow in ("2.21", OLDER_TENSORFLOW):
        spec, loaded = ask(site, pip_packages=("tiny",), framework_version=tensorflow)
        ensure(spec, loaded, said.append)
    assert said.count("Checking it: TensorFlow's import") == 2


def test_only_the_very_same_files_are_shared(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        (folder / "package").mkdir(parents=True)
        (folder / "package/equal.py").write_text("same = True\n")
        (folder / f"{folder.name}.py").write_text("")
    (theirs / "package/same.py").write_text("linked = True\n")
    os.link(theirs / "package/same.py", ours / "package/same.py")
    (theirs / "package/not_compiled.py").write_text("")
    os.link(theirs / "package/not_compiled.py", ours / "package/not_compiled.py")
    (theirs / "package/__pycache__").mkdir()
    for name in ("equal", "same"):
        (theirs / f"package/__pycache__/{name}.{TAG}.pyc").write_bytes(b"compiled")

    assert link_compiled(ours, theirs, TAG) == 1
    assert [path.name for path in ours.rglob("*.pyc")] == [f"same.{TAG}.pyc"]
