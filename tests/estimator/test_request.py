"""What an estimator asks for is plain data, which makes the same estimator again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpctf import Mpi, MultiWorker, ParameterServer, TensorFlow
from hpctf.errors import UsageError
from hpctf.estimator.request import changed, estimator_from, request_of
from tests.support.projects import project

ASKED: list[dict[str, Any]] = [
    {},
    {"arguments": ["--name", 'it\'s "q"', "a b", "$HOME", "", "é\n"]},
    {"script_params": {"--lr": 0.1, "--flag": ""}, "arguments": ["x"]},
    {"distributed_training": Mpi(2, pin_gpus=False), "node_count": 2, "timeline": True},
    {"distributed_backend": "mpi", "process_count_per_node": 2},
    {"distributed_training": ParameterServer(2, 1, coordinator=False, chief=False)},
    {"distributed_training": ParameterServer(2, 2, placement="shared", max_worker_restarts=3)},
    {"distributed_backend": "ps", "worker_count": 2, "parameter_server_count": 1},
    {"distributed_training": MultiWorker(3), "profile": (5, 9)},
    {"use_gpu": True, "gpus_per_node": 2, "cpus_per_task": 4, "mem": "16G"},
    {"environment_variables": {"A": "b c"}, "sbatch": {"reservation": "x", "exclusive": True}},
    {"max_run_duration_seconds": 60, "max_restarts": 2, "warning_signal": "SIGUSR1"},
    {"python": "python3", "modules": ["cuda/12.2"]},
    {"pip_packages": ["tiny"], "framework_version": "2.18"},
    {"container": "docker://tensorflow/tensorflow:2.15.0", "grace_seconds": 30},
]


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_a_request_makes_the_same_estimator_again(tmp_path: Path, asked: dict[str, Any]) -> None:
    source = project(tmp_path / "p")
    one = TensorFlow(source, entry_script="train.py", **asked)
    request = json.loads(json.dumps(request_of(one)))
    again = estimator_from(request, source)
    assert vars(again) == vars(one)
    assert request_of(again) == request_of(one)


def test_inputs_go_by_their_absolute_paths(tmp_path: Path) -> None:
    source = project(tmp_path / "p")
    one = TensorFlow(source, entry_script="train.py", inputs={"data": str(source)})
    assert request_of(one)["inputs"] == {"data": str(source)}


def test_a_function_is_on_record_by_name_and_text() -> None:
    found = request_of(TensorFlow(function=project))["function"]
    assert found["name"].endswith("support.projects.project")
    assert found["text"].startswith("def project(")


def test_changes_of_mappings_add_and_of_arguments_replace() -> None:
    old = {
        "script_params": {"--a": "1"},
        "arguments": ["x"],
        "environment_variables": {"A": "1", "B": "2"},
        "gpus_per_node": 2,
        "use_gpu": True,
    }
    new = changed(
        old, {"arguments": ["y"], "environment_variables": {"B": "3"}, "gpus_per_node": 0}
    )
    assert new["environment_variables"] == {"A": "1", "B": "3"}
    assert (new["script_params"], new["arguments"]) == ({}, ["y"])
    assert (new["use_gpu"], new["gpus_per_node"]) == (False, 0)
    assert old["arguments"] == ["x"]


def test_what_stays_and_what_nobody_knows_is_refused() -> None:
    with pytest.raises(UsageError, match=r"node_cout cannot be changed.* Did you mean"):
        changed({}, {"node_cout": 2})
    with pytest.raises(UsageError, match="pip_packages cannot be changed"):
        changed({}, {"pip_packages": ["x"]})
    with pytest.raises(UsageError, match="of a function, whose arguments"):
        changed({"function": {"name": "f"}}, {"arguments": ["x"]})
