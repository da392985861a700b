"""Trainings written for Azure ML, on this machine: their runs are runs of hpctf's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, Run, TensorFlow, TrainingFailed
from hpctf.site.loading import load_site
from tests.support.projects import project

pytestmark = pytest.mark.slow

LOGS = """
from azureml.core import Run
import sys
run = Run.get_context()
for epoch in range(3):
    run.log("loss", 1 / (1 + epoch))
run.tag("kind", "old")
with open("outputs/model.txt", "w") as stream:
    stream.write(run.experiment.name)
run.upload_file("notes/model.txt", "outputs/model.txt")
if "--fail" in sys.argv:
    run.fail("no luck")
"""

WITHOUT = """
try:
    import azureml.core
except ImportError as error:
    print(error)
else:
    raise SystemExit("azureml.core is there")
"""


def submit(experiment: Experiment, folder: Path, text: str, **asked: Any) -> Run:
    return experiment.submit(
        TensorFlow(project(folder / "proj", text=text), entry_script="train.py", **asked)
    )


def test_what_it_logs_tags_and_uploads_is_the_runs(experiment: Experiment, tmp_path: Path) -> None:
    run = submit(experiment, tmp_path, LOGS)
    run.wait_for_completion()
    assert run.get_metrics() == {"loss": [1, 1 / 2, 1 / 3]}
    assert run.get_tags() == {"kind": "old"}
    assert {"notes/model.txt", "outputs/model.txt"} <= set(run.get_file_names())
    assert (run.folder.artifacts / "notes/model.txt").read_text() == "test"


def test_fail_makes_the_run_fail_with_its_words(experiment: Experiment, tmp_path: Path) -> None:
    run = submit(experiment, tmp_path, LOGS, script_params={"--fail": ""})
    with pytest.raises(TrainingFailed, match=r"(?s)exit code 1.*Run.fail\(\): no luck"):
        run.wait_for_completion()
    assert run.get_metrics("loss") == {"loss": [1, 1 / 2, 1 / 3]}


PASSES_OVER = """
try:
    from azureml.core import Run, Workspace
except ImportError:
    Run = None
"""


def test_a_refusal_that_a_script_catches_fails_its_run(
    experiment: Experiment, tmp_path: Path
) -> None:
    run = submit(experiment, tmp_path / "a", PASSES_OVER)
    with pytest.raises(TrainingFailed, match=r"(?s)exit code 78|there is no workspace"):
        run.wait_for_completion()
    details = run.get_details()
    assert (details["state"], details["exit_code"]) == ("Failed", 78)
    assert "azureml.core.Workspace is not there in a run of hpctf" in details["reason"]
    knows = {"environment_variables": {"HPCTF_SKIP_PREFLIGHT": "1"}}
    submit(experiment, tmp_path / "b", PASSES_OVER, **knows).wait_for_completion()


def test_the_estimator_or_the_site_turns_it_off(experiment: Experiment, tmp_path: Path) -> None:
    off = replace(load_site("local"), azureml=False)
    quiet = Experiment("test", site=off, runs_root=experiment.runs_root)
    for run in (
        submit(experiment, tmp_path / "a", WITHOUT, azureml=False),
        submit(quiet, tmp_path / "b", WITHOUT),
    ):
        run.wait_for_completion()
    submit(quiet, tmp_path / "c", LOGS, azureml=True).wait_for_completion()
