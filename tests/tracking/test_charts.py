"""Train and validation of one metric, and Keras's twins of it, are one chart."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hpctf.client.hpctf.series import Series
from hpctf.tracking.charts import charts_of, parts_of, primary_of


def series(**values: Sequence[float]) -> dict[str, Series]:
    made = {}
    for name, numbers in values.items():
        one = Series(name.replace("__", "/"), "value")
        for step, value in enumerate(numbers):
            one.add(value, step, float(step), 0)
        made[one.name] = one
    return made


def drawn(found: dict[str, Series]) -> dict[str, list[str]]:
    return {chart.title: [one.name for one in chart.series] for chart in charts_of(found).charts}


def test_what_keras_leaves_of_one_fit_is_two_charts_and_a_number() -> None:
    found = series(
        learning_rate=[0.1, 0.1],
        accuracy=[0.5, 0.7],
        loss=[2, 1],
        val_accuracy=[0.4, 0.6],
        val_loss=[3, 2],
        train__epoch_accuracy=[0.5, 0.7],
        train__epoch_loss=[2, 1],
        train__epoch_learning_rate=[0.1, 0.1],
        validation__epoch_accuracy=[0.4, 0.6],
        validation__epoch_loss=[3, 2],
        validation__evaluation_accuracy_vs_iterations=[0.4, 0.6],
        validation__evaluation_loss_vs_iterations=[3, 2],
    )

    assert drawn(found) == {"loss": ["loss", "val_loss"], "accuracy": ["accuracy", "val_accuracy"]}
    constants = [one.name for one in charts_of(found).constants]
    assert constants == ["learning_rate", "train/epoch_learning_rate"]


def test_what_somebody_logs_under_two_names_is_drawn_twice() -> None:
    found = series(loss=[2, 1], train__loss=[5, 4], other=[1, 2])

    assert drawn(found) == {"loss": ["loss", "train/loss"], "other": ["other"]}


def test_what_everybody_looks_at_comes_first_and_the_learning_rate_last() -> None:
    found = series(lr=[1, 2], own=[1, 2], top_k_accuracy=[1, 2], accuracy=[1, 2], loss=[1, 2])

    assert list(drawn(found)) == ["loss", "accuracy", "top_k_accuracy", "own", "lr"]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("val_loss", ("loss", True)),
        ("validation/epoch_loss", ("loss", True)),
        ("evaluation_accuracy_vs_iterations", ("accuracy", True)),
        ("train/batch_loss", ("batch_loss", False)),
        ("test_accuracy", ("accuracy", True)),
        ("epoch_", ("epoch_", False)),
        ("value", ("value", False)),
        ("val_", ("val_", False)),
    ],
)
def test_what_a_name_says(name: str, parts: tuple[str, bool]) -> None:
    assert parts_of(name) == parts


def test_lists_single_values_and_nan_are_no_curves() -> None:
    found = series(once=[1.0], nan=[float("nan"), float("nan")])

    assert "once" not in drawn(found)
    assert charts_of(found).constants == ()


def test_the_metric_that_says_most_is_held_out_accuracy() -> None:
    assert primary_of(["loss", "accuracy", "val_loss", "val_accuracy"]) == "val_accuracy"
    assert primary_of(["lr", "loss", "val_loss"]) == "val_loss"
    assert primary_of(["speed", "lr"]) == "speed"
    assert primary_of([]) is None
