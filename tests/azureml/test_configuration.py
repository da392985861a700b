"""What Azure ML's configurations, environments and data ask of hpctf; nothing is run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hpctf import UsageError, azureml
from hpctf.azureml import (
    CondaDependencies,
    DataReference,
    Dataset,
    Environment,
    MpiConfiguration,
    RunConfiguration,
    ScriptRunConfig,
    TensorflowConfiguration,
    Workspace,
)
from hpctf.common.processes import user_name
from hpctf.site.loading import load_site
from hpctf.site.model import Target
from tests.support.projects import planned, project, site_of


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    gpus = {**load_site("slurm").targets, "gpu-cluster": Target(partition="gpu", gpus=2, slots=4)}
    return Workspace(site=site_of("slurm", targets=gpus, runs_root=str(tmp_path / "runs")))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return project(tmp_path / "proj")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("a/1.gz", "a/2.gz", "b/3.txt"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(name)
    return tmp_path / "data"


def asked(config: ScriptRunConfig, tmp_path: Path) -> azureml.TensorFlow:
    return config.estimator(tmp_path)


# Data


@pytest.mark.parametrize(
    ("path", "place", "names"),
    [
        ("data", "data", ["/a/1.gz", "/a/2.gz", "/b/3.txt"]),
        ("data/a/1.gz", "data/a/1.gz", ["/1.gz"]),
        (["data/a/1.gz", "data/a/2.gz"], "data/a", ["/1.gz", "/2.gz"]),
        (["data/a/1.gz", "data/b"], "data", ["/a/1.gz", "/b/3.txt"]),
        ("data/**/*.gz", "data", ["/a/1.gz", "/a/2.gz"]),
    ],
)
def test_files_are_the_one_file_or_the_folder_of_all(
    path: Any, place: str, names: list[str], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files.parent)
    dataset = Dataset.File.from_files(path)
    assert str(dataset.as_mount()) == str(dataset.as_download()) == str(files.parent / place)
    assert dataset.to_path() == names
    copies = dataset.download(str(files.parent / "copies"))
    assert [os.path.relpath(one, files.parent / "copies") for one in copies] == [
        name[1:] for name in names
    ]
    with dataset.mount() as mounted:
        assert mounted.mount_point == str(dataset.as_mount())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("https://example.org/a.gz", r"(?s)is an address.*wget -P DIR https://example.org/a.gz"),
        (["wasbs://c@a.blob.core.windows.net/x"], "is an address"),
        ("nowhere", "does not exist"),
        ("nowhere/*.gz", "does not exist"),
        ([], "no path"),
        (3, "takes paths"),
    ],
)
def test_other_data_are_refused_with_what_to_do(path: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Dataset.File.from_files(path)


def test_a_datastore_is_a_folder_in_the_runs_root(ws: Workspace, files: Path) -> None:
    store = ws.get_default_datastore()
    reference = store.upload(src_dir=str(files), target_path="mnist", overwrite=True)
    top = Path(ws.site.runs_root) / f".azureml-{user_name()}"
    assert str(reference) == str(store.path("mnist").as_mount()) == str(top / "mnist")
    assert (top / "mnist/a/1.gz").read_text() == "a/1.gz"
    assert {path.stat().st_mode & 0o077 for path in (top, top / "mnist/a")} == {0}
    assert Dataset.File.from_files((store, "mnist/a")).to_path() == ["/1.gz", "/2.gz"]
    assert store.download(str(files.parent / "back"), prefix="mnist/a") == 2
    assert (files.parent / "back/mnist/a/2.gz").read_text() == "a/2.gz"
    assert str(DataReference(store, "x", "mnist").path("b")) == str(top / "mnist/b")
    with pytest.raises(UsageError, match="leads out of the datastore"):
        store.path("../x")
    with pytest.raises(UsageError, match="There is no datastore 'other'"):
        azureml.Datastore.get(ws, "other")


def test_named_data_are_inputs_too_wherever_they_are_given(source: Path, files: Path) -> None:
    named = Dataset.File.from_files(str(files)).as_named_input("mnist").as_mount()
    place = str(files)
    ways: list[dict[str, Any]] = [
        {"script_params": {"--data": named}},
        {"arguments": ["--data", named]},
        {"inputs": [named]},
        {"inputs": {"mnist": named}},
    ]
    for way in ways:
        estimator = azureml.TensorFlow(source, entry_script="train.py", **way)
        assert estimator.inputs == {"mnist": place}, way
        if "inputs" not in way:
            assert estimator.command_line() == ["--data", place]
    whole = azureml.TensorFlow(
        source, entry_script="train.py", inputs={"all": Dataset.File.from_files(place)}
    )
    assert whole.inputs == {"all": place}


def test_data_that_are_not_there_are_refused(ws: Workspace, source: Path) -> None:
    gone = ws.get_default_datastore().path("nothing").as_mount()
    with pytest.raises(UsageError, match=r"The data '.*/nothing' do not exist"):
        azureml.TensorFlow(source, entry_script="train.py", script_params={"--data": gone})


# ScriptRunConfig and RunConfiguration


def test_a_script_run_config_says_what_the_estimator_would(
    ws: Workspace, source: Path, files: Path, tmp_path: Path
) -> None:
    config = ScriptRunConfig(
        source_directory=str(source),
        script="train.py",
        arguments=["--data", Dataset.File.from_files(str(files)).as_mount(), "--steps", 5],
        compute_target=ws.compute_targets["gpu-cluster"],
        distributed_job_config=MpiConfiguration(process_count_per_node=2, node_count=3),
        max_run_duration_seconds=60,
        mem="4G",
    )
    estimator = asked(config, tmp_path)
    assert estimator.command_line() == ["--data", str(files), "--steps", "5"]
    assert (estimator.backend, estimator.node_count) == ("mpi", 3)
    assert (estimator.process_count_per_node, estimator.mem) == (2, "4G")
    assert (estimator.compute_target, estimator.use_gpu) == ("gpu-cluster", True)
    assert estimator.max_run_duration_seconds == 60


@pytest.mark.parametrize(
    ("distribution", "backend", "counts"),
    [
        (None, "single", (None, None)),
        (TensorflowConfiguration(2, 1), "ps", (2, 1)),
        (TensorflowConfiguration(3, parameter_server_count=0), "collective", (3, None)),
        (MpiConfiguration(), "mpi", (None, None)),
    ],
)  # fmt: skip
def test_distributions(
    distribution: Any, backend: str, counts: Any, source: Path, tmp_path: Path
) -> None:
    config = ScriptRunConfig(source, "train.py", distributed_job_config=distribution)
    estimator = asked(config, tmp_path)
    assert (estimator.backend, estimator.chief) == (backend, backend != "ps")
    assert (estimator.worker_count, estimator.parameter_server_count) == counts


def test_a_run_configuration_that_is_filled_later_counts(
    ws: Workspace, source: Path, tmp_path: Path
) -> None:
    config = RunConfiguration(communicator="Mpi", framework="TensorFlow")
    src = ScriptRunConfig(source, script="train.py", run_config=config)
    src.run_config.node_count = 2
    src.run_config.target = "gpu-cluster"
    src.run_config.environment_variables = {"A": "1"}
    src.run_config.mpi.process_count_per_node = 2
    src.run_config.max_run_duration_seconds = 90
    estimator = asked(src, tmp_path)
    assert (estimator.node_count, estimator.process_count_per_node) == (2, 2)
    assert (estimator.environment_variables, estimator.compute_target) == (
        {"A": "1"},
        "gpu-cluster",
    )
    assert estimator.max_run_duration_seconds == 90


@pytest.mark.parametrize("command", ["python train.py --x 1", ["python3", "train.py", "--x", 1]])
def test_a_command_names_the_script(command: Any, source: Path, tmp_path: Path) -> None:
    estimator = asked(ScriptRunConfig(source, command=command), tmp_path)
    assert (estimator.entry_script, estimator.command_line()) == ("train.py", ["--x", "1"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "either script or command"),
        ({"script": "train.py", "command": "python train.py"}, "either script or command"),
        ({"command": "python -m train"}, "names no script"),
        ({"script": "train.py", "distributed_job_config": object()}, "not TensorFlow's"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    given: dict[str, Any], said: str, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        asked(ScriptRunConfig(source, **given), tmp_path)


# Environments

CONDA = """
channels: [conda-forge]
dependencies:
  - python=3.11
  - pip=21.3.1
  - pip: [azureml-defaults, 'tensorflow-cpu==2.18.*', matplotlib]
"""


def of(environment: Environment, source: Path, tmp_path: Path) -> azureml.TensorFlow:
    return asked(ScriptRunConfig(source, "train.py", environment=environment), tmp_path)


def test_pip_packages_alone_need_no_conda_and_the_sdk_is_left_out(
    source: Path, tmp_path: Path
) -> None:
    (tmp_path / "env.yml").write_text(CONDA)
    environment = Environment.from_conda_specification("e", str(tmp_path / "env.yml"))
    environment.docker.enabled = True
    environment.docker.base_image = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"
    estimator = of(environment, source, tmp_path)
    assert estimator.container is None
    assert "Image mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04 is left out" in str(
        estimator.notes
    )
    assert estimator.pip_packages == ["tensorflow-cpu==2.18.*", "matplotlib"]
    assert (estimator.python_version, estimator.conda_dependencies_file) == ("3.11", None)
    assert "azureml-defaults is left out" in str(estimator.notes)
    old = azureml.TensorFlow(
        source, entry_script="train.py", pip_packages=["azureml-dataprep[pandas,fuse]", "keras"]
    )
    assert (old.pip_packages, len(old.notes)) == (["keras"], 1)


def test_conda_packages_are_a_file_with_their_channels(source: Path, tmp_path: Path) -> None:
    packages = CondaDependencies.create(
        conda_packages=["scipy"], pip_packages=["azureml-sdk", "keras"], python_version="3.11"
    )
    packages.add_channel("pytorch")
    environment = Environment("e")
    environment.python.conda_dependencies = packages
    estimator = of(environment, source, tmp_path)
    assert estimator.conda_dependencies_file is not None
    assert CondaDependencies(estimator.conda_dependencies_file).as_dict() == {
        "name": "project_environment",
        "channels": ["pytorch"],
        "dependencies": ["python=3.11", "scipy", "pip", {"pip": ["keras"]}],
    }


def test_other_environments_are_the_estimators_parameters(source: Path, tmp_path: Path) -> None:
    (tmp_path / "req.txt").write_text("numpy\n")
    pip = of(Environment.from_pip_requirements("e", str(tmp_path / "req.txt")), source, tmp_path)
    assert pip.pip_requirements_file == str(tmp_path / "req.txt")
    image = of(Environment.from_docker_image("e", "docker://x/y:1"), source, tmp_path)
    assert image.container == "docker://x/y:1"
    own = Environment("e")
    own.python.user_managed_dependencies = True
    own.environment_variables = {"A": "1"}
    assert of(own, source, tmp_path).user_managed
    assert of(own, source, tmp_path).environment_variables == {"A": "1"}
    own.python.interpreter_path = "/opt/python"
    assert of(own.clone("f"), source, tmp_path).python == "/opt/python"


def test_packages_are_added_to_an_environment_that_names_none(
    ws: Workspace, source: Path, tmp_path: Path
) -> None:
    own = Environment.get(ws, name="AzureML-TensorFlow-2.16-CPU").clone("mine")
    assert own.python.conda_dependencies is not None
    own.python.conda_dependencies.add_pip_package("azureml-mlflow")
    own.python.conda_dependencies.add_pip_package("numpy")
    estimator = of(own, source, tmp_path)
    assert (estimator.framework_version, estimator.pip_packages) == ("2.16", ["numpy"])


@pytest.mark.parametrize(("version", "kept"), [("1.13", None), ("2.0", None), ("2.18", "2.18")])
def test_a_tensorflow_that_can_no_longer_be_installed_is_left_out(
    version: str, kept: str | None, source: Path
) -> None:
    estimator = azureml.TensorFlow(source, entry_script="train.py", framework_version=version)
    assert estimator.framework_version == kept
    assert [f"TensorFlow {version} is older" in note for note in estimator.notes] == (
        [] if kept else [True]
    )


def test_azure_mls_own_environments_are_known_by_their_tensorflow(
    ws: Workspace, source: Path, tmp_path: Path
) -> None:
    new = of(Environment.get(ws, name="AzureML-tensorflow-2.16-cuda11"), source, tmp_path)
    assert (new.framework_version, new.notes) == ("2.16", [])
    old = of(Environment.get(ws, name="AzureML-TensorFlow-2.0-GPU"), source, tmp_path)
    assert old.framework_version is None
    assert "TensorFlow 2.0 of environment AzureML-TensorFlow-2.0-GPU is older" in old.notes[0]
    with pytest.raises(UsageError, match=r"no environment 'AzureML-PyTorch-1\.3-GPU'"):
        Environment.get(ws, name="AzureML-PyTorch-1.3-GPU")


def test_a_file_with_azure_mls_own_packages_is_noted_for_scripts_that_log_by_them(
    tmp_path: Path,
) -> None:
    text = "from azureml.core import Run\n"
    logs, other = project(tmp_path / "logs", text=text), project(tmp_path / "other")
    (tmp_path / "req.txt").write_text("azureml-defaults\nnumpy\n")
    asked = {"pip_requirements_file": str(tmp_path / "req.txt")}
    said = {
        (folder.name, off): "azureml-defaults may bring" in str(planned(folder, **more).notes)
        for folder in (logs, other)
        for off, more in ((False, asked), (True, {**asked, "azureml": False}))
    }
    assert [key for key, noted in said.items() if noted] == [("logs", False)]
