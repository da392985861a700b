"""`hpctf export mlflow`: real runs in a real MLflow, as often as they are exported."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from hpctf import Experiment, Run, TensorFlow
from hpctf.export.mlflow_names import LONGEST, allowed_names
from tests.support.exported import (
    STORE,
    free_port,
    in_mlflow,
    mlflow_server,
    run_in,
    with_mlflow,
)
from tests.support.projects import hpctf, project
from tests.support.reported import SECRETS, submit
from tests.support.waiting import wait_until

GOES_ON = """
import os, time
from hpctf import Run

run = Run.get_context()
for step in range(1500):
    run.log("loss", 1 / (step + 1), step)
run.flush()
open("outputs/first.txt", "w").write("first")
while not os.path.exists(os.environ["GO_ON"]):
    time.sleep(0.05)
for step in range(1500, 2000):
    run.log("loss", 1 / (step + 1), step)
open("outputs/first.txt", "w").write("FIRST")
open("outputs/second.txt", "w").write("second")
"""

KILLED = """
import os, signal, sys
from mlflow.tracking import MlflowClient
from hpctf.export.mlflow_store import to_mlflow
from hpctf.run import Run

real = MlflowClient.log_batch

def log_batch(self, run_id, metrics=(), **more):
    real(self, run_id, metrics=metrics, **more)
    if metrics:
        os.kill(os.getpid(), signal.SIGKILL)

MlflowClient.log_batch = log_batch
to_mlflow([Run(sys.argv[1])], sys.argv[2])
"""


@pytest.fixture
def store(tools_python: str, tmp_path: Path) -> Path:
    """A folder with an empty store, as MLflow makes one."""
    shutil.copy(with_mlflow(tools_python).empty, tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Stored:
    """What an export said, and what came of it."""

    folder: Path
    done: Any
    runs: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that logged one of each kind, with secrets and two child runs."""
    folder = tmp_path_factory.mktemp("runs")
    return submit(folder / "runs", folder)


@pytest.fixture(autouse=True)
def _root(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HPCTF_RUNS_ROOT", str(run.folder.root))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield


@pytest.fixture(scope="module")
def stored(run: Run, tools_python: str, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """The run in a store of its own, exported once by a new Python, which makes the store."""
    folder = tmp_path_factory.mktemp("stored")
    root = str(run.folder.root)
    words = ("-m", "hpctf", "export", "mlflow", run.experiment)
    done = run_in(tools_python, *words, cwd=folder, HPCTF_RUNS_ROOT=root)
    return Stored(folder, done, in_mlflow(tools_python, STORE, folder))


def export(python: str, cwd: Path, *words: str | Path, code: int = 0, **env: str) -> Any:
    words = ("-m", "hpctf", "export", "mlflow", *words)
    return with_mlflow(python).run(*words, cwd=cwd, code=code, **env)


def test_mlflow_has_all_that_a_run_learned(run: Run, stored: Stored) -> None:
    done, found = stored.done, stored.runs
    assert f"mlflow ui --backend-store-uri {STORE}" in done.stderr
    one = found[run.id]
    assert dict(line.split() for line in done.stdout.splitlines()) == {
        run_id: other["mlflow_id"] for run_id, other in found.items()
    }
    assert (one["experiment"], one["name"], one["status"]) == ("logs", run.id, "FINISHED")
    ranks = run.look().ranks
    assert (one["start"], one["end"]) == (
        round(1000 * (ranks[0].started or 0)),
        round(1000 * (ranks[0].ended or 0)),
    )
    expected = {"rate": "0.002", "hpctf.backend": "single", "hpctf.nodes": "1"}
    assert expected.items() <= one["params"].items()
    assert one["tags"]["mlflow.source.name"] == "train.py"
    series = run.series()["loss"]
    wanted = zip(series.axis(), series.values, series.times, strict=True)
    assert one["metrics"]["loss"] == [[s, repr(v), round(1000 * t)] for s, v, t in wanted]
    assert len(series.values) == 3000
    assert {"images/pixel_1.png", "tables/table.json", "tables/digits.json"} <= set(
        one["artifacts"]
    )
    assert any(name.startswith("outputs/") for name in one["artifacts"])
    assert not any(name.startswith("logs/") for name in one["artifacts"])
    assert any(name.startswith("system/") for name in one["metrics"])


def test_nan_stays_and_infinity_is_the_largest_number(run: Run, stored: Stored) -> None:
    values = dict(row[:2] for row in stored.runs[run.id]["metrics"]["with gaps"])
    assert (values[7], values[30], values[31]) == ("nan", "1.7976931348623157e+308", "1.5")


def test_names_that_mlflow_refuses_are_renamed_and_told(run: Run, stored: Stored) -> None:
    one = stored.runs[run.id]
    renamed = json.loads(one["tags"]["hpctf.renamed"])
    assert renamed["_img src_x onerror_alert_2__"] == "<img src=x onerror=alert(2)>"
    assert [v for _, v, _ in one["metrics"]["_img src_x onerror_alert_2__"]] == [
        "0.0",
        "1.0",
        "2.0",
    ]


def test_child_runs_are_nested(run: Run, stored: Stored) -> None:
    found = stored.runs
    children = [found[child.id] for child in run.get_children()]
    assert [child["name"] for child in children] == ["fold-0", "fold-1"]
    for child in children:
        assert child["tags"]["mlflow.parentRunId"] == found[run.id]["mlflow_id"]
        assert len(child["metrics"]["fold loss"]) == 5


def test_no_secret_reaches_mlflow(run: Run, stored: Stored) -> None:
    assert stored.runs[run.id]["params"]["api-key"] == "(hidden)"
    files = [path for path in stored.folder.rglob("*") if path.is_file()]
    assert len(files) > 3
    for path in files:
        assert not [secret for secret in SECRETS if secret.encode() in path.read_bytes()], path


def test_a_second_export_changes_nothing(run: Run, stored: Stored, tools_python: str) -> None:
    first = stored.runs[run.id]
    done = export(tools_python, stored.folder, run.id)
    assert "0 new, 3 known; 0 points and 0 files sent" in done.stderr
    second = in_mlflow(tools_python, STORE, stored.folder)[run.id]
    for one in (first, second):
        one["tags"].pop("hpctf.exported")
    assert second == first


def test_an_export_that_was_killed_is_completed_by_the_next(
    run: Run, tools_python: str, store: Path
) -> None:
    command = ("-c", KILLED, run.folder.path, STORE)
    with_mlflow(tools_python).run(*command, cwd=store, code=-9)
    cut = in_mlflow(tools_python, STORE, store)
    assert (list(cut), cut[run.id]["status"]) == ([run.id], "RUNNING")
    assert sum(map(len, cut[run.id]["metrics"].values())) == 1000
    export(tools_python, store, run.id)
    whole = in_mlflow(tools_python, STORE, store)
    assert len(whole) == 3
    assert whole[run.id]["status"] == "FINISHED"
    assert [step for step, _, _ in whole[run.id]["metrics"]["loss"]] == list(range(3000))


def test_a_run_that_goes_on_is_completed(tools_python: str, store: Path) -> None:
    go_on = store / "go-on"
    estimator = TensorFlow(
        project(store / "proj", text=GOES_ON),
        entry_script="train.py",
        environment_variables={"GO_ON": str(go_on)},
    )
    going = Experiment("going", "local", store / "runs").submit(estimator)
    try:
        wait_until(lambda: "outputs/first.txt" in going.get_file_names())
        export(tools_python, store, going.folder.path)
        first = in_mlflow(tools_python, STORE, store)[going.id]
        assert (first["status"], first["end"]) == ("RUNNING", None)
        assert len(first["metrics"]["loss"]) == 1500
    finally:
        go_on.touch()
    going.wait_for_completion()
    done = export(tools_python, store, going.folder.path)
    second = in_mlflow(tools_python, STORE, store)[going.id]
    assert (second["mlflow_id"], second["status"]) == (first["mlflow_id"], "FINISHED")
    assert [step for step, _, _ in second["metrics"]["loss"]] == list(range(2000))
    assert "2 files sent" in done.stderr
    artifact = Path(urlsplit(second["uri"]).path) / "outputs/first.txt"
    assert artifact.read_text() == "FIRST"


def test_files_can_be_left_out(run: Run, tools_python: str, store: Path) -> None:
    without = export(tools_python, store, run.id, "--no-files")
    assert "1 files sent" in without.stderr, "the image alone"
    shutil.copy(with_mlflow(tools_python).empty, store / "b.db")
    done = export(tools_python, store, run.id, "--to", "sqlite:///b.db", "--largest", "10B")
    assert "left out, larger than 10B: images/pixel_1.png" in done.stderr


def test_a_server_is_as_good_as_a_file(run: Run, tools_python: str, store: Path) -> None:
    with mlflow_server(tools_python, store, free_port()) as address:
        first = export(tools_python, store, run.id, MLFLOW_TRACKING_URI=address)
        again = export(tools_python, store, run.id, "--to", address)
        one = in_mlflow(tools_python, address, store)[run.id]
    assert first.stdout == again.stdout
    assert len(first.stdout.splitlines()) == 3
    assert "0 points and 0 files sent" in again.stderr
    assert len(one["metrics"]["loss"]) == 3000
    assert "images/pixel_1.png" in one["artifacts"]


def test_a_server_that_is_away_is_told_at_once(run: Run, tools_python: str, tmp_path: Path) -> None:
    address = f"http://somebody:hunter22@127.0.0.1:{free_port()}"
    done = export(tools_python, tmp_path, run.id, "--to", address, code=3)
    assert "cannot be reached" in done.stderr
    assert "hunter22" not in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_without_mlflow_the_way_to_it_is_told(run: Run, tmp_path: Path) -> None:
    env = {"HPCTF_SITE": "local", "HPCTF_RUNS_ROOT": os.environ["HPCTF_RUNS_ROOT"]}
    done = hpctf("export", "mlflow", run.id, cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert "pip install 'hpctf[mlflow]'" in done.stderr
    assert not (tmp_path / "mlflow.db").exists()


def test_csv_has_all_numbers_and_a_row_for_each_run(run: Run, tmp_path: Path) -> None:
    env = {"HPCTF_SITE": "local", "HPCTF_RUNS_ROOT": os.environ["HPCTF_RUNS_ROOT"]}
    done = hpctf("export", "csv", run.experiment, cwd=tmp_path, env=env)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len([row for row in rows if row["name"] == "loss"]) == 3000
    assert {row["run"] for row in rows} == {run.id, *(child.id for child in run.get_children())}
    wide = hpctf("export", "csv", run.id, "--runs", "--to", "r.csv", cwd=tmp_path, env=env)
    assert wide.stdout == "r.csv\n"
    (row,) = csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text()))
    assert (row["id"], row["param:rate"], row["accuracy"]) == (run.id, "0.002", "0.9731")
    assert row["param:api-key"] == "(hidden)"


def test_names_in_mlflow_are_valid_and_told_apart() -> None:
    names = [
        "loss",
        "a,b",
        "a;b",
        "a_b",
        "../up",
        "/top",
        "x//y",
        "é",
        ".",
        "",
        "n" * 300,
        "m" * 250,
    ]
    found = allowed_names(names)
    assert len(set(found.values())) == len(names)
    assert (found["loss"], found["a_b"], found["é"]) == ("loss", "a_b", "é")
    assert found["a,b"].startswith("a_b-")
    assert found["x//y"] == "x/y"
    assert max(map(len, found.values())) == LONGEST


REFUSED = """
from hpctf import Run
run = Run.get_context()
for step in (0, 1, 2**63, -1, -(2**63) - 1, 3):
    run.log("loss", float(step % 7), step)
run.log("huge", 10**400)
run.tag("half\\ud800", "a\\ud800b\\0c")
run.tag("long", "x" * 10_000)
run.log("na\\ud800me" + "n" * 300, 1.0)
"""


def test_what_mlflow_refuses_is_left_out_and_the_rest_goes_there(
    store: Path, tools_python: str
) -> None:
    experiment = Experiment("refused", "local", store / "runs")
    script = project(store / "proj", text=REFUSED)
    one = experiment.submit(TensorFlow(script, entry_script="train.py"))
    one.wait_for_completion()
    root = str(store / "runs")
    done = export(tools_python, store, one.id, HPCTF_RUNS_ROOT=root)
    found = in_mlflow(tools_python, STORE, store)[one.id]
    assert [row[0] for row in sorted(found["metrics"]["loss"])] == [-1, 0, 1, 3]
    assert done.stderr.count("MLflow refused ") == 2, done.stderr
    assert f"metric 'loss' at step {2**63}: " in done.stderr
    assert found["metrics"]["huge"][0][1] == "1.7976931348623157e+308"
    assert len(found["tags"]["long"]) == 5000
    assert found["tags"]["half_"] == "a\\ud800b\\x00c"
    assert found["status"] == "FINISHED"
    again = export(tools_python, store, one.id, HPCTF_RUNS_ROOT=root)
    assert "1 known; 0 points" in again.stderr
