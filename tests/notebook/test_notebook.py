"""Runs in notebooks: real ones, executed by their kernel."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from hpctf import Experiment, Run, TensorFlow
from hpctf.runs.site_choice import ChosenSite
from tests.conftest import ROOT, run_python
from tests.support.waiting import HANGS_S

pytestmark = pytest.mark.slow

TRAIN = """
import os, sys, time
from hpctf import Run

run = Run.get_context()
for step in range(6):
    run.log("loss<b>", 1 / (step + 1), step)
    run.log("val_loss<b>", 2 / (step + 1), step)
    run.log("holes", float("nan") if step == 2 else step, step)
run.log("seconds", 4.5)
run.tag("kind", "<script>alert(1)</script>")
run.progress(epoch=3, epochs=12)
with run.child_run("fold-1") as child:
    child.log("score", 0.25)
    child.log("score", 0.75)
run.flush()
while len(sys.argv) > 1 and sys.argv[1] == "wait" and not os.path.exists(sys.argv[2]):
    time.sleep(0.05)
if len(sys.argv) > 1 and sys.argv[1] == "--api-key":
    sys.exit(sys.argv[2] + " is a wrong key")
"""


def submit(folder: Path, *arguments: str | Path) -> Run:
    (folder / "proj").mkdir(exist_ok=True)
    (folder / "proj/train.py").write_text(TRAIN)
    estimator = TensorFlow(
        folder / "proj",
        entry_script="train.py",
        arguments=[str(word) for word in arguments],
        python=sys.executable,
    )
    return Experiment("cards", "local", folder / "runs").submit(estimator)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = submit(tmp_path_factory.mktemp("cards"))
    run.wait_for_completion()
    return run


def executed(folder: Path, *cells: str) -> list[list[Any]]:
    """Execute a notebook, and return the outputs of each cell."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(f"import sys; sys.path.insert(0, {str(ROOT)!r})")]
        + [nbformat.v4.new_code_cell(cell) for cell in cells]
    )
    client = NotebookClient(
        notebook,
        timeout=HANGS_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    return [cell["outputs"] for cell in notebook["cells"][1:]]


def test_a_run_is_a_card_with_its_curves_and_a_line_of_text(run: Run, tmp_path: Path) -> None:
    opened = f"from hpctf import Run\nrun = Run({str(run.folder.path)!r})\nrun"
    ((shown,),) = executed(tmp_path, opened)
    card = shown["data"]["text/html"]
    assert run.id in card and 'class="hpctf-state hpctf-completed">Completed<' in card
    assert card.count("<svg") == 2
    assert "loss&lt;b&gt;: from 1 to 0.1667, 6 values" in card
    assert "val_loss&lt;b&gt;: from 2 to 0.3333, 6 values" in card
    assert "epoch" not in card and "1 child run<" in card
    assert "seconds <b>4.5</b>" in card
    assert shown["data"]["text/plain"] == repr(run)


def test_a_value_that_is_not_finite_parts_the_curve(run: Run) -> None:
    holes = run._repr_html_().partition("holes")[2].partition("</svg>")[0]
    assert holes.count("<polyline") == 2


def test_training_and_validation_of_a_metric_are_one_chart_on_one_scale(run: Run) -> None:
    chart = run._repr_html_().partition("loss&lt;b&gt;")[2].partition("</svg>")[0]
    train, val = re.findall(r'<polyline class="hpctf-line-([01])" points="[\d.]+,([\d.]+) ', chart)
    assert train[0] == "0" and val[0] == "1"
    assert float(train[1]) > float(val[1])  # pixels count downwards


def test_notes_of_a_submission_are_on_record_and_in_the_card(tmp_path: Path) -> None:
    noted: list[str] = []
    (tmp_path / "proj").mkdir()
    (tmp_path / "proj/train.py").write_text("")
    estimator = TensorFlow(
        tmp_path / "proj", entry_script="train.py", python=sys.executable, mem="1G"
    )
    site = ChosenSite("local", ("drop=[mem]",))
    run = Experiment("cards", site, tmp_path / "runs").submit(estimator, on_note=noted.append)

    assert noted and run.folder.read_record()["notes"] == noted
    assert noted[0][:20] in run._repr_html_()
    run.wait_for_completion()


def test_names_and_values_are_text_never_markup(run: Run) -> None:
    card = run._repr_html_()
    assert "loss&lt;b&gt;" in card and "&lt;script&gt;alert(1)" in card
    assert "<script" not in card and "loss<b>" not in card


def test_a_child_run_and_an_experiment_are_cards(run: Run, tmp_path: Path) -> None:
    (child,) = run.get_children()
    assert "fold-1" in child._repr_html_() and "score <b>0.75</b>" in child._repr_html_()
    experiment = Experiment("cards", "local", run.folder.root)
    card = experiment._repr_html_()
    assert run.id in card and "<th>seconds</th>" in card and "<td>4.5</td>" in card
    assert "No runs yet" in Experiment("none", "local", tmp_path)._repr_html_()


def test_an_experiment_shows_the_latest_and_counts_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpctf.notebook.cards.RUNS", 1)
    runs = [submit(tmp_path), submit(tmp_path)]
    for one in runs:
        one.wait_for_completion()
    card = Experiment("cards", "local", tmp_path / "runs")._repr_html_()
    assert runs[1].id in card and runs[0].id not in card and "and 1 older run<" in card


def test_a_failed_run_tells_why_without_its_secrets(tmp_path: Path) -> None:
    run = submit(tmp_path, "--api-key", "hunter2222")
    run.wait_for_completion(raise_on_error=False)
    card = run._repr_html_()
    assert "hpctf-failed" in card and "is a wrong key" in card
    assert "hunter2222" not in card and "(hidden)" in card


@pytest.mark.parametrize("without", ["", "anywidget"])
def test_show_follows_the_run_while_the_kernel_is_free(tmp_path: Path, without: str) -> None:
    go_on = tmp_path / "go-on"
    run = submit(tmp_path, "wait", go_on)
    show, freed, ended = executed(
        tmp_path,
        f"import sys\nif {without!r}: sys.modules[{without!r}] = None\n"
        "from hpctf import Run\nfrom hpctf.notebook import show as shown\n"
        "cards = []\nthe_first = shown._displayed\n"
        "def kept(html, words):\n"
        "    update = the_first(html, words)\n"
        "    return lambda new: (cards.append(new), update(new))\n"
        "shown._displayed = kept\n"
        f"run = Run({str(run.folder.path)!r})\nrun.show(0.1)",
        "import time\nthe_card = shown.run_card\n"
        "def away(*_, **named):\n"
        "    shown.run_card = the_card\n"
        "    raise OSError('away for a moment')\n"
        "shown.run_card = away\n"
        "while not any('away for a moment' in card for card in cards): time.sleep(0.05)\n"
        f"print(run.status)\nopen({str(go_on)!r}, 'w').close()",
        "import threading\n"
        "[thread.join() for thread in threading.enumerate() if thread.name.startswith('show ')]\n"
        "print('Completed<' in cards[-1], 'loss&lt;b&gt;' in cards[-1])",
    )
    assert freed[0]["text"] == "Running\n"
    assert ended[0]["text"] == "True True\n"
    data = show[0]["data"]
    if without:
        assert "Completed<" in data["text/html"] and run.id in data["text/plain"]
    else:
        assert "application/vnd.jupyter.widget-view+json" in data


def test_outside_a_notebook_show_prints_a_line(run: Run) -> None:
    done = run_python("-c", f"from hpctf import Run; Run({str(run.folder.path)!r}).show()")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{run.id}: Completed: 1 worker completed; ")
    assert "seconds 4.5" in done.stdout and done.stdout.count("\n") == 1
