"""Journals keep what was logged, whatever happens to the process that logs."""

from __future__ import annotations

import itertools
import json
import math
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from time import sleep

import pytest

from hpctf.client.hpctf.journal_reader import last_of, read_file
from hpctf.client.hpctf.run_context import Run
from hpctf.client.hpctf.run_metrics import Tracked
from tests.support.disks import mounted
from tests.support.mpi_ranks import environ, lines, start
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


def test_a_restart_takes_the_place_of_the_steps_that_it_trains_again(tmp_path: Path) -> None:
    start(tmp_path, "for n in range(6): run.log('loss', float(n), n)\nrun.log('once', 1)").wait()
    again = "for n in range(3, 8): run.log('loss', n + 100.0, n)"
    start(tmp_path, again, attempt=1).wait()
    found = Tracked(str(tmp_path)).series()
    assert found["loss"].steps == list(range(8))
    assert found["loss"].values == [0, 1, 2, 103, 104, 105, 106, 107]
    assert found["once"].values == [1]


def test_last_values_are_found_at_the_end_of_a_long_file(tmp_path: Path) -> None:
    code = """
run.log("early", 0.5, 1)
run.tag("stage", "first")
for step in range(60_000): run.log("loss", step / 7, step)
run.log("loss", float("nan"), 60_000)
os._exit(0)
"""
    start(tmp_path, code).wait()
    path = tmp_path / "metrics/worker-0.jsonl"
    assert path.stat().st_size > 3e6
    with path.open("r+b") as stream:  # nothing of that is needed
        stream.write(b"?" * 1_500_000)
    last = last_of(str(path))
    assert last.series["early"].values == [0.5]
    assert last.tags["stage"][0] == "first"
    assert math.isnan(last.series["loss"].values[0])
    assert last.series["loss"].steps == [60_000]


def test_a_line_that_was_cut_short_costs_itself_alone(tmp_path: Path) -> None:
    journal = tmp_path / "metrics/worker-0.jsonl"
    start(tmp_path, "run.log('loss', 1.0, 0)").wait()
    with journal.open("ab") as stream:
        stream.write(b'{"name":"loss","value":0.')
    assert Tracked(str(tmp_path)).last()["loss"].value == 1.0
    start(tmp_path, "run.log('loss', 2.0, 1)", attempt=1).wait()
    assert Tracked(str(tmp_path)).metrics() == {"loss": [1.0, 2.0]}
    assert Tracked(str(tmp_path)).last()["loss"].value == 2.0


def fork_a_rank_that_logs_for_ever(folder: Path, told: Path, rank: int, attempt: int) -> int:
    """Return the process of a rank, which notes outside of the journal what it has logged."""
    child = os.fork()
    if child:
        return child
    try:
        run = Run.get_context(environ=environ(folder, rank, attempt))
        note = os.open(told, os.O_WRONLY | os.O_CREAT)
        for number in itertools.count():
            run.log("loss", number / 3, number)
            os.pwrite(note, b"%10d" % number, 0)
    finally:
        os._exit(1)


def test_ranks_that_are_killed_lose_no_record(tmp_path: Path) -> None:
    """Each rank notes outside of the journal what it has logged, and is killed at some moment: a
    later one when it has logged more. Eight run at a time: together they log a million records a
    second, each of which is read again."""
    for attempt, first in itertools.product(range(2), range(0, 16, 8)):
        ranks = {}
        for rank in range(first, first + 8):
            told = tmp_path / f"told-{rank}"
            ranks[rank] = fork_a_rank_that_logs_for_ever(tmp_path / "run", told, rank, attempt)
        for rank, process in ranks.items():
            told = tmp_path / f"told-{rank}"
            while not told.exists() or int(told.read_bytes() or b"-1") < 200 * rank:
                assert os.waitpid(process, os.WNOHANG) == (0, 0)
                sleep(0.001)
            os.kill(process, signal.SIGKILL)
        for rank, process in ranks.items():
            assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
            told = tmp_path / f"told-{rank}"
            journal = tmp_path / f"run/metrics/worker-{rank}.jsonl"
            series = read_file(str(journal)).series["loss"]
            assert len(series.values) in (int(told.read_text()) + 1, int(told.read_text()) + 2)
            assert series.steps == list(range(len(series.steps)))
            assert all(value == n / 3 for n, value in enumerate(series.values))
            assert last_of(str(journal)).series["loss"].steps == series.steps[-1:]
            told.unlink()
    assert len(list((tmp_path / "run/metrics").iterdir())) == 16


@pytest.mark.parametrize("number", [1, 5000])
def test_a_second_process_of_a_rank_has_a_journal_of_its_own(tmp_path: Path, number: int) -> None:
    code = """
for n in range(NUMBER): run.log("loss", n)
if os.fork() == 0:
    run.log("loader", 2.0)
    os._exit(0)
os.wait()
run.log("loss", NUMBER)
""".replace("NUMBER", str(number))
    assert start(tmp_path, code).wait() == 0
    names = sorted(path.name for path in (tmp_path / "metrics").iterdir())
    assert names == ["worker-0.2.jsonl", "worker-0.jsonl"]
    assert Tracked(str(tmp_path)).metrics() == {"loss": [*range(number + 1)], "loader": 2.0}


def test_threads_share_a_journal(tmp_path: Path) -> None:
    run = Run.get_context(environ=environ(tmp_path))

    def log(number: int) -> None:
        for step in range(5000):
            run.log(f"loss {number}", step / 3, step)

    threads = [threading.Thread(target=log, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = run._tracked().series()
    assert {name: series.steps for name, series in found.items()} == {
        f"loss {number}": list(range(5000)) for number in range(8)
    }


def limited(size: int) -> Callable[[], None]:
    """A process that may write no file larger than this gets what a full disk gives: a part of a
    line, then errors."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("size", [5_000, 16_384, 50_000, 200_000])
def test_a_full_disk_ends_no_training_and_is_told_once(tmp_path: Path, size: int) -> None:
    code = """
import resource
for n in range(5000): run.log("loss", float(n), n)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
run.log("loss", 5000.0, 5000)
print("trained")
"""
    process = start(tmp_path, code, stderr=subprocess.PIPE, preexec_fn=limited(size))
    out, err = process.communicate()
    assert (process.returncode, out) == (0, "trained\n")
    assert err.count("cannot be written") == 1
    journal = read_file(str(tmp_path / "metrics/worker-0.jsonl"))
    kept = journal.series["loss"].steps
    assert kept == [*range(len(kept) - 1), 5000]
    assert journal.lost == 5000 - (len(kept) - 1) > 0
    assert size * 0.8 < len(kept) * 52


@pytest.mark.parametrize("last", [256, 4096])
def test_closing_all_files_costs_nothing_and_no_file_is_taken_for_another(
    tmp_path: Path, last: int
) -> None:
    code = f"""
for n in range(2000): run.log('x', n)
os.closerange(3, {last})
own = [os.open('own', os.O_RDWR | os.O_CREAT) for _ in range(40)]
for n in range(2000, 4000): run.log('x', n)
"""
    assert start(tmp_path, code, cwd=tmp_path).wait() == 0
    assert Tracked(str(tmp_path)).metrics() == {"x": list(range(4000))}
    assert (tmp_path / "own").read_bytes() == b""


def test_many_lines_and_a_long_one_leave_a_plain_file(tmp_path: Path) -> None:
    code = """
for n in range(10_000): run.log("loss", n / 3, n)
run.log_table("long", {"column": list(range(300_000))})
run.flush()
for n in range(10_000, 20_000): run.log("loss", n / 3, n)
"""
    assert start(tmp_path, code).wait() == 0
    journal = tmp_path / "metrics/worker-0.jsonl"
    assert all(lines(journal))
    assert Tracked(str(tmp_path)).series()["loss"].steps == list(range(20_000))
    assert len(Tracked(str(tmp_path)).metrics()["long"]["column"]) == 300_000
    assert Tracked(str(tmp_path)).last()["loss"].step == 19_999


def test_a_journal_is_read_while_it_is_written(tmp_path: Path) -> None:
    code = "for n in range(20_000): run.log('loss', n / 3, n)\nprint(flush=True)\nsys.stdin.read()"
    process = start(tmp_path, code, stdin=subprocess.PIPE)
    seen = 0
    while seen < 20_000:
        series = Tracked(str(tmp_path)).series().get("loss")
        found = len(series.steps) if series else 0
        assert found >= seen
        assert not series or series.steps == list(range(found))
        seen = found
    assert Tracked(str(tmp_path)).last()["loss"].step == 19_999
    process.communicate("")


def test_a_clock_that_is_set_back_goes_on(tmp_path: Path) -> None:
    code = """
import itertools
import hpctf.journal
looks = itertools.count()
hpctf.journal.time = lambda: (100.0, 50.0)[next(looks) > 5] + next(looks) / 100
for step in range(8): run.log("loss", 0.5, step)
"""
    start(tmp_path, code).wait()
    times = Tracked(str(tmp_path)).series()["loss"].times
    assert times[0] > 100.0
    assert times[-2:] == sorted(set(times[-2:]))
    assert times[-1] < 60.0


NO_LOCKS = """
import errno, fcntl
def refused(*_): raise OSError(errno.ENOSYS, "Function not implemented")
fcntl.flock = refused
"""


@pytest.mark.parametrize("before", ["", NO_LOCKS], ids=["flock", "no flock, as on Lustre"])
def test_105_processes_of_a_rank_lose_nothing(tmp_path: Path, before: str) -> None:
    code = f"""{before}
run.log("loss", -1)
for number in range(105):
    if os.fork() == 0:
        for n in range(300): run.log("loader %d" % number, n)
        run.log_table("long %d" % number, {{"n": list(range(3000))}})
        os.read(0, 1)
        os._exit(0)
for n in range(300): run.log("loss", n)
while True:
    try: assert os.wait()[1] == 0
    except ChildProcessError: break
"""
    process = start(tmp_path, code, stdin=subprocess.PIPE)
    wait_until(lambda: len(list((tmp_path / "metrics").iterdir())) == 106)
    process.communicate("")
    assert process.returncode == 0
    files = list((tmp_path / "metrics").iterdir())
    assert len(files) == 106
    assert all(lines(path) for path in files)
    found = Tracked(str(tmp_path)).metrics()
    assert found.pop("loss") == [-1, *range(300)]
    for number in range(105):
        assert found.pop(f"loader {number}") == list(range(300))
        assert found.pop(f"long {number}")["n"] == list(range(3000))
    assert not found


@pytest.mark.parametrize(
    "harm",
    [
        "os.truncate(path, 0)",
        "os.truncate(path, 3000)",
        "os.remove(path)",
        "__import__('shutil').rmtree(run._folder)",
        "os.close(2)",
        "sys.stderr.close(); os.truncate(path, 0)",
        "sys.stderr = sys.stdout = None; os.closerange(0, 4096); os.remove(path); os.mkdir(path)",
    ],
)
def test_nothing_that_is_done_to_a_journal_ends_a_training(tmp_path: Path, harm: str) -> None:
    code = f"""
path = run._folder + "/metrics/worker-0.jsonl"
for n in range(5000): run.log("loss", n / 3)
{harm}
for n in range(5000): run.log("loss", n / 3)
with run.child_run("fold") as fold: fold.log("accuracy", 0.9)
run.tag("stage", "final")
run.log_image("errors", path="/etc/hostname")
run.flush()
os._exit(7)
"""
    assert start(tmp_path / "run", code).wait() == 7
    if "rmtree" in harm:
        assert not (tmp_path / "run").exists(), "a run that was removed stays so"
    else:
        assert Tracked(str(tmp_path / "run")).children()[0].metrics() == {"accuracy": 0.9}


def test_a_full_disk_ends_no_training_whatever_is_logged(tmp_path: Path) -> None:
    code = """
run.log("loss", 1.0)
with open(run._folder + "/fill", "wb", 0) as fill:
    try:
        while True: fill.write(bytes(4096))
    except OSError:
        pass
for n in range(2000): run.log("loss", float(n))
run.log_table("classes", {"n": list(range(2000))})
run.log_image("errors", path=sys.executable, step=1)
folds = [run.child_run("fold-%d" % n) for n in range(20)]
for fold in folds: fold.log("accuracy", 0.5)
run.flush()
try:
    run.upload_file("model.bin", sys.executable)
except OSError as error:
    print(error.strerror)
os.remove(run._folder + "/fill")
for fold in folds: fold.log("accuracy", 1.0); fold.complete()
run.log("loss", 3.0)
"""
    with mounted(tmp_path / "disk", "size=256k") as disk:
        process = start(disk, code, stderr=subprocess.PIPE)
        out, err = process.communicate()
        assert (process.returncode, out) == (0, "No space left on device\n")
        assert err.count("worker-0.jsonl cannot be written") >= 1
        found = Tracked(str(disk))
        assert found.metrics()["loss"][0] == 1.0
        assert found.metrics()["loss"][-1] == 3.0
        assert found.journals()["worker-0"].lost >= 1
        assert len(found.children()) == 20
        assert {child.last()["accuracy"].value for child in found.children()} == {1.0}


def test_a_thousand_child_runs_hold_few_files_open(tmp_path: Path) -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
folds = [run.child_run("fold-%d" % n) for n in range(1100)]
for turn in range(2):
    for fold in folds: fold.log("accuracy", turn, turn)
    run.log("folds", turn, turn)
print(len(os.listdir("/proc/self/fd")) < 20)
"""
    process = start(tmp_path, code)
    assert process.communicate()[0] == "True\n"
    found = Tracked(str(tmp_path))
    assert found.metrics() == {"folds": [0, 1]}
    children = found.children()
    assert len(children) == 1100
    assert all(child.metrics() == {"accuracy": [0, 1]} for child in children)


def test_a_long_line_is_read_from_the_end_once(tmp_path: Path) -> None:
    journal = tmp_path / "metrics/worker-0.jsonl"
    start(tmp_path, "run.log('loss', 1.0)").wait()
    record = {"name": "long", "value": "x" * 4_000_000, "time": 1.0}
    with journal.open("a") as stream:
        stream.write(json.dumps(record) + "\n")
    last = last_of(str(journal))
    assert last.series["long"].values == ["x" * 4_000_000]
    assert last.series["loss"].values == [1.0]
