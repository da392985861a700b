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
from hpctf.client.hpctf import azureml_run
from hpctf.site.load import load_site
from hpctf.site.model import Site

from ..conftest import ROOT
from ..login.helpers import project

TEXT = (ROOT / "docs/from-azure-ml.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
BEFORE, AFTER, HOROVOD, SERVERS, KERAS, TRAINING = BLOCKS

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


def test_before_and_after_differ_in_their_import_lines_alone() -> None:
    def rest(code: str) -> list[str]:
        return [line for line in code.splitlines() if not line.startswith("from ")]

    assert rest(BEFORE) == rest(AFTER)
    imported = re.findall(r"^from (\S+) import (.*)$", BEFORE, re.MULTILINE)
    assert re.findall(r"^from (\S+) import (.*)$", AFTER, re.MULTILINE) == [
        ("hpctf.azureml", names) for _, names in imported
    ]
    assert all(module.startswith("azureml.") for module, _ in imported)


def test_one_process_trains_with_the_documents_own_script(
    execute: Callable[[str], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    project(Path("my-tf-proj"), text=TRAINING)
    run = execute(AFTER)["run"]
    assert run.get_metrics() == {"batch size": 50, "loss": [1, 1 / 2, 1 / 3]}
    assert {"outputs/model.txt", "weights/model.txt"} <= set(run.get_file_names())
    assert "'loss': [1.0, 0.5, " in capsys.readouterr().out


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
    execute: Callable[[str], dict[str, Any]], capsys: pytest.CaptureFixture[str]
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
    notes = capsys.readouterr().err
    assert [name for name in azureml.NOTED if f"note: {name} means" in notes] == [*azureml.NOTED]


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
    for refused in (
        lambda: azureml.AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6"),
        lambda: workspace.get_default_datastore(),
        lambda: azureml.Experiment(workspace, "e").start_logging(),
    ):
        with pytest.raises(UsageError):
            refused()
