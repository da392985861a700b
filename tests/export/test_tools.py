"""TensorBoard, opened in a browser on runs that hpctf has exported."""

from __future__ import annotations

import json
import socket
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpctf import Experiment, Run, TensorFlow
from tests.support.browser import tab
from tests.support.exported import run_in, tensorboard
from tests.support.projects import hpctf, project
from tests.support.reported import submit
from tests.support.waiting import HANGS_S, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

GOES_ON = """
import os, time
from hpctf import Run
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

writer = EventFileWriter("logs/train")
summary = Summary(value=[Summary.Value(tag="epoch_loss", simple_value=0.25)])
writer.add_event(Event(wall_time=time.time(), step=7, summary=summary))
writer.close()
run = Run.get_context()
run.log("loss", 0.5, 3)
run.flush()
while not os.path.exists(os.environ["GO_ON"]):
    time.sleep(0.05)
run.log("loss", 0.125, 4)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that logged one of each kind."""
    folder = tmp_path_factory.mktemp("runs")
    return submit(folder / "runs", folder)


def ask(address: str, path: str, **query: str) -> Any:
    """Return what TensorBoard's data interface answers."""
    url = f"{address}data/{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=HANGS_S) as answer:
        return json.loads(answer.read())


def scalars(address: str, run: str, tag: str) -> list[tuple[int, float]]:
    """Return (step, value) of a tag."""
    rows = ask(address, "plugin/scalars/scalars", run=run, tag=tag)
    return [(step, value) for _, step, value in rows]


def test_tensorboard_shows_what_was_logged(
    browser: Browser, run: Run, tools_python: str, tmp_path: Path
) -> None:
    with tensorboard(tools_python, tmp_path, run.folder.path) as address:
        said = (tmp_path / "said").read_text()
        port = urllib.parse.urlsplit(address).port
        assert f"ssh -N -L {port}:localhost:{port} " in said
        assert set(ask(address, "runs")) == {run.id, f"{run.id}/fold-0", f"{run.id}/fold-1"}
        gaps = scalars(address, run.id, "with gaps")
        assert [step for step, value in gaps if value == "NaN"] == [7, 8]
        assert scalars(address, f"{run.id}/fold-0", "fold loss")[1] == (1, 0.5)
        # TensorBoard keeps a sample of a long series, and not always its first point.
        loss = run.series()["loss"]
        shown = ask(address, "plugin/scalars/scalars", run=run.id, tag="loss")
        assert [when for when, *_ in shown] == [loss.times[step] for _, step, _ in shown]
        assert ask(address, "plugin/images/images", run=run.id, tag="pixel", sample="0")
        with tab(browser, f"{address}#timeseries") as here:
            here.page.get_by_text("accuracy").first.wait_for()
            here.page.get_by_text(f"{run.id}/fold-0").first.wait_for()
            here.page.locator("scalar-card svg.line-chart, scalar-card line-chart").first.wait_for()


def test_tensorboard_follows_a_run_and_is_found_where_it_trains(
    tools_python: str, tmp_path: Path
) -> None:
    go_on = tmp_path / "go-on"
    estimator = TensorFlow(
        project(tmp_path / "proj", text=GOES_ON),
        entry_script="train.py",
        python=tools_python,
        environment_variables={"GO_ON": str(go_on)},
    )
    going = Experiment("going", "local", tmp_path / "runs").submit(estimator)
    try:
        wait_until(lambda: "loss" in going.last_metrics())
        with tensorboard(sys.executable, tmp_path, going.folder.path) as address:
            assert scalars(address, f"{going.id}/logs/train", "epoch_loss") == [(7, 0.25)]
            assert scalars(address, going.id, "loss") == [(3, 0.5)]
            go_on.touch()
            wait_until(lambda: len(scalars(address, going.id, "loss")) == 2)
            assert scalars(address, going.id, "loss") == [(3, 0.5), (4, 0.125)]
    finally:
        go_on.touch()
    assert going.wait_for_completion().state == "Completed"


def test_ctrl_c_leaves_the_run_alone(tools_python: str, tmp_path: Path) -> None:
    go_on = tmp_path / "go-on"
    text = "import os, time\nwhile not os.path.exists(os.environ['GO_ON']):\n    time.sleep(0.05)\n"
    estimator = TensorFlow(
        project(tmp_path / "proj", text=text),
        entry_script="train.py",
        environment_variables={"GO_ON": str(go_on)},
    )
    going = Experiment("going", "local", tmp_path / "runs").submit(estimator)
    try:
        with tensorboard(tools_python, tmp_path, going.folder.path):
            pass
        assert not going.look().final
    finally:
        go_on.touch()
    going.wait_for_completion()


def test_a_port_that_is_taken_is_refused(run: Run, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = hpctf("tensorboard", run.folder.path, "--port", port, cwd=tmp_path)
    assert done.returncode == 2
    assert f"Port {port} of 127.0.0.1" in done.stderr


def test_without_tensorboard_the_way_to_it_is_told(run: Run, tmp_path: Path) -> None:
    done = hpctf("tensorboard", run.folder.path, "--python", "/usr/bin/python3", cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install 'hpctf[tensorboard]'" in done.stderr


def test_event_files_are_written_into_a_new_folder_alone(
    run: Run, tools_python: str, tmp_path: Path
) -> None:
    words = ["-m", "hpctf", "export", "tensorboard", run.folder.path, "--to", "events"]
    run_in(tools_python, *words, cwd=tmp_path)
    folders = {path.parent for path in (tmp_path / "events").rglob("*tfevents*")}
    assert {str(path.relative_to(tmp_path / "events")) for path in folders} == {
        run.id,
        f"{run.id}/fold-0",
        f"{run.id}/fold-1",
    }
    again = run_in(tools_python, *words, cwd=tmp_path, code=2)
    assert "twice" in again.stderr
