"""The pictures in docs/gallery.md, report.md, watch.md and export.md (`make pictures`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from rich.text import Text

from hpctf import Experiment, MultiWorker, Run, TensorFlow
from hpctf.report.write import write_report
from tests.conftest import ROOT
from tests.support.browser import DESKTOP, PHONE, tab
from tests.support.exported import (
    STORE,
    free_port,
    in_mlflow,
    mlflow_server,
    tensorboard,
    with_mlflow,
)
from tests.support.pictures import COLUMNS, paint_screen, paint_terminal, screen_of_watch
from tests.support.projects import hpctf, project

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LARGEST = 150_000
"""Bytes of a picture: all of them are in every clone."""


@pytest.fixture(scope="module")
def watched() -> list[Text]:
    """The screen of `hpctf watch` while the last of `trained` trained."""
    return []


@pytest.fixture(scope="module")
def trained(
    training_python: str, watched: list[Text], tmp_path_factory: pytest.TempPathFactory
) -> list[Run]:
    """Digits, learned by one process, and by two workers together."""
    experiment = Experiment("digits", "local", tmp_path_factory.mktemp("trained") / "runs")
    asked: list[tuple[str, dict[str, Any]]] = [
        ("single.py", {"arguments": ["--epochs", 10, "--learning-rate", 0.003]}),
        ("multiworker.py", {"distributed_training": MultiWorker(worker_count=2)}),
    ]
    runs = []
    for script, options in asked:
        estimator = TensorFlow(
            ROOT / "examples/digits", entry_script=script, python=training_python, **options
        )
        runs.append(experiment.submit(estimator))
        watched[:] = screen_of_watch(runs[-1])
        runs[-1].wait_for_completion()
    return runs


@pytest.mark.parametrize(
    ("name", "which", "look"),
    [
        ("report-desktop", slice(0, 1), {"viewport": DESKTOP, "color_scheme": "light"}),
        ("report-phone-dark", slice(1, 2), {"viewport": PHONE, "color_scheme": "dark"}),
        ("report-compare", slice(0, 2), {"viewport": DESKTOP, "color_scheme": "light"}),
    ],
)
def test_the_pictures_show_real_trainings(
    browser: Browser,
    trained: list[Run],
    pictures: Path,
    tmp_path: Path,
    name: str,
    which: slice,
    look: dict[str, Any],
) -> None:
    page = write_report(trained[which], tmp_path / "report.html")
    pictures.mkdir(exist_ok=True)
    with tab(browser, page, **look) as here:
        assert here.page.locator("figure.panel h3", has_text="loss").count()
        if look["viewport"] == PHONE:
            here.page.evaluate("document.getElementById('curves').scrollIntoView()")
        here.page.screenshot(path=pictures / f"{name}.png")
        assert (here.requests, here.errors) == ([], [])
    assert (pictures / f"{name}.png").stat().st_size < LARGEST


def test_the_picture_of_the_command_line_shows_a_real_training(
    trained: list[Run], pictures: Path
) -> None:
    runs, run = trained[0].folder.root, trained[0].id
    commands = (f"hpctf status {run}", f"hpctf metrics {run} --plot --name accuracy")
    env = {"HPCTF_RUNS_ROOT": str(runs), "COLUMNS": str(COLUMNS), "FORCE_COLOR": "1"}
    said = {}
    for command in commands:
        done = hpctf(*command.split()[1:], cwd=runs.parent, env=env)
        said[command] = done.stdout.replace(str(runs), "/scratch/me/runs")
    paint_terminal(pictures / "command-line.svg", said)
    assert "Completed" in said[commands[0]] and "accuracy" in said[commands[1]]
    assert (pictures / "command-line.svg").stat().st_size < LARGEST


def test_the_picture_of_watch_shows_a_real_training(
    trained: list[Run], watched: list[Text], pictures: Path
) -> None:
    paint_screen(pictures / "watch.svg", watched)
    said = "\n".join(line.plain for line in watched)
    assert trained[-1].id in said and "worker-1" in said and "loss" in said
    assert (pictures / "watch.svg").stat().st_size < LARGEST


def test_the_picture_of_why_shows_a_real_failure(pictures: Path, tmp_path: Path) -> None:
    project(tmp_path / "proj", text="open('/project/digits.csv')\n")
    submitted = hpctf("submit", "--site", "local", "--wait", "proj/train.py", cwd=tmp_path)
    run = submitted.stdout.strip()
    why = hpctf("why", run, cwd=tmp_path).stdout
    shown = why.replace(f"{tmp_path}/", "/scratch/me/")
    paint_terminal(pictures / "why.svg", {f"hpctf why {run}": shown})
    assert why.rstrip().endswith("More: hpctf docs troubleshooting/file-not-found")


SMALL = {"viewport": {"width": 1000, "height": 700}}


def test_mlflow_shows_a_real_training_that_was_exported(
    browser: Browser, trained: list[Run], tools_python: str, pictures: Path, tmp_path: Path
) -> None:
    pictures.mkdir(exist_ok=True)
    run = trained[0]
    words = ("-m", "hpctf", "export", "mlflow", run.folder.path)
    with_mlflow(tools_python).run(*words, cwd=tmp_path)
    exported = in_mlflow(tools_python, STORE, tmp_path)[run.id]
    assert "mlartifacts" in Path(urlsplit(exported["uri"]).path).parts
    with mlflow_server(
        tools_python, tmp_path, free_port(), "--backend-store-uri", STORE
    ) as address:
        overview = f"{address}/#/experiments/1/runs/{exported['mlflow_id']}"
        with tab(browser, overview, **SMALL) as here:
            for shown in (run.id, "accuracy", "hpctf.backend"):
                here.page.get_by_text(shown).first.wait_for()
            here.page.goto(f"{overview}/model-metrics")
            here.page.locator(".js-plotly-plot .lines path").first.wait_for()
            here.page.screenshot(path=pictures / "mlflow.png")
    assert (pictures / "mlflow.png").stat().st_size < LARGEST


def test_the_picture_of_tensorboard_shows_real_trainings(
    browser: Browser, trained: list[Run], tools_python: str, pictures: Path, tmp_path: Path
) -> None:
    pictures.mkdir(exist_ok=True)
    folders = [run.folder.path for run in trained]
    with (
        tensorboard(tools_python, tmp_path, *folders) as address,
        tab(browser, f"{address}#timeseries") as here,
    ):
        here.page.locator("scalar-card line-chart").first.wait_for()
        here.page.get_by_text("Smoothed").first.wait_for()
        here.page.wait_for_load_state("networkidle")  # curves are drawn once their data is there
        here.page.screenshot(path=pictures / "tensorboard.png")
    assert (pictures / "tensorboard.png").stat().st_size < LARGEST
