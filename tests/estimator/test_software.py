"""What a training runs in: Azure ML's parameters, what contradicts what, and images' names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpctf import TensorFlow, UsageError
from hpctf.estimator.software import NOT_HERE
from tests.support.projects import project


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = project(tmp_path / "proj")
    (folder / "requirements.txt").write_text("keras\n")
    (folder / "conda.yml").write_text("dependencies: [numpy]\n")
    (tmp_path / "here.txt").write_text("keras\n")
    return folder


def estimator(source: Path, **asked: Any) -> TensorFlow:
    return TensorFlow(source, entry_script="train.py", **asked)


def test_files_are_found_in_the_source_folder_first_then_here(source: Path, tmp_path: Path) -> None:
    one = estimator(
        source, pip_requirements_file="requirements.txt", conda_dependencies_file="conda.yml"
    )
    assert one.pip_requirements_file == str(source / "requirements.txt")
    assert one.conda_dependencies_file == str(source / "conda.yml")
    assert estimator(source, pip_requirements_file="here.txt").pip_requirements_file == str(
        tmp_path / "here.txt"
    )


def test_azures_older_names_mean_the_same(source: Path) -> None:
    one = estimator(
        source,
        pip_requirements_file_path="requirements.txt",
        conda_dependencies_file_path="conda.yml",
    )
    assert one.pip_requirements_file == str(source / "requirements.txt")
    assert one.conda_dependencies_file == str(source / "conda.yml")
    two = estimator(source, custom_docker_base_image="tf:1", use_docker=True, user_managed=True)
    assert two.container == "docker://tf:1"


@pytest.mark.parametrize(
    ("asked", "container"),
    [
        ({"custom_docker_image": "tensorflow/tensorflow:2.15"}, "docker://{0}"),
        ({"container": "tensorflow/tensorflow:2.15"}, "docker://{0}"),
        ({"container": "nvcr.io/nvidia/tensorflow:24.01-tf2-py3"}, "docker://{0}"),
        ({"container": "docker://tf:1"}, "{0}"),
        ({"container": "oras://ghcr.io/a/b:1"}, "{0}"),
        ({"container": "x.sif"}, "HERE/{0}"),
        ({"container": Path("x.sif")}, "HERE/{0}"),
        ({"container": "sandbox"}, "HERE/{0}"),
    ],
)
def test_an_image_is_a_file_or_a_name(
    source: Path, tmp_path: Path, asked: dict[str, Any], container: str
) -> None:
    (tmp_path / "x.sif").touch()
    (tmp_path / "sandbox").mkdir()
    expected = container.format(*asked.values()).replace("HERE", str(tmp_path))
    assert estimator(source, **asked).container == expected


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"pip_packages": ["keras"], "python": "python3"}, "pip_packages is ['keras'], but python"),
        ({"python_version": "3.11", "python": "python3"}, "python_version is '3.11', but python"),
        ({"conda_packages": ["keras"], "user_managed": True}, "but user_managed is set"),
        ({"framework_version": "2.15", "container": "tf:1"}, "nothing is installed into it"),
        ({"pip_requirements_file": "requirements.txt", "container": "tf:1"}, "is complete"),
        ({"container": "a:1", "custom_docker_image": "b:1"}, "Give one of the two"),
        ({"custom_docker_image": "a:1", "custom_docker_base_image": "b:1"}, "Give one of them"),
        ({"container": "a:1", "use_docker": False}, "use_docker is False"),
        ({"use_docker": True}, "no image is named"),
        ({"container": "missing.sif"}, "there is no such image file"),
        ({"container": "/nowhere/image"}, "there is no such image file"),
        ({"container": "two words"}, "must be an image file"),
        ({"container": "--privileged"}, "must be an image file"),
        ({"container": ""}, "must be an image's name"),
        ({"pip_requirements_file": "nowhere.txt"}, "there is no such file in"),
        ({"conda_dependencies_file": 7}, "must be a file's path"),
        ({"pip_packages": ["--index-url=http://evil"]}, "is an option, not a package"),
        ({"conda_packages": [" "]}, "is no package"),
        ({"framework_version": 2.15}, "must be a version as text"),
        ({"framework_version": "latest"}, "must be a version as text"),
        ({"python_version": "python3"}, "such as '3.11'"),
        ({"modules": "cuda"}, "modules must be a list"),
        ({"modules": ["cuda; rm -rf /"]}, "is not an environment module's name"),
        ({"user_managed": "yes"}, "must be True or False"),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(
    source: Path, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        estimator(source, **asked)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", sorted(NOT_HERE))
def test_azures_parameters_that_mean_nothing_here_say_what_does(source: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        estimator(source, **{name: "x"})
    assert caught.value.message == f"{name} means nothing on a cluster."
    assert caught.value.hint
