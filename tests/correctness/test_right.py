"""Each combination that hpctf starts trains as one process does, on 2 and on 4 ranks."""

from __future__ import annotations

from itertools import product

import pytest

from tests.correctness.cells import (
    ALONE,
    ALONE_LEGACY,
    BACKENDS,
    EXACT,
    LIBRARIES,
    MPI,
    NOT_TRAINED,
    RANKS,
    SERVED,
    SYNCHRONOUS,
    Cell,
)
from tests.correctness.conftest import Trainings, apart, between
from tests.support.measured import note

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]


def each(cells: list[Cell]) -> list[object]:
    return [
        pytest.param(cell, ranks, id=f"{cell.backend}-{cell.library}-{cell.name}-{ranks}")
        for cell in cells
        for ranks in cell.jobs
    ]


@pytest.mark.parametrize(("cell", "ranks"), each(SYNCHRONOUS))
def test_all_ranks_hold_the_weights_of_one_process(
    cell: Cell, ranks: int, trainings: Trainings, request: pytest.FixtureRequest
) -> None:
    found = trainings.of(cell.jobs[ranks]).weights(cell.name)
    [right] = trainings.of(cell.alone).weights(cell.alone_name)
    assert len(found) == ranks
    bits = {rank.tobytes() for rank in found}
    distance = max(apart(rank, right) for rank in found)
    assert len(bits) == 1, f"the ranks are {between(found)} apart"
    assert distance <= EXACT
    row = (cell.backend, cell.library, cell.how, cell.jobs[ranks].script)
    note(request.node, *row, ranks, between(found) if ranks > 1 else None, distance)


@pytest.mark.parametrize(("cell", "ranks"), each(SERVED))
def test_parameter_servers_lead_to_the_loss_of_one_process(
    cell: Cell, ranks: int, trainings: Trainings, request: pytest.FixtureRequest
) -> None:
    [found] = trainings.of(cell.jobs[ranks]).said("loss")
    [right] = trainings.of(cell.alone).said("loss")
    distance = abs(found[cell.name] - right[cell.alone_name])
    assert distance <= trainings.loss_bound
    assert found["counted"] == found["steps"]
    row = (cell.backend, cell.library, cell.how, cell.jobs[ranks].script)
    note(request.node, *row, ranks, None, distance)


def test_the_bounds_would_show_a_training_that_is_wrong(trainings: Trainings) -> None:
    [start] = trainings.of(ALONE).weights("start")
    [trained] = trainings.of(ALONE).weights("tape")
    assert apart(start, trained) > 1000 * EXACT, "nothing was trained"
    [loss] = trainings.of(ALONE_LEGACY).said("loss")
    assert loss["start"] - loss["tape"] > 10 * trainings.loss_bound > 0


@pytest.mark.parametrize("ranks", RANKS)
def test_without_an_exchange_the_ranks_drift_apart(ranks: int, trainings: Trainings) -> None:
    found = trainings.of(MPI[ranks]).weights("no-exchange")
    [right] = trainings.of(ALONE).weights("tape")
    assert between(found) > 1000 * EXACT
    assert apart(found[0], right) > 1000 * EXACT


def test_every_combination_is_tested() -> None:
    right = {(cell.backend, cell.library) for cell in [*SYNCHRONOUS, *SERVED]}
    assert not right & NOT_TRAINED
    assert right | NOT_TRAINED == set(product(BACKENDS, LIBRARIES))


def test_the_versions_are_on_record(trainings: Trainings, request: pytest.FixtureRequest) -> None:
    versions = trainings.of(MPI[2]).versions
    named = {"TensorFlow", "Keras", "tf-keras", "Horovod", "MPI", "Python"}
    assert versions.keys() == named
    request.node.user_properties.append(("versions", versions))
