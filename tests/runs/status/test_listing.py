"""Listing many runs: each settled one costs one small file, whatever its size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, MultiWorker, Run, TensorFlow
from hpctf.run_folder.layout import RunFolder, run_folders
from hpctf.runs.status.listing import list_runs, listed
from hpctf.runs.status.state import KEYS
from tests.support.projects import hpctf, project


@pytest.fixture
def run(experiment: Experiment, tmp_path: Path) -> Run:
    """A run of two workers that has completed and is settled."""
    estimator = TensorFlow(
        project(tmp_path / "proj"), entry_script="train.py", distributed_training=MultiWorker(2)
    )
    done = experiment.submit(estimator)
    done.wait_for_completion()
    return done


def rows(home: Path, *words: str) -> list[dict[str, Any]]:
    """Return what ``hpctf runs --json`` answers."""
    done = hpctf("runs", "--json", *words, cwd=home)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_listing_tells_what_status_does_with_a_number_for_the_roles(
    run: Run, tmp_path: Path
) -> None:
    told = run.get_details()
    roles = told.pop("roles")
    assert rows(tmp_path) == [told]
    assert told["ranks"] == len(roles) == 2
    assert told["ended"] == max(role["ended"] for role in roles)


def test_a_settled_run_is_listed_from_one_small_file(run: Run, tmp_path: Path) -> None:
    before = rows(tmp_path)
    run.folder.plan_file.unlink()
    for path in run.folder.state.glob("*.jsonl"):
        path.unlink()
    assert rows(tmp_path) == before
    assert run.folder.final.stat().st_size < 1000


def test_a_run_that_was_moved_is_listed_where_it_is(run: Run) -> None:
    moved = run.folder.path.parent.with_name("other") / run.id
    moved.parent.mkdir()
    run.folder.path.rename(moved)
    (one,) = list_runs(moved.parent.parent)
    assert (one.details["experiment"], one.details["run_folder"]) == ("other", str(moved))


HALF = '{"state": "Failed", "reason": "", "exit_code": 1}'


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"state": "Compl', HALF])
def test_a_broken_final_state_is_found_out_anew(run: Run, tmp_path: Path, text: str) -> None:
    before = rows(tmp_path)
    run.folder.final.write_text(text)
    assert rows(tmp_path) == before
    assert json.loads(run.folder.final.read_text()).keys() >= KEYS


def test_runs_that_vanish_meanwhile_are_left_out(run: Run) -> None:
    root = run.folder.path.parent.parent
    copy = run.folder.path.with_name("test_1_aaaaaa")
    shutil.copytree(run.folder.path, copy, symlinks=True)
    found = list(run_folders(root))
    shutil.rmtree(copy)
    assert [one.id for one in listed(found)] == [run.id]


def test_hidden_folders_are_no_runs(run: Run) -> None:
    root = run.folder.path.parent.parent
    for place in (root / "test/.removing-x", root / ".archive/x"):
        shutil.copytree(run.folder.path, place, symlinks=True)
    assert [folder.id for folder in run_folders(root)] == [run.id]


def test_states_and_a_limit_narrow_a_listing(run: Run, experiment: Experiment) -> None:
    root = experiment.runs_root
    for number, state in enumerate(["Failed", "Canceled", "Failed"]):
        folder = RunFolder(run.folder.path.with_name(f"test_{number}_aaaaaa"))
        shutil.copytree(run.folder.path, folder.path, symlinks=True)
        final = json.loads(folder.final.read_text())
        folder.final.write_text(json.dumps({**final, "state": state}))
    assert [one.state for one in list_runs(root, limit=2)] == ["Completed", "Failed"]
    failed = [one.id for one in list_runs(root, "test", ["Failed"])]
    assert failed == ["test_2_aaaaaa", "test_0_aaaaaa"]
    assert [one.id for one in list_runs(root, None, ["Failed"], 1)] == failed[:1]
    assert list_runs(root, "another") == []
