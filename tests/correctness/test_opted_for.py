"""What hpctf refuses, and what a person gets who opts for it all the same."""

from __future__ import annotations

import pytest

from tests.correctness.cells import (
    ALONE,
    ALONE_LEGACY,
    EXACT,
    KERAS_3,
    MPI,
    MPI_LEGACY,
    RANKS,
    Job,
    nodes,
    servers,
)
from tests.correctness.conftest import Trainings, apart, between
from tests.support.measured import note

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]

WRONG = 1000 * EXACT

COLLECTIVE = Job("on_collective_keras3.py", nodes("collective", 2, *KERAS_3))
PS = Job("on_ps_keras3.py", servers(2, *KERAS_3))


@pytest.mark.parametrize("ranks", RANKS)
def test_horovods_own_module_averages_nothing_under_keras_3(
    ranks: int, trainings: Trainings, request: pytest.FixtureRequest
) -> None:
    found = trainings.of(MPI[ranks]).weights("horovods-optimizer")
    [right] = trainings.of(ALONE).weights("fit")
    assert between(found) > WRONG, "Horovod averages now: is it still to be refused?"
    how = "mpi, Keras 3, Horovod's own module with `HPCTF_ALLOW_HOROVOD_KERAS=1`"
    note(request.node, how, "silently wrong", ranks, between(found), apart(found[0], right))


def test_keras_3_in_a_collective_loop_is_right_but_for_clipping(
    trainings: Trainings, request: pytest.FixtureRequest
) -> None:
    run = trainings.of(COLLECTIVE)
    for name, alone, clips in (("loop", "fit", False), ("loop-clipped", "fit-clipped", True)):
        found = run.weights(name)
        [right] = trainings.of(ALONE).weights(alone)
        distance = apart(found[0], right)
        assert between(found) == 0
        assert distance > WRONG if clips else distance <= EXACT
        how = "collective, Keras 3, a loop" + (" that clips gradients" if clips else "")
        does = "silently wrong: it clips before the exchange" if clips else "right"
        opted = f"{how}, with `TF_USE_LEGACY_KERAS=0`"
        note(request.node, opted, does, 2, between(found), distance)


def test_keras_3_in_a_coordinators_loop_miscounts_its_steps(
    trainings: Trainings, request: pytest.FixtureRequest
) -> None:
    """Keras 3 counts steps by reading a number and writing another one: workers overtake it."""
    [found] = trainings.of(PS).said("loss")
    [right] = trainings.of(ALONE_LEGACY).said("loss")
    distance = abs(found["loop"] - right["loop"])
    assert distance <= trainings.loss_bound
    how = "ps, Keras 3, a loop, with `TF_USE_LEGACY_KERAS=0`"
    counts = f"its optimizer silently counts {found['counted']} of {found['steps']} steps"
    note(request.node, how, counts, 2, None, distance)


@pytest.mark.parametrize(("backend", "job"), [("collective", COLLECTIVE), ("ps", PS)])
def test_fit_of_keras_3_fails_aloud(
    backend: str, job: Job, trainings: Trainings, request: pytest.FixtureRequest
) -> None:
    [error] = {answer["fit"].partition(":")[0] for answer in trainings.of(job).said("refused")}
    assert error == "ValueError"
    how = f"{backend}, Keras 3, `fit`, with `TF_USE_LEGACY_KERAS=0`"
    note(request.node, how, f"fails: {error}", 2, None, None)


@pytest.mark.parametrize("ranks", RANKS)
def test_horovods_broadcast_comes_after_the_first_step(
    ranks: int, trainings: Trainings, request: pytest.FixtureRequest
) -> None:
    found = trainings.of(MPI_LEGACY[ranks]).weights("begun-apart")
    [right] = trainings.of(ALONE_LEGACY).weights("fit")
    assert between(found) == 0
    assert apart(found[0], right) > WRONG, "Horovod broadcasts before it now: say so in the docs"
    how = "mpi, tf-keras, ranks that begin apart, with Horovod's callback alone"
    does = "one model, whose first step was averaged over different ones"
    note(request.node, how, does, ranks, between(found), apart(found[0], right))
