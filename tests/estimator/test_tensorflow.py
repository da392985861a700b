"""What a person may ask for: Azure ML's own examples pass, and what cannot be is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hpctf import Mpi, MultiWorker, ParameterServer, TensorFlow, UsageError
from hpctf.common.command_line import LONGEST_WORD
from hpctf.plan import Plan
from tests.support.projects import planned, project


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The seed's projects, seen from the folder that holds them."""
    monkeypatch.chdir(tmp_path)
    project(tmp_path / "my-keras-proj", "keras_train.py")
    return project(tmp_path / "my-tf-proj")


def refused(**asked: Any) -> str:
    with pytest.raises(UsageError) as caught:
        TensorFlow(**{"source_directory": "my-tf-proj", "entry_script": "train.py", **asked})
    return str(caught.value)


SCRIPT_PARAMS = {"--batch-size": 50, "--learning-rate": 0.01}


def test_the_seeds_single_node_example(source: Path) -> None:
    estimator = TensorFlow(
        source_directory="./my-tf-proj",
        script_params=SCRIPT_PARAMS,
        compute_target="gpu",
        entry_script="train.py",
        conda_packages=["scikit-learn"],
        use_gpu=True,
    )
    assert estimator.backend == "single"
    assert estimator.command_line() == ["--batch-size", "50", "--learning-rate", "0.01"]
    assert estimator.conda_packages == ["scikit-learn"]


def test_the_seeds_horovod_example(source: Path) -> None:
    estimator = TensorFlow(
        source_directory="./my-tf-proj",
        script_params={},
        compute_target="gpu",
        entry_script="train.py",
        node_count=2,
        process_count_per_node=1,
        distributed_backend="mpi",
        use_gpu=True,
    )
    assert (estimator.backend, estimator.node_count) == ("mpi", 2)


def test_the_seeds_parameter_server_example(source: Path) -> None:
    estimator = TensorFlow(
        source_directory="./my-tf-proj",
        script_params={},
        compute_target="gpu",
        entry_script="train.py",
        node_count=2,
        worker_count=2,
        parameter_server_count=1,
        distributed_backend="ps",
        use_gpu=True,
    )
    assert estimator.backend == "ps"
    assert (estimator.worker_count, estimator.parameter_server_count) == (2, 1)


def test_the_seeds_keras_example(source: Path) -> None:
    estimator = TensorFlow(
        source_directory="./my-keras-proj",
        script_params=SCRIPT_PARAMS,
        compute_target="gpu",
        entry_script="keras_train.py",
        pip_packages=["keras"],
        use_gpu=True,
    )
    assert estimator.pip_packages == ["keras"]


@pytest.mark.parametrize(
    ("training", "backend"),
    [(Mpi(2), "mpi"), (ParameterServer(3, 2), "ps"), (MultiWorker(4), "collective")],
)
def test_distributed_training_names_backend_and_counts(
    source: Path, training: Any, backend: str
) -> None:
    estimator = TensorFlow("my-tf-proj", entry_script="train.py", distributed_training=training)
    assert estimator.backend == backend
    counts = (estimator.process_count_per_node, estimator.worker_count)
    assert counts == {"mpi": (2, None), "ps": (None, 3), "collective": (None, 4)}[backend]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"source_directory": "my-tf"}, ["source_directory", "my-tf'", "does not exist"]),
        ({"source_directory": "my-tf-proj/train.py"}, ["is not a folder"]),
        ({"entry_script": None}, ["Neither entry_script nor function", "name what is to run"]),
        ({"entry_script": ""}, ["Neither entry_script nor function"]),
        ({"entry_script": "trian.py"}, ["'trian.py' does not exist", "Did you mean 'train.py'?"]),
        ({"entry_script": "../other.py"}, ["'../other.py' lies outside source_directory"]),
        ({"entry_script": "/etc/passwd"}, ["lies outside"]),
        ({"entry_script": "."}, ["'.' is a folder in", "Name a script in it: train.py"]),
        ({"entry_script": "a\0.py"}, ["does not exist"]),
        ({"entry_script": 7}, ["entry_script", "not 7"]),
        ({"node_conut": 2}, ["no parameter 'node_conut'", "Did you mean 'node_count'?"]),
        ({"distributed_backend": "mip"}, ["is 'mip'", "mpi, ps, collective", "mean 'mpi'?"]),
        ({"distributed_backend": 3}, ["distributed_backend is 3"]),
        ({"distributed_training": Mpi}, ["must be Mpi(...)"]),
        ({"distributed_training": "mpi"}, ["must be Mpi(...)", "not 'mpi'"]),
        ({"use_gpu": "no"}, ["use_gpu is 'no', but must be True or False"]),
        ({"python": 3.11}, ["python must be a name, not 3.11"]),
        ({"compute_target": object()}, ["compute_target must be a name"]),
        ({"use_gpu": True, "gpus_per_node": 0}, ["use_gpu is set, but gpus_per_node is 0"]),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(
    source: Path, asked: dict[str, Any], words: list[str]
) -> None:
    message = refused(**asked)
    assert all(word in message for word in words), message


@pytest.mark.parametrize("value", [0, -1, True, False, 1.0, "2", float("nan")])
@pytest.mark.parametrize(
    "name",
    [
        "node_count",
        "process_count_per_node",
        "worker_count",
        "parameter_server_count",
        "cpus_per_task",
        "max_run_duration_seconds",
    ],
)
def test_a_count_is_a_whole_number_of_one_or_more(source: Path, name: str, value: Any) -> None:
    message = refused(**{name: value, "distributed_backend": "ps"})
    assert message == f"{name} is {value!r}, but must be a whole number of 1 or more."


@pytest.mark.parametrize(
    "asked",
    [
        {"node_count": 2},
        {"process_count_per_node": 2},
        {"worker_count": 2},
        {"parameter_server_count": 1},
    ],
)
def test_several_tasks_need_a_backend(source: Path, asked: dict[str, int]) -> None:
    (name, value), *_ = asked.items()
    message = refused(**asked)
    assert message.startswith(f"{name} is {value}, but no distributed_backend is named.")
    assert "'mpi' (Horovod)" in message


def test_counts_of_one_need_no_backend(source: Path) -> None:
    estimator = TensorFlow(
        "my-tf-proj", entry_script="train.py", node_count=1, process_count_per_node=1
    )
    assert estimator.backend == "single"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"distributed_backend": "ps", "distributed_training": Mpi()}, "Give one of the two"),
        ({"process_count_per_node": 2, "distributed_training": Mpi(3)}, "is 2, but 3 in"),
        ({"worker_count": 5, "distributed_training": ParameterServer(4)}, "is 5, but 4 in"),
        ({"distributed_training": Mpi(0)}, "process_count_per_node is 0"),
        ({"distributed_training": ParameterServer(1, True)}, "is True"),
        ({"distributed_training": ParameterServer(chief=False)}, "the coordinator is the chief"),
        ({"distributed_training": ParameterServer(placement="beside")}, "'hetjob' or 'shared'"),
    ],
)
def test_two_answers_to_one_question_are_refused(
    source: Path, asked: dict[str, Any], words: str
) -> None:
    assert words in refused(**asked)


def test_the_same_answer_twice_is_fine(source: Path) -> None:
    estimator = TensorFlow(
        "my-tf-proj",
        entry_script="train.py",
        distributed_backend="mpi",
        distributed_training=Mpi(2),
        process_count_per_node=2,
    )
    assert estimator.process_count_per_node == 2


def test_an_empty_script_param_is_a_bare_flag_and_arguments_follow(source: Path) -> None:
    estimator = TensorFlow(
        "my-tf-proj",
        entry_script="train.py",
        script_params={"--augment": "", "--lr": 1e-3, "--name": " "},
        arguments=["data", "", 7],
    )
    words = ["--augment", "--lr", "0.001", "--name", " ", "data", "", "7"]
    assert estimator.command_line() == words


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"script_params": ["--a"]}, "script_params must be a mapping"),
        ({"script_params": {"--a": "x\0"}}, "script_params['--a'] holds a NUL"),
        ({"script_params": {"--\ud800": 1}}, "is not a character"),
        ({"script_params": {"--a": "x" * (LONGEST_WORD + 1)}}, "131072 bytes"),
        ({"arguments": "--a"}, "must be a list of words"),
        ({"arguments": {"a": 1}}, "must be a list of words"),
        ({"arguments": ["a", "\0"]}, "arguments[1] holds a NUL"),
        ({"environment_variables": {"": "x"}}, "'' cannot be a variable's name"),
        ({"environment_variables": {"A=B": "x"}}, "'A=B' cannot be a variable's name"),
        ({"environment_variables": {"TF_CONFIG": "{}"}}, "TF_CONFIG is set by hpctf"),
        ({"environment_variables": {"HPCTF_RANK": 1}}, "HPCTF_RANK is set by hpctf"),
        ({"environment_variables": {"A": "\0"}}, "['A'] holds a NUL"),
        ({"environment_variables": {"A": "x" * LONGEST_WORD}}, "bytes, but Linux"),
        ({"environment_variables": ["A=1"]}, "must be a mapping"),
        ({"inputs": "data"}, "must be a mapping of names to paths"),
        ({"inputs": {"a b": "."}}, "'a b' cannot be a name"),
        ({"inputs": {"data": "nowhere"}}, "nowhere' does not exist"),
        ({"inputs": ["my-tf-proj/train.py", "./my-tf-proj/train.py"]}, "'train' is there twice"),
        ({"inputs": {"data": ".", "DATA": "."}}, "'DATA' is there twice"),
        ({"sbatch": ["exclusive"]}, "sbatch must be a mapping"),
        ({"pip_packages": "keras"}, "pip_packages must be a list"),
    ],
)
def test_what_no_process_could_get_is_refused(
    source: Path, asked: dict[str, Any], words: str
) -> None:
    assert words in refused(**asked)


def test_inputs_tell_the_script_where_they_lie(source: Path) -> None:
    entry = planned(source, inputs={"digits": source / "train.py"}).plan.entry
    path = str(source / "train.py")
    assert entry.environment["HPCTF_INPUT_DIGITS"] == path
    assert entry.environment["AZUREML_DATAREFERENCE_digits"] == path
    assert planned(source, inputs=[str(source / "train.py")]).plan.entry.environment == {
        "HPCTF_INPUT_TRAIN": path,
        "AZUREML_DATAREFERENCE_train": path,
    }


def test_a_function_stands_in_for_the_script() -> None:
    estimator = TensorFlow(function=print, arguments={"sep": "\n"})
    assert estimator.source_directory is None
    assert estimator.arguments == {"sep": "\n"}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"function": print, "entry_script": "train.py"}, "give one of the two"),
        ({"function": 7}, "cannot be called"),
        ({"function": print, "arguments": ["a"]}, "must be a mapping"),
        ({"function": print, "script_params": {"--a": 1}}, "belongs to a script"),
    ],
)
def test_a_function_is_not_a_script(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TensorFlow(**asked)


ANY = st.text(st.characters(), max_size=30)


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200
)
@given(params=st.dictionaries(ANY, ANY, max_size=3), arguments=st.lists(ANY, max_size=3))
@example(params={"--a": "$(id)"}, arguments=["a'b\"c\n", "\udce9", "%j", "#SBATCH"])
@example(params={}, arguments=["\ud800"])
def test_any_text_arrives_unchanged_or_is_refused(
    source: Path, params: dict[str, str], arguments: list[str]
) -> None:
    wanted = [word for pair in params.items() for word in pair[: 1 if pair[1] == "" else 2]]
    try:
        plan = planned(source, script_params=params, arguments=arguments).plan
    except UsageError:
        assert not sendable([*params, *params.values(), *arguments])
        return
    assert Plan.from_json(plan.to_json()).entry.command[2:] == (*wanted, *arguments)
    assert sendable(wanted + arguments)


def sendable(words: list[str]) -> bool:
    """Whether execve(2) can pass the words on."""
    try:
        return not any(b"\0" in word.encode("utf-8", "surrogateescape") for word in words)
    except UnicodeEncodeError:
        return False


def test_of_hpctfs_variables_people_set_one_alone(source: Path) -> None:
    own = {"HPCTF_ALLOW_HOROVOD_KERAS": "1"}
    made = TensorFlow(source, entry_script="train.py", environment_variables=own)
    assert made.environment_variables == own
    for name in ("HPCTF_RANK", "HPCTF_ALLOW_HOROVOD_KERAS_2", "TF_CONFIG"):
        with pytest.raises(UsageError, match=f"{name} is set by hpctf itself"):
            TensorFlow(source, entry_script="train.py", environment_variables={name: "1"})


def test_a_profile_names_its_first_and_last_step(source: Path) -> None:
    assert TensorFlow(source, entry_script="train.py").profile is None
    assert TensorFlow(source, entry_script="train.py", profile=True).profile == (10, 20)
    assert TensorFlow(source, entry_script="train.py", profile=[5, 5]).profile == (5, 5)


@pytest.mark.parametrize("profile", [(20, 10), (0, 5), (5,), "10-20", 3, (1.5, 2), (True, 2)])
def test_a_profile_of_no_such_steps_is_refused(source: Path, profile: Any) -> None:
    with pytest.raises(UsageError, match="profile is"):
        TensorFlow(source, entry_script="train.py", profile=profile)


def test_a_timeline_is_horovods(source: Path) -> None:
    with pytest.raises(UsageError, match="timeline is Horovod's, but the backend is 'ps'"):
        TensorFlow(source, entry_script="train.py", distributed_backend="ps", timeline=True)
