"""`run.log` and its like: what was logged is there, whatever happens to the process."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hpctf.client.hpctf.context import Run
from hpctf.client.hpctf.records import last_of, read_file
from hpctf.client.hpctf.tracked import Tracked
from hpctf.resources import CLIENT


def environ(folder: Path, rank: int = 0, attempt: int = 0, role: str = "worker") -> dict[str, str]:
    """The variables of a rank, whose run folder is made."""
    (folder / "metrics").mkdir(parents=True, exist_ok=True)
    return {
        "HPCTF_RUN_ID": "digits_1_a",
        "HPCTF_RUN_FOLDER": str(folder),
        "HPCTF_ROLE": role,
        "HPCTF_INDEX": str(rank),
        "HPCTF_RANK": str(rank),
        "HPCTF_RESTART_COUNT": str(attempt),
    }


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.get_context(environ=environ(tmp_path / "run"))


def start(
    folder: Path, code: str, rank: int = 0, attempt: int = 0, **options: Any
) -> subprocess.Popen[str]:
    """Start a rank that runs `code` with its `run`."""
    env = {**os.environ, **environ(folder, rank, attempt), "PYTHONPATH": CLIENT}
    code = f"import os, sys\nfrom hpctf import Run\nrun = Run.get_context()\n{code}"
    words = [sys.executable, "-S", "-c", code]
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True, **options)


def lines(path: Path) -> list[dict[str, Any]]:
    """Every line of a journal, which must be JSON as other languages read it, too."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


class Element:
    """What numpy, TensorFlow and PyTorch have in common: an element or an array of their own."""

    def __init__(self, content: Any, shape: tuple[int, ...] = ()) -> None:
        self.content, self.shape = content, shape

    def item(self) -> Any:
        if not isinstance(self.content, (int, float)):
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.content

    def tolist(self) -> Any:
        return self.content


class Tensor:
    """An eager tensor, or a symbol inside a tf.function, which has no value."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def numpy(self) -> Element:
        if self.content is None:
            raise NotImplementedError("numpy() is only available when eager execution is enabled.")
        return Element(self.content)


def test_what_is_logged_comes_back_by_name(run: Run) -> None:
    for step, loss in enumerate([0.9, 0.5, 0.25]):
        run.log("loss", loss, step)
    run.log("accuracy", 0.97)
    run.log("optimizer", "adam")
    run.log("finished", True)
    found = run.get_metrics()
    assert found == {
        "loss": [0.9, 0.5, 0.25],
        "accuracy": 0.97,
        "optimizer": "adam",
        "finished": True,
    }
    assert run.get_metrics("accuracy") == {"accuracy": 0.97}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1, 1),
        (2**70, 2**70),
        (0.1, 0.1),
        (5e-324, 5e-324),
        (math.inf, math.inf),
        (-math.inf, -math.inf),
        (False, False),
        (Element(0.1), 0.1),
        (Element(7), 7),
        (Element(math.inf), math.inf),
        (Tensor(0.25), 0.25),
        (Decimal("0.5"), 0.5),
    ],
)
def test_values_are_kept_to_the_bit(run: Run, value: Any, kept: Any) -> None:
    run.log("x", value, step=3)
    found = run.get_metrics()["x"]
    assert found == kept
    assert type(found) is type(kept)
    assert lines(Path(run._tracked().folder) / "metrics/worker-0.jsonl")[-1]["step"] == 3


def test_nan_is_kept_and_every_line_stays_json(run: Run) -> None:
    run.log("x", math.nan)
    run.log_list("many", [1.0, Element(math.nan), Tensor(-math.inf)])
    run.log_row("row", loss=math.nan)
    assert math.isnan(run.get_metrics()["x"])
    first, second, third = run.get_metrics()["many"]
    assert (first, math.isnan(second), third) == (1.0, True, -math.inf)
    assert math.isnan(run.get_metrics()["row"]["loss"])
    assert lines(Path(run._tracked().folder) / "metrics/worker-0.jsonl")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Element([1, 2], (2,)), "takes a number, a string or a bool, not a Element of shape (2,)"),
        ([1, 2], "log_list"),
        (object(), "not a object"),
        (Tensor(None), "inside a tf.function there are only symbols"),
    ],
)
def test_what_is_no_value_is_refused_with_the_way_out(run: Run, value: Any, words: str) -> None:
    with pytest.raises(TypeError) as refused:
        run.log("x", value)
    assert words in str(refused.value)
    assert "log('x', ...)" in str(refused.value)


@pytest.mark.parametrize("step", [1.5, "three", None])
def test_a_step_is_a_whole_number(run: Run, step: Any) -> None:
    if step is None:
        run.log("x", 1.0, step)
        return
    with pytest.raises(TypeError, match="whole number"):
        run.log("x", 1.0, step)


def test_steps_may_be_tensors_and_whole_floats(run: Run) -> None:
    run.log("x", 1.0, Tensor(3))
    run.log("x", 2.0, 4.0)
    assert run._tracked().series()["x"].steps == [3, 4]


@pytest.mark.parametrize("name", ['a","b', "b,c", "päd\n", '"', "\\", "value"])
def test_any_name_is_a_name(run: Run, name: str) -> None:
    for value in (1.0, 2.0):
        run.log(name, value)
        run.log("other", value)
    run.flush()
    assert run.get_metrics()[name] == [1.0, 2.0]
    assert run._tracked().last()[name].value == 2.0


def test_lists_rows_and_tables_have_azure_mls_forms(run: Run) -> None:
    run.log_list("lr", [0.1, 0.2])
    run.log_list("lr", (0.3,))
    run.log_row("one", batch=64, images=1200.5)
    run.log_row("speed", batch=64, images=1200.5)
    run.log_row("speed", batch=128)
    run.log_table("classes", {"name": ["a", "b"], "f1": Element([0.5, 0.75], (2,))})
    assert run.get_metrics() == {
        "lr": [0.1, 0.2, 0.3],
        "one": {"batch": 64, "images": 1200.5},
        "speed": {"batch": [64, 128], "images": [1200.5, None]},
        "classes": {"name": ["a", "b"], "f1": [0.5, 0.75]},
    }


def test_a_confusion_matrix_has_as_many_labels_as_rows(run: Run) -> None:
    azure = {"schema_type": "confusion_matrix", "data": {"class_labels": ["a"], "matrix": [[3]]}}
    run.log_confusion_matrix("digits", [[5, 1], [0, 4]], labels=["one", "two"])
    run.log_confusion_matrix("azure", json.dumps(azure))
    assert run.get_metrics()["digits"]["class_labels"] == ["one", "two"]
    assert run.get_metrics()["azure"] == {"class_labels": ["a"], "matrix": [[3]]}
    with pytest.raises(ValueError, match="2 rows and 3 labels"):
        run.log_confusion_matrix("digits", [[5, 1], [0, 4]], labels=["one", "two", "three"])


def test_images_and_uploads_are_copied_at_once(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "curve.jpg"
    picture.write_bytes(b"first")
    run.log_image("the curve", path=picture, step=4)
    run.upload_file("model.bin", picture)
    run.upload_file("outputs/model.bin", picture)
    (tmp_path / "many/deep").mkdir(parents=True)
    (tmp_path / "many/deep/a.txt").write_text("a")
    run.upload_folder("notes", tmp_path / "many")
    picture.write_bytes(b"second")
    folder = tmp_path / "run"
    assert run.get_metrics()["the curve"] == "images/the_curve_4.jpg"
    assert (folder / "artifacts/images/the_curve_4.jpg").read_bytes() == b"first"
    assert (folder / "artifacts/model.bin").read_bytes() == b"first"
    assert (folder / "outputs/model.bin").read_bytes() == b"first"
    assert (folder / "artifacts/notes/deep/a.txt").read_text() == "a"
    run.upload_file("outputs/model.bin", folder / "outputs/model.bin")  # it is there already


class Figure:
    """A matplotlib figure saves itself."""

    def savefig(self, path: str, format: str) -> None:
        Path(path).write_bytes(f"a {format}".encode())


def test_a_figure_is_saved_by_itself(run: Run, tmp_path: Path) -> None:
    run.log_image("curve", plot=Figure(), step=1)
    assert (tmp_path / "run/artifacts/images/curve_1.png").read_bytes() == b"a png"
    with pytest.raises(TypeError, match="either a path or a plot"):
        run.log_image("curve")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "", "a/../../x"])
def test_a_file_stays_within_its_run(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(ValueError, match="within the run"):
        run.upload_file(name, tmp_path / "x")


def test_tags_change_and_properties_do_not(run: Run) -> None:
    for value in ("first", "second"):
        run.tag("stage", value)
        run.add_properties({"origin": value})
    run.set_tags({"n": 3})
    assert run.get_tags() == {"stage": "second", "n": 3}
    assert run.get_properties() == {"origin": "first"}


def test_children_have_metrics_tags_and_ends_of_their_own(run: Run) -> None:
    with run.child_run("fold-1") as fold:
        fold.log("accuracy", 0.5)
        fold.tag("fold", 1)
    with pytest.raises(RuntimeError), run.child_run("fold-2") as broken:
        raise RuntimeError("no data")
    run.child_run("fold-1").log("accuracy", 0.75)  # as a job that was started again does
    assert run.get_metrics() == {}
    first, second = run._tracked().children()
    assert (first.name, first.metrics(), first.tags()) == (
        "fold-1",
        {"accuracy": [0.5, 0.75]},
        {"fold": 1},
    )
    assert [child.ended()["state"] for child in (first, second)] == ["Completed", "Failed"]
    assert run.get_children() == ["digits_1_a_fold-1", "digits_1_a_fold-2"]
    assert broken.parent is run
    with pytest.raises(ValueError, match=r"letters, digits, _, - and \."):
        run.child_run("a/b")


def test_of_several_ranks_the_first_that_logged_a_name_is_shown(tmp_path: Path) -> None:
    for rank in (10, 2, 1):
        Run.get_context(environ=environ(tmp_path, rank)).log("loss", float(rank))
    Run.get_context(environ=environ(tmp_path, 2)).log("extra", 2.0)
    Run.get_context(environ=environ(tmp_path, 0, role="ps")).log("loss", -1.0)
    Run.get_context(environ=environ(tmp_path, 0, role="chief")).log("served", 5)
    tracked = Tracked(str(tmp_path))
    assert tracked.ranks() == ["chief-0", "worker-1", "worker-2", "worker-10", "ps-0"]
    assert tracked.metrics() == {"served": 5, "loss": 1.0, "extra": 2.0}
    assert tracked.metrics(rank="worker-10") == {"loss": 10.0}
    assert {name: last.value for name, last in tracked.last().items()} == tracked.metrics()


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


LOG_FOR_EVER = """
import itertools
told = os.open(os.environ["TOLD"], os.O_WRONLY | os.O_CREAT)
for n in itertools.count():
    run.log("loss", n / 3, n)
    os.pwrite(told, b"%10d" % n, 0)
"""


def test_64_ranks_that_are_killed_lose_no_record(tmp_path: Path) -> None:
    """Each rank notes outside of the journal what it has logged, and is killed at some moment."""
    for attempt in range(2):
        ranks = []
        for rank in range(64):
            os.environ["TOLD"] = str(tmp_path / f"told-{rank}")
            ranks.append(start(tmp_path / "run", LOG_FOR_EVER, rank, attempt))
        del os.environ["TOLD"]
        for rank, process in enumerate(ranks):
            told = tmp_path / f"told-{rank}"
            while not told.exists() or not told.read_bytes().strip():
                assert process.poll() is None
            process.send_signal(signal.SIGKILL)
        for rank, process in enumerate(ranks):
            assert process.wait() == -signal.SIGKILL
            told = tmp_path / f"told-{rank}"
            journal = tmp_path / f"run/metrics/worker-{rank}.jsonl"
            series = read_file(str(journal)).series["loss"]
            assert len(series.values) in (int(told.read_text()) + 1, int(told.read_text()) + 2)
            assert series.steps == list(range(len(series.steps)))
            assert all(value == n / 3 for n, value in enumerate(series.values))
            assert last_of(str(journal)).series["loss"].steps == series.steps[-1:]
            told.unlink()
    assert len(list((tmp_path / "run/metrics").iterdir())) == 64


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


def test_threads_share_a_journal(run: Run) -> None:
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


@pytest.mark.parametrize("number", [1, 2000, 20_000])
def test_closing_all_files_costs_nothing(tmp_path: Path, number: int) -> None:
    code = f"""
for n in range({number}): run.log('x', n)
os.closerange(3, 256)
for n in range({number}, {2 * number}): run.log('x', n)
"""
    assert start(tmp_path, code).wait() == 0
    assert Tracked(str(tmp_path)).metrics() == {"x": list(range(2 * number))}


def test_many_lines_and_then_few_leave_a_plain_file(tmp_path: Path) -> None:
    code = """
for n in range(10_000): run.log("loss", n / 3, n)
run.log_table("long", {"column": list(range(300_000))})
run.flush()
for n in range(10_000, 20_000): run.log("loss", n / 3, n)
"""
    assert start(tmp_path, code).wait() == 0
    journal = tmp_path / "metrics/worker-0.jsonl"
    assert all(lines(journal)), "no zeros of a window are left"
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


def test_outside_of_a_job_what_is_logged_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.get_context(environ={})
    run.log("loss", 0.5, 3)
    run.log_row("speed", batch=64)
    run.tag("stage", "first")
    with run.child_run("fold-1") as fold:
        fold.log("accuracy", 0.75)
    assert capsys.readouterr().out.splitlines()[:4] == [
        "loss: 0.5 (step 3)",
        "speed: {'batch': 64}",
        "tag stage: first",
        "accuracy: 0.75",
    ]
    assert run.get_metrics() == {"loss": 0.5, "speed": {"batch": 64}}
    assert run.get_tags() == {"stage": "first"}
