"""Workers see disjoint data: `hpctf.shard`; `hpctf.strategy` in real runs is test_training.py's."""

from __future__ import annotations

import json
import subprocess
from itertools import chain
from typing import Any

import pytest

from tests.client.keras.test_keras import HERE, environ
from tests.support.waiting import HANGS_S

pytestmark = pytest.mark.tensorflow

ALL = list(range(11))
SHARES = [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
"""Of 11 examples and 3 ranks: equally many each, 9 and 10 nobody's."""


@pytest.fixture(scope="module")
def found(training_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What shares.py has found: TensorFlow is started once for all."""
    done = subprocess.run(
        [training_python, str(HERE / "shares.py")],
        env=environ(),
        cwd=tmp_path_factory.mktemp("shares"),
        capture_output=True,
        text=True,
        timeout=HANGS_S,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("backend", ["mpi", "collective", "ps"])
def test_shares_are_disjoint_and_equally_long(found: dict[str, Any], backend: str) -> None:
    assert found["known"][backend] == SHARES


@pytest.mark.parametrize("backend", ["mpi", "collective"])
def test_shares_are_equally_long_where_nobody_knows_how_many_there_are(
    found: dict[str, Any], backend: str
) -> None:
    assert found["unknown"][backend] == SHARES


def test_shares_are_complete_where_the_ranks_divide_the_examples(found: dict[str, Any]) -> None:
    assert sorted(chain(*found["even"])) == list(range(12))


def test_data_without_end_are_shared_without_end(found: dict[str, Any]) -> None:
    without_end = [number % 7 for number in range(21)]
    assert found["endless"] == [without_end[rank::3] for rank in range(3)]


def test_one_process_has_all(found: dict[str, Any]) -> None:
    assert found["known"]["single"] == found["unknown"]["single"] == [ALL] * 3
    assert found["arrays"]["single"][0]["alone"] == ALL


def test_examples_keep_their_structure(found: dict[str, Any]) -> None:
    for rank, share in enumerate(found["structures"]):
        mine = [rank, rank + 3]
        assert share["tuple"] == [[n, list(range(n))] for n in mine]
        assert share["one"] == [[n] for n in mine]
        assert share["dict"] == [{"a": n, "b": [n, n]} for n in mine]


@pytest.mark.parametrize("backend", ["mpi", "ps"])
def test_arrays_are_shared_alike(found: dict[str, Any], backend: str) -> None:
    for mine, share in zip(SHARES, found["arrays"][backend], strict=True):
        assert share["labels"] == share["alone"] == mine
        assert share["pixels"] == [2 * n for n in mine]
        assert share["list"] == [mine, mine]


def test_tensorflow_does_not_shard_once_more(found: dict[str, Any]) -> None:
    assert found["policy"]["collective"] == "OFF"
    assert found["policy"]["mpi"] == found["policy"]["single"] != "OFF"


def test_each_pass_over_a_share_has_another_order_and_the_same_examples(
    found: dict[str, Any],
) -> None:
    for rank, batches in enumerate(found["orders"]):
        first, second = list(chain(*batches[:4])), list(chain(*batches[4:]))
        assert sorted(first) == sorted(second) == list(range(rank, 24, 3))
        assert first != second
    places = {tuple(n // 3 for n in chain(*batches[:4])) for batches in found["orders"]}
    assert len(places) == 3, "each rank has an order of its own"


def test_replicas_of_one_process_have_a_batch_each(found: dict[str, Any]) -> None:
    assert found["replicas"] == {"batch": 6, "steps": 3, "size": 2}


def test_what_would_overlap_or_cannot_be_shared_is_refused(found: dict[str, Any]) -> None:
    said = found["refusals"]
    assert said["unseeded"].startswith("ValueError: hpctf.shard: the dataset is shuffled without")
    assert "Shard first, then shuffle." in said["unseeded"]
    assert said["seeded"] == "nothing"
    assert "2 examples for 3 ranks" in said["few"]
    assert "data['x'] has 4, data['y'] has 5" in said["lengths"]
    assert said["kind"].startswith("TypeError: hpctf.shard: data['x'] is a str")


def test_the_coordinator_is_told_where_to_shard(found: dict[str, Any]) -> None:
    dataset, arrays = found["coordinator"]
    assert "where a worker's dataset is made" in dataset
    assert "from_tensor_slices(arrays)" in arrays


def test_a_strategy_that_cannot_be_says_what_to_do(found: dict[str, Any]) -> None:
    said = found["unable"]
    assert "TF_CONFIG names no chief" in said["no chief"]
    assert "--no-chief" in said["no chief"]
    assert "leave out --python" in said["no Horovod"]
    assert said["Keras 3"].startswith("TypeError: strategy.optimizer: this SGD is of Keras 3")
    assert "20 examples are less than a batch of 32" in said["no step"]


def test_a_strategy_that_comes_too_late_is_told_so(found: dict[str, Any]) -> None:
    assert found["too_late"].startswith("hpctf.strategy() came too late")
    assert "right after the imports" in found["too_late"]
