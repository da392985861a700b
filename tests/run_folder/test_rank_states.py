"""What a start of a job leaves that lives on, on a node that Slurm has lost, beside the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctf.common.files import append_record
from hpctf.node.completion import Ends, is_superseded
from hpctf.run_folder.rank_states import read_job


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run whose job has been started twice."""
    (tmp_path / "state").mkdir()
    for attempt in (0, 1):
        say(tmp_path, "job", "started", attempt)
        say(tmp_path, "chief-0", "started", attempt)
    return tmp_path


def say(folder: Path, who: str, event: str, attempt: int, **more: object) -> None:
    record = {"event": event, "attempt": attempt, **more}
    append_record(str(folder / "state" / f"{who}.jsonl"), record)


def test_an_earlier_start_of_the_job_is_superseded_by_a_later_one(folder: Path) -> None:
    assert is_superseded(str(folder), 0)
    assert not is_superseded(str(folder), 1)
    assert not is_superseded(str(folder / "nowhere"), 0)


def test_the_job_has_not_ended_when_an_earlier_start_of_it_has(folder: Path) -> None:
    say(folder, "job", "requeued", 0, cause="a warning")
    say(folder, "job", "ended", 0, exit_code=7, reason="it crashed")
    job = read_job(folder)
    assert (job.attempt, job.exit_code, job.requeued, job.own_restarts) == (1, None, None, 0)
    say(folder, "job", "ended", 1, exit_code=0, reason="")
    assert read_job(folder).exit_code == 0


def test_a_rank_has_not_ended_when_one_of_an_earlier_start_has(folder: Path) -> None:
    ends = Ends(str(folder), [{"name": "chief", "count": 1}], 1)
    say(folder, "chief-0", "ended", 0, exit_code=0)
    assert not ends.all()
    say(folder, "chief-0", "ended", 1, exit_code=0)
    assert ends.all()
