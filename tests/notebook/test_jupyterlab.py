"""JupyterLab in a browser, with a run that goes on while it is looked at."""

from __future__ import annotations

import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat

from tests.conftest import ROOT
from tests.notebook.test_notebook import submit
from tests.support.browser import tab
from tests.support.exported import environment, free_port
from tests.support.waiting import HANGS_S, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LOOK = {"viewport": {"width": 1000, "height": 800}}
LARGEST = 150_000


@contextmanager
def jupyterlab(python: str, folder: Path) -> Iterator[str]:
    """Start JupyterLab in a folder, and end it with its kernels; returns its address."""
    port = free_port()
    words = ["--no-browser", "--allow-root", "--IdentityProvider.token=", f"--port={port}"]
    env = environment(HOME=str(folder))
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [python, "-m", "jupyterlab", *words, "--ServerApp.port_retries=0"],
            cwd=folder,
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(address) or server.poll() is not None)
        assert server.poll() is None, (folder / "lab.log").read_text()
        yield address
    finally:
        server.send_signal(signal.SIGTERM)  # it ends its kernels
        server.wait(HANGS_S)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/api/status", timeout=HANGS_S):
            return True
    except OSError:
        return False


def write_notebook(path: Path, *cells: str) -> None:
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made["metadata"]["kernelspec"] = kernel  # else somebody is asked for one
    nbformat.write(made, path)


def run_all(page: Page) -> None:
    """Run all cells by the menu, once the kernel is there."""
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def test_the_widget_follows_a_run_while_other_cells_are_executed(
    browser: Browser, tools_python: str, tmp_path: Path
) -> None:
    go_on = tmp_path / "go-on"
    run = submit(tmp_path, "wait", go_on)
    write_notebook(
        tmp_path / "follow.ipynb",
        f"from hpctf import Run\nrun = Run({str(run.folder.path)!r})\nrun.show()",
        "print('the kernel', 'is free:', run.status)",
    )
    with (
        jupyterlab(tools_python, tmp_path) as address,
        tab(browser, f"{address}/lab/tree/follow.ipynb", **LOOK) as here,
    ):
        page = here.page
        run_all(page)
        card = page.locator(".jp-OutputArea .hpctf-card")
        card.locator("h3 .hpctf-running").wait_for()
        page.get_by_text("the kernel is free: Running").wait_for()
        card.get_by_text("epoch 3 of 12").wait_for()
        card.locator("summary", has_text="Ranks").click()
        go_on.touch()
        card.locator("h3 .hpctf-completed").wait_for()
        assert card.locator("svg polyline").count() == 4
        assert card.locator("details").first.get_attribute("open") is not None
        assert card.locator("script").count() == 0
        width = card.evaluate("one => [one.scrollWidth, one.clientWidth]")
        assert width[0] <= width[1]


def test_the_pictures_show_a_real_training_by_day_and_by_night(
    browser: Browser, tools_python: str, training_python: str, pictures: Path, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "examples/digits", tmp_path / "digits")
    write_notebook(
        tmp_path / "digits.ipynb",
        "from hpctf import Experiment, TensorFlow\n\n"
        'estimator = TensorFlow("digits", entry_script="single.py",\n'
        f"                       arguments=['--epochs', 20], python={training_python!r})\n"
        'experiment = Experiment("digits", "local")\n'
        "run = experiment.submit(estimator)\nrun.show()",
        "run.wait_for_completion()\nexperiment",
    )
    settings = tmp_path / ".jupyter/lab/user-settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    pictures.mkdir(exist_ok=True)
    with (
        jupyterlab(tools_python, tmp_path) as address,
        tab(browser, f"{address}/lab/tree/digits.ipynb", **LOOK) as here,
    ):
        page = here.page
        run_all(page)
        page.locator(".hpctf-card table td .hpctf-completed").first.wait_for()
        page.locator(".hpctf-card h3 .hpctf-completed").first.wait_for()
        for theme in ("light", "dark"):
            choose_theme(page, theme)
            page.locator(".hpctf-card h3").first.scroll_into_view_if_needed()
            picture = pictures / f"notebook-{theme}.png"
            page.screenshot(path=picture)
            assert picture.stat().st_size < LARGEST


def choose_theme(page: Page, theme: str) -> None:
    page.get_by_role("menuitem", name="Settings", exact=True).click()
    page.locator(".lm-Menu-itemLabel").get_by_text("Theme", exact=True).click()
    page.locator(".lm-Menu-itemLabel").get_by_text(
        f"JupyterLab {theme.title()}", exact=True
    ).click()
    lit = str(theme == "light").lower()
    page.locator(f"body[data-jp-theme-light='{lit}']").wait_for(state="attached")
