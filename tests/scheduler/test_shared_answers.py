"""What a person's processes that follow runs ask Slurm together: seldom, and once for all."""

from __future__ import annotations

import itertools
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpctf.errors import SchedulerError
from hpctf.scheduler import commands, shared_answers
from hpctf.scheduler.jobs import Identity
from hpctf.scheduler.shared_answers import SharedAnswers
from hpctf.scheduler.slurm import Slurm

SQUEUE = ["squeue", "--all"]


class World:
    """A clock that sleeping moves on, and a Slurm that notes when it is asked."""

    def __init__(self) -> None:
        self.now = time.time()
        self.calls: list[tuple[float, list[str]]] = []
        self.answer: Callable[[list[str]], str] = lambda command: f"asked at {self.now:.0f}"

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self, command: list[str], timeout: float) -> str:
        self.calls.append((self.now, command))
        return self.answer(command)

    def most_within_a_minute(self) -> int:
        times = [moment for moment, _ in self.calls]
        return max(sum(0 <= other - one < 60 for other in times) for one in times)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(shared_answers, "time", world)
    monkeypatch.setattr(commands, "run", world.run)
    return world


def test_what_one_has_asked_all_others_know(world: World, tmp_path: Path) -> None:
    said = [SharedAnswers(tmp_path / "a/slurm", 4).run(SQUEUE, 20.0) for _ in range(50)]
    assert len(set(said)) == 1
    assert len(world.calls) == 1


def test_processes_that_ask_at_the_same_moment_ask_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def slow(command: list[str], timeout: float) -> str:
        asked.append(command)
        time.sleep(0.05)
        return "jobs"

    monkeypatch.setattr(commands, "run", slow)
    said: list[str] = []
    threads = [
        threading.Thread(target=lambda: said.append(SharedAnswers(tmp_path, 4).run(SQUEUE, 20.0)))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == ["jobs"] * 16
    assert len(asked) == 1


@pytest.mark.parametrize("per_minute", [1, 4, 30])
def test_any_number_of_followers_stays_within_the_questions_a_minute(
    world: World, tmp_path: Path, per_minute: int
) -> None:
    end = world.now + 600
    while world.now < end:
        for run in range(10):
            changed = world.now if (run + int(world.now)) % 7 == 0 else 0.0
            SharedAnswers(tmp_path, per_minute, changed).run(SQUEUE, 20.0)
        world.sleep(1.0)
    assert world.most_within_a_minute() <= per_minute
    assert len(world.calls) >= 9 * per_minute  # and what may be asked is


def test_an_answer_that_is_merely_old_leaves_questions_for_what_has_changed(
    world: World, tmp_path: Path
) -> None:
    for _ in range(50):
        SharedAnswers(tmp_path, 4).run(SQUEUE, 20.0)
        world.sleep(1.0)
    assert len(world.calls) == 3
    before = world.now
    SharedAnswers(tmp_path, 4, since=world.now).run(SQUEUE, 20.0)
    assert (len(world.calls), world.now) == (4, before)


def test_questions_of_every_kind_count_together(world: World, tmp_path: Path) -> None:
    for job in range(20):
        SharedAnswers(tmp_path, 4).run(["scontrol", "show", "job", str(job)], 20.0)
    assert world.most_within_a_minute() == 4


def test_an_error_is_everybodys_too(world: World, tmp_path: Path) -> None:
    def refuse(command: list[str]) -> str:
        raise SchedulerError("squeue: Unable to contact slurm controller", "Try again.")

    world.answer = refuse
    for _ in range(5):
        with pytest.raises(SchedulerError, match="Unable to contact") as caught:
            SharedAnswers(tmp_path, 4).run(SQUEUE, 20.0)
        assert caught.value.hint == "Try again."
    assert len(world.calls) == 1


@pytest.mark.parametrize(
    "words",
    [
        "squeue: error: RPC rate limited 3 times. Sleeping for 2 seconds then trying again.",
        "slurm_load_jobs error: Socket timed out on send/recv operation",
        "squeue did not answer within 20 s.",
        "error: communications backoff",
    ],
)
def test_told_that_it_is_too_much_they_ask_less_and_less(
    world: World, tmp_path: Path, words: str
) -> None:
    def refuse(command: list[str]) -> str:
        raise SchedulerError(words)

    good, world.answer = world.answer, refuse
    for _ in range(6):
        world.sleep(0.1)
        with pytest.raises(SchedulerError):
            SharedAnswers(tmp_path, 60, since=world.now).run(SQUEUE, 20.0)
    times = [moment for moment, _ in world.calls]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses == pytest.approx([30, 60, 120, 240, 300], abs=1)
    world.answer = good
    for _ in range(3):
        SharedAnswers(tmp_path, 60, since=world.now).run(SQUEUE, 20.0)
        world.sleep(2.0)
    times = [moment for moment, _ in world.calls[-2:]]
    assert times[1] - times[0] < 5


def test_a_slow_slurm_is_asked_less_often(world: World, tmp_path: Path) -> None:
    def slow(command: list[str]) -> str:
        world.sleep(4.0)
        return "jobs"

    world.answer = slow
    for _ in range(3):
        SharedAnswers(tmp_path, 60, since=world.now).run(SQUEUE, 20.0)
    times = [moment for moment, _ in world.calls]
    assert all(after - before >= 40 for before, after in itertools.pairwise(times))


def test_a_clock_that_was_ahead_stops_nobody(world: World, tmp_path: Path) -> None:
    world.now += 86_400
    SharedAnswers(tmp_path, 1).run(SQUEUE, 20.0)
    world.now -= 86_400
    before = world.now
    SharedAnswers(tmp_path, 1).run(SQUEUE, 20.0)
    assert world.now - before <= 300


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"times": 3}', "\0\xff"])
def test_files_that_are_broken_are_written_anew(world: World, tmp_path: Path, content: str) -> None:
    SharedAnswers(tmp_path, 4).run(SQUEUE, 20.0)
    for path in tmp_path.glob("*.json"):
        path.write_text(content)
    assert SharedAnswers(tmp_path, 4).run(SQUEUE, 20.0).startswith("asked at")
    assert len(world.calls) == 2


def test_nobody_else_reads_them(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "state/slurm"
    SharedAnswers(folder, 4).run(SQUEUE, 20.0)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_without_a_folder_each_asks_alone(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(3):
        SharedAnswers(tmp_path / "file/slurm", 4).run(SQUEUE, 20.0)
    assert len(world.calls) == 3


def test_answers_that_nobody_wants_any_more_go(world: World, tmp_path: Path) -> None:
    for job in range(40):
        SharedAnswers(tmp_path, 600).run(["scontrol", "show", "job", str(job)], 20.0)
        for path in tmp_path.glob("*.json"):
            if path.stat().st_mtime > 1_900_000_000 or path.name != "asked.json":
                os.utime(path, (world.now - 30 * job, world.now - 30 * job))
    assert len(list(tmp_path.glob("*.json"))) < 30


def test_one_question_is_about_all_jobs_of_the_person(world: World, tmp_path: Path) -> None:
    for job in ("4", "5", "6"):
        identity = Identity(uid=1234, script=f"/runs/{job}/job.sbatch")
        Slurm(None, SharedAnswers(tmp_path, 600)).query({job: identity})
    squeues = [command for _, command in world.calls if command[0] == "squeue"]
    assert len(squeues) == 1
    assert "--user=1234" in squeues[0]


def test_jobs_of_several_people_are_asked_for_by_their_ids(world: World, tmp_path: Path) -> None:
    jobs = {"4": Identity(uid=1), "5": Identity(uid=2)}
    Slurm(None, SharedAnswers(tmp_path, 600)).query(jobs)
    assert "--jobs=4,5" in world.calls[0][1]
