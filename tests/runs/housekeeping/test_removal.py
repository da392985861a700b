"""Removing runs, and what they take of the disk: real runs on this machine."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, Run, UsageError
from hpctf.errors import RunFolderError
from hpctf.runs.housekeeping import removal
from hpctf.runs.housekeeping.disk_usage import sizes_of
from hpctf.runs.housekeeping.removal import REMOVING, finish_removals, reasons_to_stay, remove
from hpctf.runs.status.listing import list_runs
from tests.conftest import ROOT, skip_or_fail
from tests.support.ended_runs import Copy, submit
from tests.support.projects import hpctf
from tests.support.waiting import HANGS_S

NOBODY = 65534


def there(root: Path) -> list[str]:
    """Return the ids that a listing shows."""
    return [one.id for one in list_runs(root)]


def rm(home: Path, *words: str, code: int = 0) -> tuple[Any, str]:
    """Run ``hpctf runs --rm --json``; return its answer and what it said."""
    done = hpctf("runs", "--rm", "--json", *words, cwd=home)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout) if done.stdout else None, done.stderr


def test_a_run_is_removed_with_all_that_is_in_it(run: Run, copy: Copy, tmp_path: Path) -> None:
    other = copy()
    done = hpctf("runs", "--rm", run.id, "--yes", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{run.id}\n")
    assert there(run.folder.root) == [other.id]
    assert os.listdir(run.folder.path.parent) == [other.id]


def test_from_python(run: Run) -> None:
    run.delete()
    assert there(run.folder.root) == []


@pytest.mark.parametrize(
    "words", [["@last"], ["test_9"], ["test_9", "@last"], ["test_9_aaaaaa", "test_9_aaaaaa"]]
)
def test_runs_are_named_by_id_prefix_and_last(
    words: list[str], run: Run, copy: Copy, tmp_path: Path
) -> None:
    """The same run named twice goes once."""
    older = [copy() for _ in range(10)][-1]
    shutil.rmtree(run.folder.path)
    answer, _ = rm(tmp_path, *words, "--yes")
    assert answer["removed"] == [older.id]
    assert len(there(run.folder.root)) == 9


def test_a_prefix_of_several_runs_removes_none(run: Run, copy: Copy, tmp_path: Path) -> None:
    copy()
    _, said = rm(tmp_path, "test_", "--yes", code=2)
    assert "2 runs begin with 'test_'" in said
    assert len(there(run.folder.root)) == 2


def test_runs_are_chosen_by_state_age_size_and_experiment(
    run: Run, copy: Copy, tmp_path: Path
) -> None:
    old, failed, large = copy(days_ago=40), copy("Failed", 20), copy()
    canceled, others = copy("Canceled", 50), copy("Failed", 60, "other")
    (large.folder.outputs / "model").write_bytes(os.urandom(2_000_000))

    def chosen(*words: str) -> set[str]:
        done = hpctf("runs", "--json", *words, cwd=tmp_path)
        return {row["id"] for row in json.loads(done.stdout)}

    assert chosen("--older-than", "30d") == {old.id, canceled.id, others.id}
    assert chosen("--older-than", "30d", "--experiment", "test") == {old.id, canceled.id}
    assert chosen("--larger-than", "1MB") == {large.id}
    assert chosen("--larger-than", "1TB") == set()
    assert chosen("--state", "failed", "--state", "Canceled") == {failed.id, canceled.id, others.id}
    assert chosen("--state", "Failed", "--older-than", "3w") == {others.id}
    assert chosen(old.id, large.id, "--older-than", "30d") == {old.id}
    answer, _ = rm(tmp_path, "--state", "Failed", "--experiment", "test", "--yes")
    assert answer["removed"] == [failed.id]


def test_a_live_run_is_refused_by_name_and_nothing_is_touched(
    live: Run, copy: Copy, tmp_path: Path
) -> None:
    over = copy()
    _, said = rm(tmp_path, over.id, live.id, "--yes", code=2)
    assert f"Run {live.id} must stay: it is Running." in said
    assert {over.id, live.id} <= set(there(live.folder.root))
    with pytest.raises(UsageError, match="it is Running"):
        live.delete()
    assert live.status == "Running"


def test_a_live_run_that_others_are_chosen_with_is_left(
    live: Run, copy: Copy, tmp_path: Path
) -> None:
    over = copy()
    answer, said = rm(tmp_path, "--older-than", "0s", "--yes")
    assert over.id in answer["removed"]
    assert answer["kept"][live.id] == "it is Running"
    assert f"Run {live.id} stays: it is Running." in said
    assert live.status == "Running"


def test_a_run_that_a_live_one_began_with_is_left(live: Run, run: Run, tmp_path: Path) -> None:
    _, said = rm(tmp_path, run.id, "--yes", code=2)
    assert f"Run {run.id} must stay: run {live.id} uses it, which is not over." in said
    live.cancel()
    live.wait_for_completion(raise_on_error=False)
    assert rm(tmp_path, run.id, "--yes")[0]["removed"] == [run.id]


def test_a_run_that_holds_a_live_ones_batch_script_is_left(
    live: Run, copy: Copy, tmp_path: Path
) -> None:
    """As the first run of a job array does for all the others."""
    first = copy()
    first.folder.script.write_text("#!/bin/bash\n")
    live.folder.script.symlink_to(first.folder.script)
    assert list(reasons_to_stay(first.folder.root, [first.folder])) == [first.id]


def on_a_terminal(home: Path, answer: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run an hpctf command that asks, and answer it."""
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    try:
        return subprocess.run(
            [sys.executable, "-m", "hpctf", *words],
            cwd=home,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HPCTF_RUNS_ROOT": str(home / "runs")},
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=HANGS_S,
        )
    finally:
        os.close(ours)
        os.close(theirs)


def test_it_shows_what_would_go_and_asks(run: Run, copy: Copy, tmp_path: Path) -> None:
    copy("Failed")
    words = ["runs", "--rm", "--experiment", "test"]
    for answer in ("n\n", "\n"):
        kept = on_a_terminal(tmp_path, answer, *words)
        assert (kept.returncode, kept.stdout) == (0, "")
        assert len(there(run.folder.root)) == 2
    assert f"{run.id}  Completed" in kept.stderr
    assert "2 runs, " in kept.stderr
    assert "Remove them? [y/N]" in kept.stderr
    gone = on_a_terminal(tmp_path, "y\n", *words)
    assert len(gone.stdout.split()) == 2
    assert there(run.folder.root) == []


def test_a_script_must_say_yes(run: Run, tmp_path: Path) -> None:
    done = hpctf("runs", "--rm", run.id, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert run.id in done.stderr
    assert "Pass --yes" in done.stderr
    assert there(run.folder.root) == [run.id]


def test_a_removal_that_was_killed_is_finished_by_the_next(
    run: Run, copy: Copy, tmp_path: Path
) -> None:
    """Whether the next names the run or not."""
    other = copy()
    for number in range(20_000):
        (run.folder.outputs / str(number)).touch()
    hidden = run.folder.path.with_name(REMOVING + run.id)
    words = [sys.executable, "-m", "hpctf", "runs", "--rm", run.id, "--yes"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HPCTF_RUNS_ROOT": str(tmp_path / "runs")}
    removal = subprocess.Popen(words, env=env)
    while not hidden.exists():
        assert removal.poll() is None
        time.sleep(0.001)  # 20,000 files take longer to remove
    removal.kill()
    removal.wait()
    assert hidden.exists()
    assert there(run.folder.root) == [other.id]
    half = tmp_path / "half"
    shutil.copytree(hidden, half, symlinks=True, ignore=lambda _, names: names[10:])
    for named in ([run.id, "--yes"], []):
        if not hidden.exists():
            half.rename(hidden)
        answer, said = rm(tmp_path, *named)
        assert answer == {"removed": [run.id], "kept": {}}
        assert f"Run {run.id} was half removed, and is gone." in said
        assert os.listdir(run.folder.path.parent) == [other.id]


def test_a_run_that_went_meanwhile_is_told(run: Run) -> None:
    folder = run.folder
    shutil.rmtree(folder.path)
    with pytest.raises(UsageError, match=f"Run {run.id} must stay: it is gone"):
        remove(folder.root, [folder])


def test_a_run_may_be_named_by_a_path_that_leads_to_it(live: Run, run: Run, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run.folder.root)
    for other, reason in ((live, "it is Running"), (run, f"run {live.id} uses it")):
        with pytest.raises(UsageError, match=reason):
            Run(tmp_path / "link/test/../test" / other.id).delete()


def test_what_links_lead_to_stays(run: Run, tmp_path: Path) -> None:
    elsewhere = tmp_path / "scratch"
    run.folder.outputs.rename(elsewhere)
    run.folder.outputs.symlink_to(elsewhere)
    (elsewhere / "large").write_bytes(os.urandom(1_000_000))
    assert sizes_of(run.folder.path).total < 500_000
    _, said = rm(tmp_path, run.id, "--yes")
    assert f"{run.folder.outputs} leads to {elsewhere}, which stays." in said
    assert sorted(os.listdir(elsewhere)) == ["large", "said.txt"]


def test_a_run_folder_that_is_a_link_is_refused(run: Run, tmp_path: Path) -> None:
    elsewhere = tmp_path / "moved"
    run.folder.path.rename(elsewhere)
    run.folder.path.symlink_to(elsewhere)
    _, said = rm(tmp_path, run.id, "--yes", code=2)
    assert f"its folder is a link to '{elsewhere}'" in said
    assert elsewhere.exists()


@pytest.mark.parametrize("words", [["runs", "--rm"], ["archive"]])
def test_somebody_elses_run_is_refused(run: Run, tmp_path: Path, words: list[str]) -> None:
    if os.geteuid() != 0:
        skip_or_fail("only root can give a run to somebody else")
    os.chown(run.folder.path, NOBODY, NOBODY)
    done = hpctf(*words, run.id, "--yes", cwd=tmp_path)
    assert done.returncode == 2
    assert f"Run {run.id} must stay: it belongs to nobody." in done.stderr
    assert run.folder.record_file.exists()


@contextmanager
def as_nobody(run: Run) -> Iterator[Path]:
    """Be an ordinary user with the run, in a root of their own; give its experiment's folder."""
    if os.geteuid() != 0:
        skip_or_fail("only root can be somebody else")
    home = Path(tempfile.mkdtemp(dir="/var/tmp"))
    experiment = home / "runs/test"
    experiment.mkdir(parents=True)
    shutil.move(run.folder.path, experiment / run.id)
    for path in [home, *home.rglob("*")]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    os.seteuid(NOBODY)
    try:
        yield experiment
    finally:
        os.seteuid(0)
        shutil.rmtree(home)


def test_folders_that_their_owner_may_not_write_go_too(run: Run) -> None:
    with as_nobody(run) as experiment:
        mine = Run(experiment / run.id)
        sealed = mine.folder.snapshot / "data/of/mine"
        sealed.mkdir(parents=True)
        (sealed / "file").touch()
        for folder in (sealed, sealed.parent, sealed.parent.parent):
            folder.chmod(0o500)
        mine.delete()
        assert list(experiment.iterdir()) == []


def test_what_may_not_be_removed_is_one_message_and_stays(run: Run) -> None:
    with as_nobody(run) as experiment:
        mine = Run(experiment / run.id)
        experiment.chmod(0o500)
        with pytest.raises(
            RunFolderError, match=r"cannot be removed: .* Permission denied"
        ) as said:
            mine.delete()
        assert said.value.exit_code == 3
        assert str(experiment) in str(said.value.hint)
        assert mine.status == "Completed"


def test_what_one_run_refuses_does_not_keep_the_others(
    run: Run, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = copy(), copy()
    take_away = removal.take_away

    def stubborn(folder: Path) -> None:
        if folder == one.folder.path:
            raise RunFolderError("no")
        take_away(folder)

    monkeypatch.setattr(removal, "take_away", stubborn)
    with pytest.raises(RunFolderError, match="no"):
        remove(run.folder.root, [one.folder, run.folder, other.folder])
    assert there(run.folder.root) == [one.id]


def test_half_removed_runs_of_others_are_left(run: Run) -> None:
    if os.geteuid() != 0:
        skip_or_fail("only root can give a run to somebody else")
    hidden = run.folder.path.with_name(REMOVING + run.id)
    run.folder.path.rename(hidden)
    os.chown(hidden, NOBODY, NOBODY)
    assert finish_removals(run.folder.root) == []
    assert hidden.exists()


def du_of(path: Path) -> int:
    """Return what du(1) says."""
    told = subprocess.check_output(["du", "--summarize", "--block-size=1", path], text=True)
    return int(told.split()[0])


def test_sizes_are_those_of_du(run: Run) -> None:
    outputs = run.folder.outputs
    (outputs / "deep/er").mkdir(parents=True)
    (outputs / "deep/er/data").write_bytes(os.urandom(123_456))
    os.link(outputs / "deep/er/data", outputs / "again")
    os.link(outputs / "deep/er/data", run.folder.checkpoints / "again")
    with (outputs / "sparse").open("wb") as stream:
        stream.truncate(10_000_000_000)
    (outputs / "out").symlink_to("/usr")
    (outputs / "loop").symlink_to(outputs)
    sizes = sizes_of(run.folder.path)
    assert sizes.total == du_of(run.folder.path)
    assert sizes.parts["snapshot"] == du_of(run.folder.snapshot)
    assert sizes.unread == 0


def test_du_tells_experiments_and_runs_by_part(run: Run, copy: Copy, tmp_path: Path) -> None:
    large = copy(experiment="other")
    (large.folder.outputs / "model").write_bytes(os.urandom(3_000_000))
    os.link(large.folder.outputs / "model", run.folder.outputs / "model")
    answer = json.loads(hpctf("du", "--json", cwd=tmp_path).stdout)
    assert [one["experiment"] for one in answer["runs"]] == list(answer["experiments"])
    assert sum(one["bytes"]["total"] for one in answer["runs"]) == answer["total"]["total"]
    assert 3_000_000 < answer["total"]["outputs"] < 3_100_000  # once for both
    table = [line.split()[0] for line in hpctf("du", cwd=tmp_path).stdout.splitlines()]
    assert table == ["OUTPUTS", *answer["experiments"], "total"]
    told = hpctf("du", "--runs", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in told[1:-1]] == [one["id"] for one in answer["runs"]]
    told = hpctf("du", large.id, cwd=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in told[1:]] == [large.id, "total"]
    assert "3.0 MB" in told[1]


def test_du_says_what_it_could_not_read(run: Run) -> None:
    with as_nobody(run) as experiment:
        mine = Run(experiment / run.id)
        (mine.folder.outputs / "sealed").mkdir(mode=0)
        assert sizes_of(mine.folder.path).unread == 1


def test_a_run_submitted_again_after_removal_is_another(
    run: Run, experiment: Experiment, tmp_path: Path
) -> None:
    run.delete()
    again = submit(experiment, tmp_path)
    again.wait_for_completion()
    assert there(experiment.runs_root) == [again.id]
