"""A script that takes ``--resume-from``, as Azure ML's do, goes on from the run before."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, Run, TensorFlow, UsageError
from hpctf.runs.checkpoints import resumption_of
from tests.support.projects import hpctf, project

TRAINS = """
import argparse, glob, json, os, re
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--resume-from", default=None)
args = parser.parse_args()
begin = 0
if args.resume_from:
    assert os.environ["AZUREML_DATAREFERENCE_MODEL_LOCATION"] == args.resume_from
    found = glob.glob(os.path.join(args.resume_from, "epoch-*"))
    begin = 1 + max(int(re.search(r"epoch-(\\d+)", name).group(1)) for name in found)
    open(os.path.join(args.resume_from, "mine"), "w").close()
for epoch in range(begin, begin + args.epochs):
    open("outputs/epoch-%d" % epoch, "w").close()
if os.environ.get("ALSO"):
    open(os.path.join(os.environ["HPCTF_CHECKPOINT_DIR"], "state"), "a").write("x")
json.dump({"begin": begin, "from": os.environ.get("HPCTF_RESUMED_FROM"),
           "checkpoints": os.listdir(os.environ["HPCTF_CHECKPOINT_DIR"])}, open("said.json", "w"))
"""


def begin(experiment: Experiment, source: Path, **asked: Any) -> Run:
    run = experiment.submit(TensorFlow(source, entry_script="train.py", **asked))
    run.wait_for_completion()
    return run


def said(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.folder.snapshot / "said.json").read_text())
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return project(tmp_path / "proj", text=TRAINS)


WAYS: dict[str, Callable[[Run], Any]] = {
    "run": lambda run: run,
    "id": lambda run: run.id,
    "folder": lambda run: run.folder.path,
    "outputs": lambda run: str(run.folder.outputs),
}


def test_a_run_or_its_outputs_resume_it(
    experiment: Experiment, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = begin(experiment, source)
    estimators = [
        TensorFlow(source, entry_script="train.py", resume_from=way(first)) for way in WAYS.values()
    ]
    runs = [experiment.submit(estimator) for estimator in estimators]
    notes = caplog.text
    for run in runs:
        run.wait_for_completion()
        assert said(run)["begin"] == 2
        assert said(run)["from"] == str(first.folder.outputs)
        assert sorted(path.name for path in run.folder.outputs.iterdir()) == ["epoch-2", "epoch-3"]
        assert f"train.py gets --resume-from {run.folder.resumed}" in notes
    assert sorted(path.name for path in first.folder.outputs.iterdir()) == ["epoch-0", "epoch-1"]


def test_a_resubmitted_one_resumes_again_with_its_checkpoints(
    experiment: Experiment, source: Path
) -> None:
    first = begin(experiment, source, environment_variables={"ALSO": "1"})
    second = begin(experiment, source, resume_from=first)
    assert (said(second)["begin"], said(second)["checkpoints"]) == (2, ["state"])
    third = second.resubmit(arguments=["--epochs", "1"])
    third.wait_for_completion()
    assert (said(third)["begin"], said(third)["checkpoints"]) == (2, ["state"])


def test_a_folder_of_its_files_is_enough_and_the_command_line_does_it_too(
    experiment: Experiment, source: Path, tmp_path: Path
) -> None:
    first = begin(experiment, source)
    kept = shutil.copytree(first.folder.outputs, tmp_path / "kept")
    words = ["submit", "--wait", "--site", "local", "--resume-from", str(kept), "train.py"]
    done = hpctf(*words, "--", "--epochs", "1", cwd=source)
    assert done.returncode == 0, done.stderr
    (folder,) = (source / "runs").glob("*/*/snapshot/said.json")
    assert json.loads(folder.read_text())["begin"] == 2


def test_what_the_arguments_name_already_stays(experiment: Experiment, source: Path) -> None:
    first = begin(experiment, source)
    own = {"script_params": {"--resume-from": str(first.folder.outputs)}}
    own |= {"environment_variables": {"AZUREML_DATAREFERENCE_MODEL_LOCATION": first.folder.outputs}}
    second = begin(experiment, source, resume_from=first, **own)
    assert second.plan["entry"]["command"].count("--resume-from") == 1
    assert (first.folder.outputs / "mine").exists()


def test_without_outputs_or_the_option_it_is_refused_with_what_to_do(
    experiment: Experiment, source: Path, tmp_path: Path
) -> None:
    none = begin(experiment, source, script_params={"--epochs": 0})
    with pytest.raises(UsageError, match="no outputs and no checkpoints"):
        begin(experiment, source, resume_from=none)
    other = project(tmp_path / "other", text="open('outputs/x', 'w').close()\n")
    first = begin(experiment, other)
    with pytest.raises(UsageError, match=r"(?s)no checkpoints.*take --resume-from"):
        begin(experiment, other, resume_from=first)


def test_what_cannot_be_gone_on_from_is_refused_with_what_to_do(
    experiment: Experiment, source: Path
) -> None:
    text = TRAINS + "from hpctf import Run\nRun.get_context().child_run('fold').log('x', 1)\n"
    source = project(source.parent / "children", text=text)
    gone, archived, first = (begin(experiment, source) for _ in range(3))
    child = first.get_children()[0]
    gone.delete()
    hpctf("archive", archived.id, "--yes", cwd=experiment.runs_root.parent)
    said_of = {
        f"There is no run '{gone.id}'": [way(gone) for way in WAYS.values()],
        f"hpctf archive --restore {archived.id}": [way(archived) for way in WAYS.values()],
        f"Name the run that made it: {first.id}": [child, child.id],
    }
    for words, ways in said_of.items():
        for way in ways:
            with pytest.raises(UsageError, match=r"^resume_from: ") as refused:
                begin(experiment, source, resume_from=way)
            assert words in str(refused.value)
    assert len(list(experiment.runs_root.glob("*/*/run.json"))) == 1, "nothing was submitted"


def test_a_run_that_cannot_be_read_is_not_missing(experiment: Experiment, source: Path) -> None:
    first = begin(experiment, source)
    folder = first.folder.path
    temporary = Path(tempfile.gettempdir())
    above = [path for path in folder.parents if temporary in path.parents]
    for path in [*reversed(above), folder, *folder.rglob("*")]:
        path.chmod(0o755)
    for closed, way in itertools.product(("", "outputs", "state"), ("folder", "outputs")):
        (folder / closed).chmod(0)
        with somebody_else(), pytest.raises(UsageError, match=r"(?s)cannot be read.*Ask its owner"):
            resumption_of(WAYS[way](first), experiment.runs_root, takes_outputs=True)
        (folder / closed).chmod(0o755)
    with somebody_else():
        assert resumption_of(folder, experiment.runs_root, takes_outputs=True).outputs


@contextmanager
def somebody_else() -> Iterator[None]:
    """Access files as a user whom root's rights do not help."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
