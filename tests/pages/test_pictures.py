"""The pictures in docs/report.md: reports of real trainings (`make pictures` writes them)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpctf import Experiment, MultiWorker, Run, TensorFlow
from hpctf.report.write import write_report

from ..browser import DESKTOP, PHONE, tab
from ..conftest import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LARGEST = 150_000
"""Bytes of a picture: all of them are in every clone."""


@pytest.fixture(scope="module")
def trained(training_python: str, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Digits, learned at two rates, and by two workers together."""
    experiment = Experiment("digits", "local", tmp_path_factory.mktemp("trained") / "runs")
    asked: list[tuple[str, dict[str, Any]]] = [
        ("single.py", {"arguments": ["--epochs", 10, "--learning-rate", 0.003]}),
        ("single.py", {"arguments": ["--epochs", 10, "--learning-rate", 0.0005]}),
        ("multiworker.py", {"distributed_training": MultiWorker(worker_count=2)}),
    ]
    runs = []
    for script, options in asked:
        estimator = TensorFlow(
            ROOT / "examples/digits", entry_script=script, python=training_python, **options
        )
        runs.append(experiment.submit(estimator))
        runs[-1].wait_for_completion()
    return runs


@pytest.mark.parametrize(
    ("name", "which", "look"),
    [
        ("report-desktop", slice(0, 1), {"viewport": DESKTOP, "color_scheme": "light"}),
        ("report-phone-dark", slice(2, 3), {"viewport": PHONE, "color_scheme": "dark"}),
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
