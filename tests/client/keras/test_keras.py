"""Horovod under Keras 3 and tf-keras: ranks that train one model, or are told why not."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, TensorFlow
from hpctf.common.paths import CLIENT, STARTUP
from tests.conftest import skip_or_fail
from tests.support.built import OLDER_TENSORFLOW, build_environment
from tests.support.standins import WITHOUT_SCIKIT_LEARN
from tests.support.waiting import HANGS_S

pytestmark = pytest.mark.tensorflow

HERE = Path(__file__).resolve().parent

EXACT = 1e-5
"""How far weights may be from those of one process. A float32 has 24 significant bits, so that a
sum in another order is off by some 6e-8 of its largest part. Weights and gradients are of order 1
here: in 12 steps with momentum 0.9, where each step counts ten times, that is 7e-6."""

IN_HALF = {
    "compression_to_float16",
    "mixed_precision",
    "mixed_precision_wrapped_by_hand",
    "mixed_precision_accumulated",
    "an_overflow_on_one_rank_skips_the_step_on_all",
    "a_train_step_of_ones_own_in_bfloat16",
}
"""Cases in which float16 or bfloat16 comes in: each is measured against one process that does the
same arithmetic, and how far rounding takes that process on this very machine."""

ROUNDED = 4
"""How many times further than in three trials rounding may lead."""

TRAINED = (
    "sgd_with_momentum",
    "adam_with_clipnorm",
    "sgd_with_global_clipnorm",
    "sgd_with_clipvalue",
    "weight_decay_and_averaged_weights",
    "a_learning_rate_schedule",
    "accumulated_gradients",
    "backward_passes_as_horovod_calls_them",
    "a_sum_instead_of_an_average",
    "gradients_in_groups",
    "eager_steps",
    "several_steps_at_once",
    "embeddings_sparse_with_adam",
    "embeddings_sparse_with_sgd",
    "embeddings_sparse_accumulated",
    "embeddings_as_dense",
    "compression_to_float16",
    "mixed_precision",
    "mixed_precision_wrapped_by_hand",
    "mixed_precision_accumulated",
    "an_overflow_on_one_rank_skips_the_step_on_all",
    "a_loop_of_ones_own",
    "two_optimizers_in_one_step",
    "a_model_that_one_rank_alone_has_made_before",
    "a_model_that_fit_builds",
    "a_train_step_of_ones_own_in_bfloat16",
    "what_one_rank_restores_all_have",
    "saved_and_loaded",
    "the_callback_switches_xla_off",
)

OLDER = (
    "sgd_with_momentum",
    "adam_with_clipnorm",
    "accumulated_gradients",
    "embeddings_sparse_with_adam",
    "mixed_precision",
    "a_loop_of_ones_own",
    "a_model_that_fit_builds",
    "saved_and_loaded",
)
"""What is tried with an earlier TensorFlow, too: all that is Keras's own is the same there."""

Answers = list[dict[str, Any]]


def environ(**more: str) -> dict[str, str]:
    """Return the variables of a training, as a job of hpctf's sets them, without scikit-learn."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HPCTF_"))}
    return {
        **plain,
        "PYTHONPATH": f"{STARTUP}:{CLIENT}:{WITHOUT_SCIKIT_LEARN}",
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "",
        **more,
    }


def two_ranks(python: str, script: str, folder: Path, *cases: str, **more: str) -> Answers:
    """Run a script of this folder on two ranks and return what each has found."""
    words = ["mpirun", "-np", "2", "--oversubscribe", "--bind-to", "none", python]
    done = subprocess.run(
        [*words, str(HERE / script), str(folder), *cases],
        env=environ(**more),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=5 * HANGS_S,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


def both_ranks(python: str, folder: Path, *cases: str) -> Answers:
    """Run cases of Keras 3, or all: most of the time one rank waits for the other, which costs less
    if Horovod looks every 10 milliseconds instead of every one."""
    return two_ranks(python, "ranks.py", folder, *cases, HOROVOD_CYCLE_TIME="10")


def python_of(tensorflow: str) -> str:
    made = build_environment(tensorflow)
    if made.returncode:
        skip_or_fail(f"the environment cannot be built: {made.stderr[-2000:]}")
    return made.stdout.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def ranks(training_python: str, folder: Path) -> Answers:
    """What two ranks have found in all cases: started once."""
    return both_ranks(training_python, folder)


@pytest.mark.parametrize("case", TRAINED)
def test_ranks_hold_the_same_weights_and_those_of_one_process(case: str, ranks: Answers) -> None:
    check(case, ranks)


def test_an_earlier_tensorflow_trains_alike(tmp_path: Path) -> None:
    ranks = both_ranks(python_of(OLDER_TENSORFLOW), tmp_path, *OLDER)
    for case in OLDER:
        check(case, ranks)


def check(case: str, ranks: Answers) -> None:
    """Two ranks hold the same, to the bit, and what one process has, within the case's bound."""
    first, second = (rank[case] for rank in ranks)
    assert first["weights"] == second["weights"]
    assert first["optimizer"] == second["optimizer"]
    bound = EXACT
    if case in IN_HALF:
        bound += ROUNDED * first["rounding"]
        assert first["from_shares"] <= bound
        bound += first["shares_from_alone"]
    assert first["from_alone"] <= bound
    assert first["state_from_alone"] <= bound
    assert first["moved"] > 10 * bound, "a training that went wrong would not be seen"


def test_ranks_that_begin_apart_with_an_unbuilt_model_come_together(ranks: Answers) -> None:
    first, second = (rank["a_model_that_fit_builds"]["begun_apart"] for rank in ranks)
    assert first == second


def test_without_an_exchange_the_ranks_would_drift_apart(ranks: Answers) -> None:
    first, second = (rank["gradients_that_are_not_averaged_would_be_seen"] for rank in ranks)
    assert first["weights"] != second["weights"]
    assert first["from_alone"] > 1000 * EXACT


def test_the_gradients_of_an_embedding_travel_sparse(ranks: Answers) -> None:
    assert ranks[0]["embeddings_sparse_with_adam"]["kinds"][0] == "IndexedSlices"


def test_accumulated_gradients_are_exchanged_once(ranks: Answers) -> None:
    found = ranks[0]["exchanges_once_in_so_many_steps"]
    assert (found["steps"], found["exchanges"]) == (12, 3)


def test_a_skipped_step_halves_the_loss_scale_on_all_ranks(ranks: Answers) -> None:
    scales = [rank["an_overflow_on_one_rank_skips_the_step_on_all"]["scale"] for rank in ranks]
    assert scales == [2.0**14, 2.0**14]


def test_the_learning_rate_warms_up_and_metrics_are_averaged(ranks: Answers) -> None:
    first, second = (rank["warm_up_and_averaged_metrics"] for rank in ranks)
    assert first["weights"] == second["weights"]
    steps = 12
    warming = [0.4 * (1 + (step + 1) / steps / 2) / 2 for step in range(2 * steps)]
    later = [0.4] * 2 * steps + [0.4 * 0.5] * steps
    assert first["rates"] == pytest.approx(warming + later, abs=1e-6)
    assert first["lr"] == pytest.approx([0.3, 0.4, 0.4, 0.4, 0.2])
    own = first["losses_of_ranks"]
    assert (
        first["loss"]
        == second["loss"]
        == pytest.approx([sum(two) / 2 for two in zip(*own, strict=True)])
    )
    assert own[0] != own[1]


def test_the_momentum_is_corrected_as_by_horovod(ranks: Answers) -> None:
    assert ranks[0]["momentum_correction"]["difference"] < 1e-6


def test_a_model_is_saved_with_its_plain_optimizer(ranks: Answers) -> None:
    config = json.loads(ranks[0]["saved_and_loaded"]["optimizer_config"])
    assert (config["module"], config["class_name"]) == ("keras.optimizers", "Adam")
    assert config["registered_name"] is None


LOAD = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("horovod", "hpctf", "sklearn"):
            raise ImportError(name + " is not there")

sys.meta_path.insert(0, Blocked())
import keras, numpy as np
model = keras.models.load_model(sys.argv[1])
kept = np.load(sys.argv[2])
same = all((a == kept[n]).all() for a, n in zip(model.get_weights(), kept.files))
print(type(model.optimizer).__name__, int(model.optimizer.iterations), same)
"""


def test_a_saved_model_is_loaded_without_horovod_and_hpctf(
    ranks: Answers, training_python: str, folder: Path
) -> None:
    words = [training_python, "-I", "-c", LOAD, folder / "model-0.keras", folder / "model-0.npz"]
    done = subprocess.run(words, env=environ(), capture_output=True, text=True, cwd=folder)
    assert done.stdout == "Adam 12 True\n", done.stderr


def test_what_would_train_wrong_is_refused(ranks: Answers) -> None:
    said = ranks[0]["refusals"]
    assert "2 ranks would train 2 different models" in said["plain"]
    assert "jit_compile=False to model.compile" in said["compiled_by_xla"]
    assert "average_aggregated_gradients=True" in said["summed"]
    assert "were not averaged" in said["in_a_way_of_its_own"]
    assert "different numbers of variables [1, 2]" in said["different_variables"]


def test_the_callback_switches_xla_off(ranks: Answers) -> None:
    assert ranks[0]["the_callback_switches_xla_off"]["jit_compile"] is False


@pytest.fixture(scope="module")
def legacy_ranks(training_python: str, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What two ranks under tf-keras have found: started once."""
    folder = tmp_path_factory.mktemp("legacy")
    return two_ranks(training_python, "legacy.py", folder, "rates", TF_USE_LEGACY_KERAS="1")


def test_horovods_own_module_is_right_under_tf_keras(legacy_ranks: Answers) -> None:
    check_legacy(legacy_ranks)


def test_horovods_own_module_is_right_under_an_earlier_tf_keras(tmp_path: Path) -> None:
    python = python_of(OLDER_TENSORFLOW)
    check_legacy(two_ranks(python, "legacy.py", tmp_path, TF_USE_LEGACY_KERAS="1"))


def check_legacy(ranks: Answers) -> None:
    first, second = ranks
    assert first["keras"].startswith("2.")
    assert first["weights"] == second["weights"]
    assert first["from_alone"] <= EXACT
    assert first["loss"] == second["loss"]
    assert first["lr"] == pytest.approx([0.01, 0.01], rel=1e-3)
    assert first["same"], "hpctf.keras is Horovod's own module there"
    assert "import horovod.tensorflow.keras as hvd" in first["horovod.keras"]
    assert "Horovod would not average its gradients" in first["optimizer of Keras 3"]


def test_horovods_callbacks_work_with_every_optimizer_of_tf_keras(legacy_ranks: Answers) -> None:
    first, second = (dict(rank["rates"]) for rank in legacy_ranks)
    assert first == second
    corrected = [first.pop("by hand, SGD"), first.pop("by hand, legacy.SGD")]
    assert max(corrected) <= EXACT
    assert {"SGD", "RMSprop with momentum", "Adam", "legacy.RMSprop", "Lion"} <= set(first)
    for name, rates in first.items():
        assert rates == pytest.approx([0.01, 0.005, 0.01 * 0.5**0.75]), f"{name}: {rates}"


def test_horovods_keras_modules_are_refused_under_keras_3(ranks: Answers) -> None:
    for name, message in ranks[0]["horovods_own_modules"]["refused"].items():
        refusal = f"ImportError: {name} does not average gradients under Keras 3 (here 3."
        assert message.startswith(refusal), message
        assert "change the import to: import hpctf.keras as hvd" in message
        assert "HPCTF_ALLOW_HOROVOD_KERAS=1" in message


def test_who_insists_imports_it_all_the_same(ranks: Answers) -> None:
    assert ranks[0]["horovods_own_modules"]["insisted"] == "SourceFileLoader"


def test_a_run_stops_at_horovods_keras_module_and_says_what_to_write(
    experiment: Experiment, training_python: str, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text("import horovod.tensorflow.keras as hvd\n")
    estimator = TensorFlow(project, entry_script="train.py", python=training_python)
    run = experiment.submit(estimator)
    run.wait_for_completion(raise_on_error=False)
    log = (run.folder.path / "logs/worker-0.log").read_text()
    assert "ImportError: horovod.tensorflow.keras does not average gradients" in log
    assert "change the import to: import hpctf.keras as hvd" in log
    assert run.status == "Failed"
