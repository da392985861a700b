"""Results are unpickled only from files the user owns, in folders nobody else can write.

Each case plants a pickle that would leave a CANARY, and looks that it did not run.
"""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpctf import Experiment, Run, TensorFlow
from hpctf.errors import RunFolderError
from hpctf.run_folder.trusted_results import trusted_results
from tests.conftest import TEST_USER, Person, skip_or_fail


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.canary),)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run on this machine that has completed."""
    (tmp_path / "proj").mkdir()
    (tmp_path / "proj/train.py").write_text("print('trained')\n")
    experiment = Experiment("test", site="local", runs_root=tmp_path / "runs")
    made = experiment.submit(TensorFlow(tmp_path / "proj", entry_script="train.py"))
    made.wait_for_completion()
    return made


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """What nobody may make: the test fails at its end if it is there."""
    path = tmp_path / "CANARY"
    yield path
    assert not path.exists(), "a pickle that is not the user's own was read"


def result_file(run: Run) -> Path:
    (path,) = run.folder.submitit.glob("*_result.pkl")
    return path


def plant(run: Run, canary: Path) -> Path:
    """Put a payload in the place of the run's result."""
    path = result_file(run)
    path.write_bytes(pickle.dumps(("success", Payload(canary))))
    return path


def refused(run: Run) -> str:
    with pytest.raises(RunFolderError) as caught:
        run.results()
    assert caught.value.exit_code == 3
    assert "which run code when read" in caught.value.message
    return caught.value.message


def test_the_users_own_results_are_read(run: Run) -> None:
    (result,) = run.results()
    assert result["exit_code"] == 0


def test_what_the_canary_watches_for_happens_where_all_is_the_users_own(
    run: Run, tmp_path: Path
) -> None:
    plant(run, tmp_path / "made")
    run.results()
    assert (tmp_path / "made").is_dir()


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777, 0o2770], ids=oct)
@pytest.mark.parametrize("folder", ["", "submitit"])
def test_a_folder_that_others_may_write_is_refused(
    run: Run, canary: Path, folder: str, mode: int
) -> None:
    plant(run, canary)
    (run.folder.path / folder).chmod(mode)
    assert f"may be written by others (mode {mode:o})" in refused(run)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666], ids=oct)
def test_a_result_that_others_may_write_is_refused(run: Run, canary: Path, mode: int) -> None:
    plant(run, canary).chmod(mode)
    assert f"_result.pkl' may be written by others (mode {mode:o})" in refused(run)


@pytest.mark.parametrize("what", ["", "submitit", "result"])
def test_what_belongs_to_somebody_else_is_refused(run: Run, canary: Path, what: str) -> None:
    if os.geteuid() != 0:
        skip_or_fail("only root can give a file away")
    planted = plant(run, canary)
    shutil.chown(planted if what == "result" else run.folder.path / what, TEST_USER)
    assert "belongs to somebody else" in refused(run)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_result_that_is_no_file_is_refused(
    run: Run, canary: Path, tmp_path: Path, kind: str
) -> None:
    planted = plant(run, canary)
    planted.rename(tmp_path / "elsewhere.pkl")
    if kind == "link":
        planted.symlink_to(tmp_path / "elsewhere.pkl")
    elif kind == "pipe":
        os.mkfifo(planted)
    else:
        planted.mkdir()
    assert "is a link, or no file at all" in refused(run)


def test_a_submitit_folder_that_is_a_link_is_refused(
    run: Run, canary: Path, tmp_path: Path
) -> None:
    plant(run, canary)
    run.folder.submitit.rename(tmp_path / "elsewhere")
    run.folder.submitit.symlink_to(tmp_path / "elsewhere")
    assert "is no folder to read" in refused(run)


def test_a_folder_further_up_that_everybody_may_write_is_refused(
    run: Run, canary: Path, tmp_path: Path
) -> None:
    plant(run, canary)
    tmp_path.chmod(0o777)
    assert f"{str(tmp_path)!r} may be written by everybody (mode 777)" in refused(run)


@pytest.mark.parametrize("mode", [0o1777, 0o2775, 0o770], ids=oct)
def test_a_folder_further_up_may_be_sticky_or_a_groups(run: Run, tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    assert run.results()[0]["exit_code"] == 0


@pytest.mark.parametrize("swapped", ["", "submitit"])
def test_what_was_checked_is_what_is_read(
    run: Run, canary: Path, tmp_path: Path, swapped: str
) -> None:
    """Somebody who may write a folder further up puts another in its place after the check."""
    name = result_file(run).name
    before = result_file(run).read_bytes()
    folder = run.folder.path / swapped
    with trusted_results(run.folder.path) as submitit:
        folder.rename(tmp_path / "aside")
        (run.folder.path / "submitit").mkdir(parents=True)
        (run.folder.path / "submitit" / name).write_bytes(pickle.dumps(Payload(canary)))
        assert (submitit / name).read_bytes() == before


@pytest.mark.slurm
def test_no_command_reads_another_users_pickle(person: Person, canary: Path) -> None:
    """The run belongs to an ordinary user, who planted a payload; root asks for its result."""
    person.write("train.py", "print('trained')\n")
    run_id = person.hpctf("submit", "--wait", "train.py").stdout.strip()
    root = Person(person.cluster, person.bin, person.home, user=None)
    folder = Path(person.status(run_id)["run_folder"])
    plant(Run(folder), person.home / "CANARY")
    for words in (["result", run_id], ["result", "--json", run_id]):
        done = root.hpctf(*words, check=False)
        assert (done.returncode, done.stdout) == (3, "")
        assert "belongs to somebody else" in done.stderr and "Traceback" not in done.stderr
    for words in (["status", run_id], ["wait", run_id], ["logs", run_id], ["files", run_id]):
        root.hpctf(*words)
    assert not (person.home / "CANARY").exists()
