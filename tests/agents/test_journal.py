"""A journal outlives whoever writes to it."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hpctf.agents.journal import Journal
from hpctf.common.link_locks import link_locked
from hpctf.errors import RunFolderError
from tests.conftest import ROOT
from tests.support.disks import mounted


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "study.log")


def records(first: int, count: int) -> list[dict[str, int]]:
    return [{"number": number} for number in range(first, first + count)]


def test_records_come_back_in_order(journal: Journal) -> None:
    journal.append_logs(records(0, 2))
    journal.append_logs(records(2, 1))
    assert journal.read_logs(0) == records(0, 3)
    assert journal.read_logs(2) == records(2, 1)
    assert journal.read_logs(3) == []
    journal.append_logs(records(3, 2))
    assert journal.read_logs(3) == records(3, 2)
    assert journal.read_logs(1) == records(1, 4)


def test_a_journal_that_is_not_there_is_empty(journal: Journal) -> None:
    assert journal.read_logs(0) == []
    assert not os.path.exists(journal.path)


@pytest.mark.parametrize("part", [b"{", b'{"number":9', b"\0" * 200_000, b'{"number":9}'])
def test_a_torn_last_line_is_cut_off_by_the_next_append(journal: Journal, part: bytes) -> None:
    journal.append_logs(records(0, 2))
    with open(journal.path, "ab") as stream:
        stream.write(part)
    assert journal.read_logs(0) == records(0, 2)
    journal.append_logs(records(2, 1))
    assert journal.read_logs(2) == records(2, 1)
    assert Journal(journal.path).read_logs(0) == records(0, 3)


def test_a_journal_of_a_torn_line_alone_begins_anew(journal: Journal) -> None:
    Path(journal.path).write_bytes(b"x" * 70_000)
    journal.append_logs(records(0, 1))
    assert journal.read_logs(0) == records(0, 1)


def test_a_damaged_line_in_the_middle_is_passed_over_and_noted_once(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.append_logs(records(0, 1))
    with open(journal.path, "ab") as stream:
        stream.write(b"\0\0\0\n")
    journal.append_logs(records(1, 1))
    assert journal.read_logs(0) == records(0, 2)
    assert journal.read_logs(1) == records(1, 1)
    assert caplog.text.count("has a damaged line at byte 13") == 1


def test_a_line_that_is_being_written_is_left_for_later(journal: Journal) -> None:
    journal.append_logs(records(0, 1))
    with open(journal.path, "ab", buffering=0) as stream:
        stream.write(b'{"numb')
        assert journal.read_logs(0) == records(0, 1)
        stream.write(b'er":1}\n')
        assert journal.read_logs(1) == records(1, 1)


def test_a_file_size_limit_leaves_the_journal_as_it_was(journal: Journal) -> None:
    journal.append_logs(records(0, 3))
    size = os.path.getsize(journal.path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, hard))
    try:
        with pytest.raises(RunFolderError, match="journal is as it was") as refused:
            journal.append_logs(records(3, 2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert "Free some space" in str(refused.value)
    assert os.path.getsize(journal.path) == size
    journal.append_logs(records(3, 1))
    assert journal.read_logs(0) == records(0, 4)


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=64k") as small_disk:
        fill(small_disk)


def fill(small_disk: Path) -> None:
    journal = Journal(small_disk / "study.log")
    journal.append_logs(records(0, 3))
    filler = small_disk / "filler"
    with pytest.raises(OSError) as full, open(filler, "wb", buffering=0) as stream:
        while True:
            stream.write(b"x" * 4096)
    assert full.value.errno == errno.ENOSPC

    with pytest.raises(RunFolderError, match="No space left on device"):
        for _ in range(100):  # the file's own last block has some room yet
            journal.append_logs(records(3, 100))
    kept = Journal(journal.path).read_logs(0)
    assert kept[:3] == records(0, 3) and (len(kept) - 3) % 100 == 0
    filler.unlink()
    journal.append_logs([{"last": 1}])
    assert Journal(journal.path).read_logs(0) == [*kept, {"last": 1}]


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="Cannot write to the journal"):
        Journal(tmp_path / "file" / "study.log").append_logs(records(0, 1))


def test_only_one_holds_the_lock(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def hold() -> None:
        for _ in range(25):
            with link_locked(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=hold) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 150 and max(most) == 1
    assert len(os.listdir(tmp_path / "lock")) == 1


def test_a_dead_holder_of_this_machine_is_passed_over_at_once(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        with link_locked(tmp_path / "lock"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (held,) = os.listdir(tmp_path / "lock")
    assert held == "1"
    started = time.monotonic()
    with link_locked(tmp_path / "lock"):
        assert os.listdir(tmp_path / "lock") == ["2"]
    assert time.monotonic() - started < 5


def test_a_silent_holder_of_another_machine_is_passed_over_after_a_while(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    os.symlink("another-boot pid:[1] 1 2 abc", tmp_path / "lock/7")
    started = time.monotonic()
    with link_locked(tmp_path / "lock", patience_s=0.3):
        assert os.listdir(tmp_path / "lock") == ["8"]
    assert time.monotonic() - started >= 0.3


def test_an_entry_made_from_an_old_listing_is_taken_back(tmp_path: Path) -> None:
    from hpctf.common import link_locks

    (tmp_path / "lock").mkdir()
    (tmp_path / "lock/5.free").touch()
    for late in (3, 5):
        assert not link_locks._claim(str(tmp_path / "lock"), late, "me")
        assert os.listdir(tmp_path / "lock") == ["5.free"]
    assert link_locks._claim(str(tmp_path / "lock"), 6, "me")
    assert not link_locks._claim(str(tmp_path / "lock"), 6, "you")


def test_a_holder_that_was_passed_over_does_not_free_its_follower(tmp_path: Path) -> None:
    with link_locked(tmp_path / "lock"):
        os.rename(tmp_path / "lock/1", tmp_path / "lock/2")  # as a follower leaves it
    assert os.listdir(tmp_path / "lock") == ["2"]


@pytest.mark.slow
def test_a_hundred_kills_of_appenders_lose_no_trial(tmp_path: Path) -> None:
    """Killed at random points, also while they hold the lock, with the journal's end torn."""
    optuna = pytest.importorskip("optuna")
    journal, acknowledged = tmp_path / "study.log", tmp_path / "acknowledged"
    acknowledged.mkdir()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.tuning.appenders",
            str(journal),
            str(acknowledged),
            "100",
            "7",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5, "kills must hit the lock's holder, too"
    assert not list(acknowledged.glob("error-*"))

    from hpctf.tuning.optuna_store import storage_of

    told: dict[int, float] = {}
    for path in acknowledged.iterdir():
        for line in path.read_text().splitlines():
            number, _, value = line.partition(" ")
            assert int(number) not in told, "two agents had the same trial"
            told[int(number)] = float(value)
    assert len(told) >= 100, "one before each kill"

    study = optuna.load_study(study_name="study", storage=storage_of(journal))
    assert [trial.number for trial in study.trials] == list(range(len(study.trials)))
    complete = {trial.number: trial.value for trial in study.trials if trial.value is not None}
    assert told.items() <= complete.items()
    assert all(trial.params["x"] == trial.value for trial in study.trials if trial.value)

    study.add_trial(optuna.trial.create_trial(value=1.0))  # it goes on, and mends the end
    of_optuna = optuna.storages.journal.JournalFileBackend(str(journal))
    again = optuna.load_study(study_name="study", storage=optuna.storages.JournalStorage(of_optuna))
    assert len(again.trials) == len(study.trials), "optuna-dashboard reads it so"


def test_the_file_is_one_json_document_a_line(journal: Journal) -> None:
    journal.append_logs([{"text": "a\nb\u2028", "value": float("nan")}])
    (line,) = Path(journal.path).read_bytes().splitlines()
    assert json.loads(line)["text"] == "a\nb\u2028"
