"""What runs have learned, read back: as values, tables, curves and data frames."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, Run, TensorFlow, UsageError
from hpctf.common.files import append_record
from hpctf.errors import HpctfError
from hpctf.runs.search.filters import Condition, parse_condition
from tests.support.projects import hpctf, project
from tests.support.waiting import wait_until

TRAIN = """
import argparse
from hpctf import Run

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--name", default="")
rate = parser.parse_args().lr
run = Run.get_context()
for step in range(20):
    run.log("loss", rate / (step + 1), step)
run.log("accuracy", 1 - rate)
run.log("nothing", float("nan"))
run.log("most", float("inf"))
run.log_row("speed", batch=64, images=1200.5)
run.log("state", rate)
run.tag("seen", True)
with run.child_run("fold") as fold:
    fold.log("loss", rate * 10)
    fold.tag("fold", 1)
run.upload_file("notes.txt", __file__)
"""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return Experiment("tuning", site="local", runs_root=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def runs(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Three real runs, the first with the largest rate."""
    folder = project(tmp_path_factory.mktemp("proj"), text=TRAIN)
    found = []
    for number, rate in enumerate((0.5, 0.25, 0.125)):
        estimator = TensorFlow(
            folder,
            entry_script="train.py",
            script_params={"--lr": rate, "--name": "a b"},
        )
        tags = {"number": number, "stage": "first" if number else "last"}
        run = experiment.submit(estimator, tags=tags, properties={"origin": "test"})
        run.wait_for_completion()
        found.append(run)
    return found


@pytest.fixture(autouse=True)
def _root(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HPCTF_RUNS_ROOT", str(runs[0].folder.root))
    monkeypatch.setenv("HPCTF_SITE", "local")
    yield


def run_cli(*words: str, code: int = 0) -> str:
    """Run hpctf and return what it answers, or what it says of the error."""
    done = hpctf(*words, cwd=Path("/"), env={"HPCTF_RUNS_ROOT": os.environ["HPCTF_RUNS_ROOT"]})
    assert done.returncode == code, done.stderr
    return str(done.stderr if code else done.stdout)


def strict(text: str) -> Any:
    """Read JSON as other languages do: without NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_metrics_come_back_as_from_azure_ml(runs: list[Run]) -> None:
    found = runs[0].get_metrics()
    assert found["loss"] == [0.5 / (step + 1) for step in range(20)]
    assert (found["accuracy"], found["most"]) == (0.5, math.inf)
    assert found["speed"] == {"batch": 64, "images": 1200.5}
    assert runs[0].get_metrics("accuracy") == {"accuracy": 0.5}
    both = runs[0].get_metrics("loss", recursive=True)
    assert list(both) == [runs[0].id, f"{runs[0].id}_fold"]
    assert both[f"{runs[0].id}_fold"] == {"loss": 5.0}
    assert runs[0].last_metrics()["loss"].step == 19
    (child,) = runs[0].get_children()
    assert (child.name, child.status, child.parent) == ("fold", "Completed", runs[0].id)
    assert "notes.txt" in runs[0].get_file_names()


def test_an_uploaded_file_is_downloaded_by_its_name(runs: list[Run], tmp_path: Path) -> None:
    assert runs[0].download_file("notes.txt", tmp_path / "x.txt").read_text() == TRAIN


def test_runs_are_found_by_tags_properties_and_status(
    experiment: Experiment, runs: list[Run]
) -> None:
    def ids(**wanted: Any) -> list[str]:
        return [run.id for run in experiment.get_runs(**wanted)]

    first, second, third = (run.id for run in runs)
    assert ids() == [third, second, first]
    assert ids(tags={"stage": "first"}) == [third, second]
    assert ids(tags={"stage": "first", "number": 1}) == [second]
    assert ids(tags={"number": "1"}) == [second], "as the command line writes it"
    assert ids(tags="seen") == [third, second, first]
    assert ids(tags="nothing") == ids(properties={"origin": "other"}) == ids(status="Failed") == []
    assert ids(properties={"origin": "test"}, status="Completed") == [third, second, first]
    assert ids(tags="fold", include_children=True) == [f"{run}_fold" for run in ids()]
    with pytest.raises(UsageError, match="Did you mean 'Completed'"):
        ids(status="completed")


def test_a_tag_from_the_login_side_is_the_latest(runs: list[Run]) -> None:
    runs[2].tag("seen", "again")
    assert runs[2].get_tags()["seen"] == "again"
    with pytest.raises(HpctfError, match="tag 'list' takes a number"):
        runs[2].set_tags({"fine": 1, "list": [1]})
    assert "fine" not in runs[2].get_tags()
    runs[2].add_properties({"origin": "another"})
    assert runs[2].get_properties() == {"origin": "test"}


def test_what_a_run_that_is_over_has_learned_last_is_in_one_file(
    runs: list[Run], tmp_path: Path
) -> None:
    shutil.copytree(runs[0].folder.path, tmp_path / "test" / "copy")
    run = Run(tmp_path / "test" / "copy")
    before, tags = runs[0].last_metrics(), runs[0].get_tags()
    journal = run.folder.metrics / "worker-0.jsonl"
    whole = journal.read_text()
    journal.write_text("")
    assert str(run.last_metrics()) == str(before), "among them NaN"
    assert run.get_tags() == tags
    run.tag("stage", "later")
    assert run.get_tags() == {**tags, "stage": "later"}
    run.folder.final.unlink()  # the job was started again
    assert run.last_metrics() == {}
    journal.write_text(whole)
    assert run.last_metrics()["loss"] == before["loss"]


def test_data_frames(experiment: Experiment, runs: list[Run]) -> None:
    pytest.importorskip("pandas")
    frame = runs[0].to_pandas()
    loss = frame[frame["name"] == "loss"]
    assert list(loss["step"]) == list(range(20))
    assert set(frame["rank"]) == {"worker-0"}
    assert str(frame["time"].dtype).startswith("datetime64[") and frame["time"].dt.year.min() > 2020
    table = experiment.to_pandas()
    assert list(table.index) == [run.id for run in reversed(runs)]
    assert list(table["param:lr"]) == [0.125, 0.25, 0.5]
    assert list(table["accuracy"]) == [0.875, 0.75, 0.5]
    assert list(table["tag:stage"]) == ["first", "first", "last"]
    assert set(table["param:name"]) == {"a b"}
    assert (table["seconds"] > 0).all()


def test_the_table_of_one_run_and_of_several(runs: list[Run]) -> None:
    lines = run_cli("metrics", runs[0].id).splitlines()
    assert lines[0].split() == ["METRIC", "LAST", "MIN", "MAX", "STEP", "VALUES"]
    assert ["loss", "0.025", "0.025", "0.5", "19", "20"] in [line.split() for line in lines]
    assert ["speed", "(row)", "-", "-", "-", "1"] in [line.split() for line in lines]
    lines = run_cli("metrics", runs[0].id, runs[1].id, "--name", "accuracy").splitlines()
    assert [line.split() for line in lines] == [
        ["METRIC", runs[0].id, runs[1].id],
        ["accuracy", "0.5", "0.75"],
    ]


def test_json_is_json_for_every_reader(runs: list[Run]) -> None:
    found = strict(run_cli("metrics", runs[0].id, "--json"))
    assert (found["nothing"], found["most"], found["accuracy"]) == (None, "Infinity", 0.5)
    found = strict(run_cli("metrics", runs[0].id, "--json", "--recursive", "--name", "loss"))
    assert found[f"{runs[0].id}_fold"] == {"loss": 5.0}


def test_csv_has_every_value(runs: list[Run]) -> None:
    text = run_cli("metrics", runs[0].id, runs[1].id, "--csv", "--name", "loss")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 40
    assert [float(row["value"]) for row in rows[20:]] == [0.25 / (step + 1) for step in range(20)]
    assert {(row["run"], row["rank"]) for row in rows} == {
        (runs[0].id, "worker-0"),
        (runs[1].id, "worker-0"),
    }


@pytest.mark.parametrize("more", [[], ["--log"]])
def test_curves_in_a_pipe_are_plain_text(runs: list[Run], more: list[str]) -> None:
    text = run_cli("metrics", runs[0].id, runs[1].id, "--plot", "--name", "loss", *more)
    assert "loss" in text and runs[0].id in text and runs[1].id in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert any("⠀" < char <= "⣿" for char in text), "a curve is drawn"


def test_runs_are_listed_with_their_time_and_the_metric_that_says_most(runs: list[Run]) -> None:
    head, *rows = run_cli("runs").splitlines()

    assert head.split()[-2:] == ["TIME", "METRIC"]
    assert {row.split()[0]: row.split()[-1] for row in rows}[runs[0].id].startswith("accuracy=")
    assert all(re.search(r" \d+:\d\d  ", row) for row in rows)


def test_a_metric_that_nobody_logged_is_told_with_what_was_meant(runs: list[Run]) -> None:
    error = run_cli("metrics", runs[0].id, "--name", "acuracy", code=2)
    assert "has logged no metric 'acuracy'. Did you mean 'accuracy'?" in error
    error = run_cli("metrics", runs[0].id, "--rank", "worker-7", "--name", "loss", code=2)
    assert "rank worker-7" in error


def test_runs_are_sorted_and_filtered_by_what_they_logged(runs: list[Run]) -> None:
    def ids(*words: str) -> list[str]:
        return [line.split()[0] for line in run_cli("runs", *words).splitlines()[1:]]

    first, second, third = (run.id for run in runs)
    assert ids("--sort", "accuracy") == [third, second, first]
    assert ids("--sort", "accuracy", "--ascending", "-n", "2") == [first, second]
    assert ids("--filter", "accuracy>0.5", "--sort", "loss") == [second, third]
    assert ids("--filter", "accuracy>=0.5", "--filter", "tag:stage=last") == [first]
    assert ids("--filter", "param:lr<0.2") == [third]
    assert ids("--filter", "state=completed", "--filter", "metric:state!=0.25") == [third, first]
    assert ids("--filter", "missing>0") == []
    assert ids("--sort", "missing") == [third, second, first]
    head, row = run_cli("runs", "--filter", "accuracy=0.5", "--column", "tag:stage").splitlines()
    assert head.split()[-2:] == ["accuracy", "tag:stage"]
    assert row.split()[-2:] == ["0.5", "last"]
    (told,) = strict(run_cli("runs", "--filter", "accuracy=0.5", "--json"))
    assert told["values"] == {"accuracy": 0.5}
    assert "is not of the form NAME=VALUE" in run_cli("runs", "--filter", "accuracy", code=2)


def test_runs_are_tagged_on_the_command_line(runs: list[Run]) -> None:
    run_cli("tag", runs[1].id, "note=a = b", "empty=")
    assert runs[1].get_tags()["note"] == "a = b"
    found = run_cli("runs", "--filter", "tag:note=a = b").splitlines()[1:]
    assert [line.split()[0] for line in found] == [runs[1].id]
    for wrong in ("=x", "note"):
        assert "is not of the form NAME=VALUE" in run_cli("tag", runs[1].id, wrong, code=2)
    run_cli("tag", runs[1].id, "note=two\nlines=no")
    assert "lines" not in runs[1].get_tags()


def test_a_run_is_submitted_with_tags(runs: list[Run], tmp_path: Path) -> None:
    script = Path(project(tmp_path / "proj", text="print('hello')")) / "train.py"
    job = tmp_path / "job.yaml"
    job.write_text(f"script: {script}\ntags: {{stage: file, number: 3}}\n")
    by_option = run_cli("submit", "--wait", "--tag", "stage=x y", str(script)).strip()
    by_file = run_cli("submit", "--wait", str(job)).strip()
    every = {path.name: Run(path) for path in runs[0].folder.root.glob("train/*")}
    assert every[by_option].get_tags() == {"stage": "x y"}
    assert every[by_file].get_tags() == {"stage": "file", "number": "3"}
    assert "is not of the form NAME=VALUE" in run_cli("submit", "--tag", "x", str(script), code=2)


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("a>0.9", Condition("a", ">", "0.9")),
        (" val loss <= -1e-3 ", Condition("val loss", "<=", "-1e-3")),
        ("tag:a==b c", Condition("tag:a", "=", "b c")),
        ("batch/loss!=x", Condition("batch/loss", "!=", "x")),
    ],
)
def test_conditions_are_read(text: str, condition: Condition) -> None:
    assert parse_condition(text) == condition


def ended(experiment: Experiment, folder: Path) -> Run:
    """A run that has ended, and that nobody has looked at."""
    estimator = TensorFlow(
        project(folder, text=TRAIN),
        entry_script="train.py",
        arguments=["--lr", 0.5],
        python=sys.executable,
    )
    run = experiment.submit(estimator)
    wait_until((run.folder.path / "state/last.json").exists)
    assert not run.folder.final.exists()
    return run


def test_the_job_keeps_the_last_values_before_anybody_looks(
    experiment: Experiment, tmp_path: Path
) -> None:
    run = ended(experiment, tmp_path)
    told, tags = run.last_metrics(), run.get_tags()
    assert told["accuracy"].value == 0.5 and math.isnan(told["nothing"].value)
    assert told["loss"].step == 19 and tags == {"seen": True}
    shutil.rmtree(run.folder.path / "metrics")
    assert repr(run.last_metrics()) == repr(told) and run.get_tags() == tags


def test_what_a_job_kept_does_not_count_once_it_starts_again(
    experiment: Experiment, tmp_path: Path
) -> None:
    run = ended(experiment, tmp_path)
    journal = run.folder.path / "metrics/worker-0.jsonl"
    append_record(journal, {"name": "accuracy", "value": 0.75, "time": time.time()})
    assert run.last_metrics()["accuracy"].value == 0.5
    append_record(run.folder.state / "job.jsonl", {"event": "started", "attempt": 1})
    assert run.last_metrics()["accuracy"].value == 0.75


def test_who_settles_a_run_reads_what_came_late(experiment: Experiment, tmp_path: Path) -> None:
    run = ended(experiment, tmp_path)
    journal = run.folder.path / "metrics/worker-0.jsonl"
    append_record(journal, {"name": "accuracy", "value": 0.75, "time": time.time()})
    assert run.wait_for_completion().state == "Completed"
    shutil.rmtree(run.folder.path / "metrics")
    assert run.last_metrics()["accuracy"].value == 0.75
