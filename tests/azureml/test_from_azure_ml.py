"""docs/from-azure-ml.md: its code is run as it stands there, and its tables name all there is."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hpctf.azureml as azureml
from hpctf import Run, UsageError
from hpctf.azureml.datastore import DataPathComputeBinding
from hpctf.client.hpctf import azureml_run
from hpctf.migration.migrate import migrate
from hpctf.site.loading import load_site
from hpctf.site.model import Site
from tests.conftest import ROOT
from tests.support.projects import project

pytestmark = pytest.mark.slow

TEXT = (ROOT / "docs/from-azure-ml.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
BEFORE, AFTER, HOROVOD, SERVERS, KERAS, CONFIGURED, TUNED, MODELS, TRAINING = BLOCKS

WHO = """
import json, os
me = os.environ["HPCTF_ROLE"] + "-" + os.environ["HPCTF_INDEX"]
with open("outputs/" + me + ".json", "w") as stream:
    json.dump(json.loads(os.environ.get("TF_CONFIG", "null")), stream)
"""


@pytest.fixture
def site() -> Site:
    """This machine, as if it were the cluster of the document."""
    local = load_site("local")
    target = replace(local.targets["default"], max_nodes=2)
    return replace(local, targets={"default": target, "gpu-cluster": target})


@pytest.fixture
def execute(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], dict[str, Any]]:
    """Executes code of the document in a folder with its projects; returns its variables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPCTF_RUNS_ROOT", str(tmp_path / "runs"))
    workspace = azureml.Workspace(site=site)
    monkeypatch.setattr(azureml.Workspace, "from_config", lambda: workspace)
    names: dict[str, Any] = {
        "exp": azureml.Experiment(workspace, "my-experiment"),
        "compute_target": azureml.ComputeTarget(workspace, "gpu-cluster"),
        "script_params": {"--batch-size": 50},
    }

    def executing(code: str) -> dict[str, Any]:
        exec(compile(code, "docs/from-azure-ml.md", "exec"), names)
        return names

    return executing


def said(run: Run) -> dict[str, Any]:
    """Return each rank's TF_CONFIG."""
    run.wait_for_completion()
    return {path.stem: json.loads(path.read_text()) for path in run.folder.outputs.glob("*-*.json")}


def test_migrate_makes_after_of_before(tmp_path: Path) -> None:
    (tmp_path / "before.py").write_text(BEFORE)
    assert migrate(tmp_path / "before.py").content.decode() == AFTER


def test_a_script_run_config_asks_for_two_ranks(execute: Callable[[str], dict[str, Any]]) -> None:
    project(Path("my-tf-proj")).joinpath("requirements.txt").write_text("scikit-learn\n")
    names = execute(CONFIGURED.replace("run = Experiment", "# run = Experiment"))
    estimator = names["src"].estimator(Path())
    assert (estimator.backend, estimator.node_count) == ("mpi", 2)
    assert estimator.pip_requirements_file == str(Path("my-tf-proj/requirements.txt").absolute())


def test_one_process_trains_with_the_documents_own_script(
    execute: Callable[[str], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    project(Path("my-tf-proj"), text=TRAINING)
    run = execute(AFTER)["run"]
    assert run.get_metrics() == {"batch size": 50, "loss": [1, 1 / 2, 1 / 3]}
    assert {"outputs/model.txt", "weights/model.txt"} <= set(run.get_file_names())
    assert "'loss': [1.0, 0.5, " in capsys.readouterr().out

    registered = execute(MODELS)["registered"]
    assert capsys.readouterr().out == "digits\tdigits:1\t1\n"
    assert Path("downloaded/model.txt").read_text() == "weights"
    assert (registered.run_id, registered.run.id) == (run.id, run.id)
    assert registered.metrics == run.get_metrics()


def test_horovods_ranks_are_two(execute: Callable[[str], dict[str, Any]]) -> None:
    project(Path("my-tf-proj"), text=WHO)
    assert said(execute(HOROVOD)["run"]) == {"worker-0": None, "worker-1": None}


def test_the_script_runs_on_workers_and_ps_and_there_is_no_chief(
    execute: Callable[[str], dict[str, Any]],
) -> None:
    project(Path("my-tf-proj"), text=WHO)
    found = said(execute(SERVERS)["run"])
    assert sorted(found) == ["ps-0", "worker-0", "worker-1"]
    assert found["ps-0"]["task"] == {"type": "ps", "index": 0}
    assert {role: len(all_) for role, all_ in found["ps-0"]["cluster"].items()} == {
        "worker": 2,
        "ps": 1,
    }


@pytest.mark.parametrize("asked", ['pip_packages=["keras"]', 'conda_packages=["scikit-learn"]'])
def test_packages_ask_for_an_environment(
    asked: str, execute: Callable[[str], dict[str, Any]]
) -> None:
    """It is planned here; tests/environment builds such environments."""
    project(Path("my-keras-proj"), "keras_train.py")
    names = execute(KERAS.replace('pip_packages=["keras"]', asked))
    planned = names["exp"]._experiment.plan(names["keras_est"])
    assert planned.spec is not None
    assert asked.split('"')[1] in str(planned.spec)


def rows(heading: str) -> set[str]:
    """Return the words in code type of the first column of the tables below a heading."""
    section = TEXT.split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
    first = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return {word for cell in first for word in re.findall(r"`\.?(?:\w+\.)*(\w+)", cell)}


def test_the_table_has_every_parameter_of_azure_mls_estimators() -> None:
    described = rows("### Every parameter of TensorFlow() and Estimator()")
    described |= {"conda_dependencies_file_path", "pip_requirements_file_path", "_path"}
    assert set(OF_AZURE_ML) <= described
    assert described - {"_path"} <= set(OF_AZURE_ML)


def test_the_table_has_every_method_of_the_run_that_stands_in() -> None:
    tree = ast.parse(inspect.getsource(azureml_run.Run))
    (own,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    names = {one.name for one in own.body if isinstance(one, ast.FunctionDef)}
    assigned = [target for one in own.body if isinstance(one, ast.Assign) for target in one.targets]
    names |= {target.id for target in assigned if isinstance(target, ast.Name)}
    public = {name for name in names if not name.startswith("_")}
    assert public - {"get_secrets"} <= rows("## Training scripts")


OF_AZURE_ML: dict[str, Any] = {
    "source_directory": "proj",
    "compute_target": "gpu-cluster",
    "vm_size": "STANDARD_NC6",
    "vm_priority": "lowpriority",
    "entry_script": "train.py",
    "script_params": {"--x": 1},
    "node_count": 1,
    "process_count_per_node": 1,
    "worker_count": 1,
    "parameter_server_count": 1,
    "distributed_backend": None,
    "distributed_training": None,
    "use_gpu": False,
    "use_docker": True,
    "custom_docker_base_image": None,
    "custom_docker_image": None,
    "image_registry_details": None,
    "user_managed": False,
    "conda_packages": None,
    "pip_packages": None,
    "conda_dependencies_file_path": None,
    "pip_requirements_file_path": None,
    "conda_dependencies_file": None,
    "pip_requirements_file": None,
    "environment_variables": {"A": "1"},
    "environment_definition": None,
    "inputs": None,
    "source_directory_data_store": None,
    "shm_size": "2g",
    "resume_from": None,
    "max_run_duration_seconds": 600,
    "framework_version": None,
}
"""The parameters of azureml-train-core 1.62's TensorFlow, with its defaults or a value."""


def test_every_parameter_is_taken_and_what_is_not_used_is_noted(
    execute: Callable[[str], dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    project(Path("proj"))
    experiment = execute("")["exp"]
    estimator = azureml.TensorFlow(**OF_AZURE_ML, _disable_validation=True)
    run = experiment.submit(estimator, tags={"stage": "trial"})
    details = run.wait_for_completion(wait_post_processing=True)
    assert (details["id"], details["state"]) == (run.id, "Completed")
    assert run.get_details_with_logs()["logFiles"]["logs/worker-0.log"] == "hello\n"
    assert run.get_portal_url() == run.folder.path.as_uri()
    found = experiment.get_runs(tags={"stage": "trial"}, include_children=True)
    assert [one.id for one in found] == [run.id] == [run.name]
    assert [*experiment.get_runs(tags={"stage": "final"})] == []
    assert run.get_tags() == {"stage": "trial"}
    notes = [name for name in azureml.NOTED for said in caplog.messages if f"{name} means" in said]
    assert notes == [*azureml.NOTED]


def test_counts_of_1_say_nothing(tmp_path: Path) -> None:
    source = project(tmp_path / "proj")
    ones = {"process_count_per_node": 1, "worker_count": 1, "parameter_server_count": 1}
    mpi = azureml.TensorFlow(
        source, entry_script="train.py", distributed_training=azureml.Mpi(2), **ones
    )
    assert (mpi.backend, mpi.process_count_per_node) == ("mpi", 2)
    servers = azureml.TensorFlow(
        source, entry_script="train.py", distributed_backend="ps", **{**ones, "worker_count": 3}
    )
    assert (servers.worker_count, servers.parameter_server_count) == (3, 1)
    assert (servers.coordinator, servers.chief) == (False, False)


def test_run_details_tell_of_the_run(
    execute: Callable[[str], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    run = execute("")["exp"].submit(
        azureml.Estimator(project(Path("proj")), entry_script="train.py")
    )
    run.wait_for_completion()
    azureml.RunDetails(run).show()
    assert run.id in capsys.readouterr().out


def test_a_run_has_what_notebooks_ask_of_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPCTF_RUNS_ROOT", str(tmp_path / "runs"))
    ws = azureml.Workspace(site=site)
    experiment = azureml.Experiment(ws, "asked")
    config = azureml.ScriptRunConfig(project(Path("proj"), text=RESUMES), script="train.py")
    run = experiment.submit(config, tags={"stage": "trial"})
    details = run.wait_for_completion(show_output=False, wait_post_processing=True)
    assert (details["runId"], details["status"], details["tags"]) == (
        run.id,
        "Completed",
        {"stage": "trial"},
    )
    assert (run.experiment.name, run.type, run.parent) == ("asked", "azureml.scriptrun", None)
    assert run.number > 1_600_000_000_000
    assert run.get_metrics(recursive=True)["begin"] == 0
    assert [child.id for child in run.get_children(tags={"fold": 1})] == [f"{run.id}_a"]
    assert list(run.get_children(status="Failed")) == []
    with pytest.raises(UsageError, match=f"the run that made it: ws.get_run.'{run.id}'"):
        next(run.get_children())._get_outputs_datapath()

    run.download_files("outputs/model", "kept", append_prefix=False)
    assert Path("kept/weights.txt").read_text() == "0"
    run.download_files(prefix="outputs/model", output_directory="kept")
    assert Path("kept/outputs/model/weights.txt").exists()
    run.download_files(prefix="outputs/model", output_paths=["own.txt"])
    assert Path("own.txt").exists()
    assert run.get_all_logs("kept") == ["kept/logs/job.log", "kept/logs/worker-0.log"]
    run.upload_file("notes/own.txt", "own.txt")
    run.upload_files(["a", "b"], ["own.txt", "own.txt"])
    run.upload_folder("folder", "kept/outputs")
    run.log_image("curve", path="own.txt")
    names = set(run.get_file_names())
    assert {"notes/own.txt", "a", "b", "folder/model/weights.txt"} <= names
    assert any(name.startswith("images/curve_") for name in names)
    assert [path.name for path in Path(run.restore_snapshot(path="code")).iterdir()] == ["train.py"]

    same = [azureml.Run.get(ws, run.id), ws.get_run(run.id), azureml.Run(experiment, run.id)]
    same += [*azureml.Run.list(experiment, status="Completed")]
    same += [*ws.experiments["asked"].get_runs()]
    assert {one.id for one in same} == {run.id} and len(same) == 5

    run.add_properties({"author": "a", "seed": 1})
    run.add_properties({"author": "a"})
    with pytest.raises(UsageError, match=r"(?s)'author' already, with the value 'a'.*run.tag"):
        run.add_properties({"author": "b"})
    assert run.properties == {"author": "a", "seed": 1}
    with pytest.raises(UsageError, match=r"run.tag\('name', value\)"):
        run.display_name = "mine"

    reference = run._get_outputs_datapath().create_data_reference(
        datapath_compute_binding=DataPathComputeBinding(mode="mount")
    )
    given = azureml.ScriptRunConfig("proj", "train.py", ["--resume-from", str(reference)])
    given.run_config.data_references = {reference.data_reference_name: reference.to_config()}
    resumed = experiment.submit(given)
    resumed.wait_for_completion()
    assert resumed.get_metrics("begin") == {"begin": 1}

    for outputs in (run._get_outputs_datapath(), run):
        config.resume_from = outputs
        again = experiment.submit(config)
        again.wait_for_completion()
        assert again.get_metrics("begin") == {"begin": 1}


RESUMES = """
import argparse, os
from azureml.core import Run
parser = argparse.ArgumentParser()
parser.add_argument("--resume-from", default=None)
where = parser.parse_args().resume_from
begin = 0 if where is None else 1 + int(open(os.path.join(where, "model", "weights.txt")).read())
run = Run.get_context()
run.log("begin", begin)
run.child_run("a").tag("fold", 1)
os.makedirs("outputs/model")
open("outputs/model/weights.txt", "w").write(str(begin))
"""


@pytest.mark.parametrize(
    "asked",
    [
        {"image_registry_details": object()},
        {"environment_definition": object()},
        {"source_directory_data_store": object()},
        {"distributed_backend": "nccl"},
        {"node_count": 2},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_what_cannot_be_meant_is_refused(asked: dict[str, Any], tmp_path: Path) -> None:
    source = project(tmp_path / "proj")
    with pytest.raises(UsageError, match=next(iter(asked))):
        azureml.TensorFlow(source, entry_script="train.py", **asked)


def test_an_estimator_knows_no_framework(tmp_path: Path) -> None:
    source = project(tmp_path / "proj")
    assert azureml.Estimator(source, entry_script="train.py").framework_version is None
    with pytest.raises(UsageError, match="framework_version is TensorFlow's"):
        azureml.Estimator(source, entry_script="train.py", framework_version="2.15")


def test_local_is_this_machine_whatever_the_site(tmp_path: Path) -> None:
    away = replace(load_site("slurm"), runs_root=str(tmp_path / "runs"))
    experiment = azureml.Experiment(azureml.Workspace(site=away), "here")
    source = project(tmp_path / "proj")
    run = experiment.submit(
        azureml.Estimator(source, entry_script="train.py", compute_target="local")
    )
    assert run.plan["site"] == "local"
    run.wait_for_completion()


def test_targets_are_the_sites_and_are_not_made(site: Site) -> None:
    workspace = azureml.Workspace(
        "subscription", resource_group="group", workspace_name="ws", site=site
    )
    assert (workspace.name, [*workspace.compute_targets]) == ("local", ["default", "gpu-cluster"])
    with pytest.raises(azureml.ComputeTargetException, match="gpu-cluster"):
        azureml.ComputeTarget(workspace=workspace, name="gpu-clutser")
    config = azureml.AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", max_nodes=4)
    assert azureml.ComputeTarget.create(workspace, "gpu-cluster", config).name == "gpu-cluster"
    with pytest.raises(UsageError, match=r"(?s)'other'.*site 'local' has: default, gpu-cluster"):
        azureml.ComputeTarget.create(workspace, "other", config)
    status = workspace.compute_targets["gpu-cluster"].status.serialize()
    assert (status["provisioningState"], status["targetNodeCount"]) == ("Succeeded", 2)
