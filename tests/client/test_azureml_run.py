"""Scripts written for Azure ML: what `azureml.core` is in a training, and when it is not ours."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hpctf.client.hpctf.run_metrics import Tracked
from hpctf.common.paths import CLIENT, STARTUP
from tests.client.test_logging import environ
from tests.client.test_run_context import pythons, say

PYTHONS = [os.path.realpath(python) for python in pythons()]
"""Without this environment's packages: an hpctf that is installed takes the client's place."""

LOGS = """
import io, os
from azureml.core import Run
from azureml.core.run import Run as same
import azureml.core
assert same is Run is azureml.core.Run

from azureml.telemetry import set_diagnostics_collection
set_diagnostics_collection(send_diagnostics=True)
assert azureml.core.VERSION == "1.61.0"
os.environ["AZUREML_DATAREFERENCE_mnist"] = "/data"

run = Run.get_context(allow_offline=False)
assert run.input_datasets["mnist"] == "/data"
run.log("loss", 0.5, "what it is", 3)
run.log(name="accuracy", value=0.9, description="of the test set")
run.log_list("list", [1, 2])
run.log_row("row", "of what", x=1, step=2)
run.log_table("table", {"x": [1, 2]}, "of what")
run.log_confusion_matrix("matrix", {"data": {"class_labels": ["a"], "matrix": [[4]]}})
run.log_accuracy_table("curve", {"data": {"probability_tables": [[[1, 2]]]}})
run.log_predictions("predicted", {"data": {"bin_averages": [0.25]}})
run.log_residuals("left", {"data": {"bin_counts": [3]}})
run.tag("stage", "final")
run.set_tags({"kind": "mlp"})
run.add_properties({"author": "b"})
open("model.txt", "w").write("weights")
run.upload_file("outputs/model.txt", "model.txt")
run.upload_file(name="notes/stream.txt", path_or_stream=io.BytesIO(b"from a stream"))
run.upload_files(["a/1", "a/2"], ["model.txt", "model.txt"])
assert run.get_file_names() == ["a/1", "a/2", "notes/stream.txt", "outputs/model.txt"]
run.download_file("notes/stream.txt", "back.txt")
assert open("back.txt").read() == "from a stream"
run.download_files("a/", "copies")
assert open("copies/a/1").read() == "weights"

assert (run.id, run.name, run.display_name) == ("digits_1_a",) * 3
assert (run.experiment.name, run.experiment, run.parent) == ("digits", "digits", None)
assert run.get_tags() == run.tags == {"stage": "final", "kind": "mlp"}
assert run.properties == run.get_properties() == {"author": "b"}
assert run.get_details()["runId"] == run.id and run.get_status() == run.status == "Running"
assert (run.rank, run.outputs.name) == (0, "outputs"), "hpctf's own names are there, too"

fold = run.child_run("fold 1")
assert (fold.name, fold.parent) == ("fold 1", run)
fold.log("loss", 0.25)
fold.complete()
try:
    run.child_run("fold 2").fail("bad data")
    run.child_run("fold 3").cancel()
finally:
    made = run.create_children(tag_key="lr", tag_values=[0.1, 0.2])
assert [child.get_tags() for child in made] == [{"lr": 0.1}, {"lr": 0.2}]
assert len(list(run.get_children())) == 5
assert run.get_metrics("loss") == {"loss": 0.5}
assert run.get_metrics("loss", recursive=True) == {"loss": [0.5, 0.25]}
run.flush()
run.complete()
print("done")
"""


def run_in_job(folder: Path, python: str, code: str, **more: str) -> subprocess.CompletedProcess:
    """Run a script as a rank does that hpctf has started."""
    env = {**environ(folder / "run"), "HPCTF_EXPERIMENT": "digits", **more}
    code = f"import os; os.chdir({str(folder)!r})\n{code}"
    return say(python, path=[STARTUP, folder / "site", CLIENT], code=code, **env)


@pytest.mark.parametrize("python", PYTHONS)
def test_a_script_of_azure_ml_logs_to_the_run(python: str, tmp_path: Path) -> None:
    done = run_in_job(tmp_path, python, LOGS)
    assert (done.stdout, done.stderr) == ("done\n", "")
    tracked = Tracked(str(tmp_path / "run"))
    series = tracked.series()
    assert series["loss"].steps == [3]
    assert {name: one.kind for name, one in series.items()} == {
        "loss": "value",
        "accuracy": "value",
        "list": "list",
        "row": "row",
        "table": "table",
        "matrix": "confusion_matrix",
        "curve": "accuracy_table",
        "predicted": "predictions",
        "left": "residuals",
    }
    assert series["row"].metric() == {"x": 1, "step": 2}
    ends = [child.ended() for child in tracked.children()]
    assert [end and end["state"] for end in ends] == ["Completed", "Failed", "Canceled", None, None]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("run.input_datasets['mnist']", "--input mnist=/path"),
        ("run.output_datasets", "write to ./outputs"),
        ("run.experiment.workspace", "there is no workspace on a cluster"),
        ("run.experiment.start_logging()", "say Run.get_context()"),
        ("run.submit_child(None)", "submit from a login node"),
        ("run.get_secret('key')", "--env NAME=VALUE"),
        ("run.cancel()", "hpctf cancel digits_1_a"),
    ],
)
def test_what_it_has_not_is_refused_with_the_way_out(asked: str, says: str, tmp_path: Path) -> None:
    code = f"from azureml.core import Run\nrun = Run.get_context()\n{asked}\n"
    done = run_in_job(tmp_path, PYTHONS[0], code)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("NotImplementedError: ")
    assert says in last


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("from azureml.core import Run, Dataset", "HPCTF_INPUT_<NAME>"),
        ("from azureml.core import Workspace", "Run.get_context() is the run"),
        ("from azureml.core.model import Model", "./outputs"),
        ("from azureml.train.dnn import TensorFlow", "hpctf.azureml"),
    ],
)
def test_a_name_that_means_nothing_here_is_refused_in_one_sentence(
    line: str, says: str, tmp_path: Path
) -> None:
    done = run_in_job(tmp_path, PYTHONS[0], line)
    last = done.stderr.splitlines()[-1]
    assert "is not there in a run of hpctf" in last
    assert says in last
    caught = run_in_job(
        tmp_path, PYTHONS[0], f"try:\n    {line}\nexcept ImportError:\n    print('without')"
    )
    assert caught.stdout == "without\n"


def test_a_run_that_says_it_failed_fails_and_shows_why(tmp_path: Path) -> None:
    code = """
from azureml.core import Run
try:
    [][1]
except Exception as error:
    Run.get_context().fail(error_details=str(error))
print("never here")
"""
    done = run_in_job(tmp_path, PYTHONS[0], code)
    assert (done.returncode, done.stdout) == (1, "")
    assert "IndexError: list index out of range" in done.stderr
    assert done.stderr.splitlines()[-1] == "Run.fail(): list index out of range"


@pytest.mark.parametrize("python", PYTHONS)
def test_a_package_that_is_installed_goes_before(python: str, tmp_path: Path) -> None:
    core = tmp_path / "site/azureml/core"
    core.mkdir(parents=True)
    core.parent.joinpath("__init__.py").write_text("")
    (core / "__init__.py").write_text("class Run: pass\n")
    code = "import azureml.core; print(azureml.core.Run.__module__, azureml.core.__file__)"
    done = run_in_job(tmp_path, python, code)
    assert done.stdout == f"azureml.core {core / '__init__.py'}\n"
    assert done.stderr.startswith(f"hpctf: azureml.core is Azure ML's own here ({core}): ")
    assert run_in_job(tmp_path, python, code, HPCTF_RANK="1").stderr == ""
    assert run_in_job(tmp_path, python, code, HPCTF_WITHOUT_AZUREML="1").stderr == ""


def test_another_package_of_the_name_space_is_no_hindrance(tmp_path: Path) -> None:
    """As azureml-mlflow: a folder ``azureml`` without ``core``."""
    other = tmp_path / "site/azureml/mlflow"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("")
    code = (
        "import azureml.mlflow\nfrom azureml.core import Run\n"
        "print(azureml.mlflow.__file__, Run.__module__)"
    )
    said = run_in_job(tmp_path, PYTHONS[0], code).stdout
    assert said == f"{other / '__init__.py'} hpctf.azureml_run\n"


def test_turned_off_there_is_no_azureml(tmp_path: Path) -> None:
    done = run_in_job(tmp_path, PYTHONS[0], "import azureml.core", HPCTF_WITHOUT_AZUREML="1")
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'azureml'"


def test_who_asks_whether_it_is_there_gets_the_right_answer(tmp_path: Path) -> None:
    code = (
        "from importlib.util import find_spec\n"
        "print([find_spec('azureml.' + name) is not None for name in ('core.run', 'no', 'mlflow')])"
    )
    assert run_in_job(tmp_path, PYTHONS[0], code).stdout == "[True, False, False]\n"


def test_what_a_script_does_not_import_is_not_loaded(tmp_path: Path) -> None:
    code = (
        "import json, sys\ntry:\n    import what_is_not_there\nexcept ImportError:\n"
        "    print([name for name in sys.modules if 'azureml' in name or 'hpctf' in name])"
    )
    assert run_in_job(tmp_path, PYTHONS[0], code).stdout == "[]\n"
