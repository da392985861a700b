"""A run that is submitted again gets the environment that it had, or one of the same versions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hpctf import Experiment, Run, TensorFlow
from hpctf.environment.lock import read_lock
from hpctf.environment.store import LOCK_FILE
from tests.support.projects import project
from tests.support.stand_in_wheels import make_site, make_wheel, make_wheels

SAY = "import tiny, sys\nopen('outputs/tiny', 'w').write(f'{tiny.__version__} {sys.prefix}')\n"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose environment was built from a file that is gone since."""
    site = make_site(tmp_path, make_wheels(tmp_path / "wheels"))
    source = project(tmp_path / "proj", text=SAY)
    (source / "needs.txt").write_text("tiny\n")
    estimator = TensorFlow(source, entry_script="train.py", pip_requirements_file="needs.txt")
    made = Experiment("e", site=str(site), runs_root=tmp_path / "runs").submit(estimator)
    made.wait_for_completion()
    shutil.rmtree(source)
    return made


def said(run: Run) -> list[str]:
    run.wait_for_completion()
    return (run.folder.outputs / "tiny").read_text().split()


def test_the_same_environment_is_used_and_not_built_again(run: Run, tmp_path: Path) -> None:
    key = run.folder.read_record()["environment"]
    current = (tmp_path / "store" / key / "current").readlink()
    make_wheel(tmp_path / "wheels", "tiny", "1.2")
    new = run.resubmit()
    assert said(new) == said(run)
    assert new.folder.read_record()["environment"] == key
    assert (tmp_path / "store" / key / "current").readlink() == current
    same = [(one.folder.path / LOCK_FILE).read_text() for one in (run, new)]
    assert same[0] == same[1]
    assert said(new.resubmit()) == said(run)


def test_one_that_is_gone_is_built_of_the_same_versions(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = run.folder.read_record()["environment"]
    shutil.rmtree(tmp_path / "store" / key)
    make_wheel(tmp_path / "wheels", "tiny", "1.2")
    new = run.resubmit()
    assert said(new)[0] == said(run)[0] == "1.1"
    assert f"environment {key} is not there as it was" in caplog.text
    locks = [read_lock(one.folder.path / LOCK_FILE) for one in (run, new)]
    assert locks[0].packages == locks[1].packages
    last = new.resubmit()  # which finds the new one
    assert last.folder.read_record()["environment"] == new.folder.read_record()["environment"]
    request = json.loads(new.folder.record_file.read_text())["request"]
    assert request["pip_requirements_file"] == str(tmp_path / "proj/needs.txt")
    last.wait_for_completion()
