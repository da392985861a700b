"""What a training logs comes back as it was: values, tables, images, files, tags, child runs."""

from __future__ import annotations

import io
import json
import math
import sys
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as some

from hpctf.client.hpctf.journal_reader import Journal, records_of, whole_lines
from hpctf.client.hpctf.run_context import Run
from hpctf.client.hpctf.run_metrics import Tracked
from tests.support.mpi_ranks import environ, lines

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.get_context(environ=environ(tmp_path / "run"))


class Element:
    """What numpy, TensorFlow and PyTorch have in common: an element or an array of their own."""

    def __init__(self, content: Any, shape: tuple[int, ...] = ()) -> None:
        self.content, self.shape = content, shape

    def item(self) -> Any:
        if not isinstance(self.content, (int, float)):
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.content

    def tolist(self) -> Any:
        return self.content


class Tensor:
    """An eager tensor, or a symbol inside a tf.function, which has no value."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def numpy(self) -> Element:
        if self.content is None:
            raise NotImplementedError("numpy() is only available when eager execution is enabled.")
        return Element(self.content)


def test_what_is_logged_comes_back_by_name(run: Run) -> None:
    for step, loss in enumerate([0.9, 0.5, 0.25]):
        run.log("loss", loss, step)
    run.log("accuracy", 0.97)
    run.log("optimizer", "adam")
    run.log("finished", True)
    found = run.get_metrics()
    assert found == {
        "loss": [0.9, 0.5, 0.25],
        "accuracy": 0.97,
        "optimizer": "adam",
        "finished": True,
    }
    assert run.get_metrics("accuracy") == {"accuracy": 0.97}
    assert list(run._tracked().last()) == ["loss", "accuracy", "optimizer", "finished"]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1, 1),
        (2**70, 2**70),
        (0.1, 0.1),
        (5e-324, 5e-324),
        (math.inf, math.inf),
        (-math.inf, -math.inf),
        (False, False),
        (Element(0.1), 0.1),
        (Element(7), 7),
        (Element(math.inf), math.inf),
        (Tensor(0.25), 0.25),
        (Decimal("0.5"), 0.5),
        (Decimal("1e999"), math.inf),
        (-(10**400), -math.inf),
        (Fraction(10**400), math.inf),
        (1 - 2j, "(1-2j)"),
        (b"caf\xe9", "caf\\xe9"),
        (date(2026, 1, 2), "2026-01-02"),
        (Path("/a"), "/a"),
        ("\ud800", "\ud800"),
    ],
)
def test_values_are_kept_to_the_bit(run: Run, value: Any, kept: Any) -> None:
    run.log("x", value, step=3)
    found = run.get_metrics()["x"]
    assert found == kept
    assert type(found) is type(kept)
    assert lines(Path(run._tracked().folder) / "metrics/worker-0.jsonl")[-1]["step"] == 3


def test_nan_is_kept_and_every_line_stays_json(run: Run) -> None:
    run.log("x", math.nan)
    run.log_list("many", [1.0, Element(math.nan), Tensor(-math.inf)])
    run.log_row("row", loss=math.nan)
    assert math.isnan(run.get_metrics()["x"])
    first, second, third = run.get_metrics()["many"]
    assert (first, math.isnan(second), third) == (1.0, True, -math.inf)
    assert math.isnan(run.get_metrics()["row"]["loss"])
    assert lines(Path(run._tracked().folder) / "metrics/worker-0.jsonl")


def test_no_number_is_too_large_to_be_logged(run: Run) -> None:
    huge = 10**5000
    for _ in range(2):  # the second takes the short way
        run.log("x", huge)
    run.log("x", Element(-huge))
    run.log_list("list", [huge])
    run.tag("tag", huge)
    assert run.get_metrics() == {"x": [math.inf, math.inf, -math.inf], "list": [math.inf]}
    with pytest.raises(TypeError, match="whole number"):
        run.log("x", 1.0, step=huge)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Element([1, 2], (2,)), "takes a number, a string or a bool, not a Element of shape (2,)"),
        ([1, 2], "log_list"),
        (object(), "not a object"),
        (Tensor(None), "inside a tf.function there are only symbols"),
    ],
)
def test_what_is_no_value_is_refused_with_the_way_out(run: Run, value: Any, words: str) -> None:
    with pytest.raises(TypeError) as refused:
        run.log("x", value)
    assert words in str(refused.value)
    assert "log('x', ...)" in str(refused.value)


@pytest.mark.parametrize("step", [1.5, "three", None])
def test_a_step_is_a_whole_number(run: Run, step: Any) -> None:
    if step is None:
        run.log("x", 1.0, step)
        return
    with pytest.raises(TypeError, match="whole number"):
        run.log("x", 1.0, step)


def test_steps_may_be_tensors_and_whole_floats(run: Run) -> None:
    run.log("x", 1.0, Tensor(3))
    run.log("x", 2.0, 4.0)
    assert run._tracked().series()["x"].steps == [3, 4]


@pytest.mark.parametrize("name", ['a","b', "b,c", "päd\n", '"', "\\", "value"])
def test_any_name_is_a_name(run: Run, name: str) -> None:
    for value in (1.0, 2.0):
        run.log(name, value)
        run.log("other", value)
    run.flush()
    assert run.get_metrics()[name] == [1.0, 2.0]
    assert run._tracked().last()[name].value == 2.0


def test_lists_rows_and_tables_have_azure_mls_forms(run: Run) -> None:
    run.log_list("lr", [0.1, 0.2])
    run.log_list("lr", (0.3,))
    run.log_row("one", batch=64, images=1200.5)
    run.log_row("speed", batch=64, images=1200.5)
    run.log_row("speed", batch=128)
    run.log_table("classes", {"name": ["a", "b"], "f1": Element([0.5, 0.75], (2,))})
    assert run.get_metrics() == {
        "lr": [0.1, 0.2, 0.3],
        "one": {"batch": 64, "images": 1200.5},
        "speed": {"batch": [64, 128], "images": [1200.5, None]},
        "classes": {"name": ["a", "b"], "f1": [0.5, 0.75]},
    }


def test_a_confusion_matrix_has_as_many_labels_as_rows(run: Run) -> None:
    azure = {"schema_type": "confusion_matrix", "data": {"class_labels": ["a"], "matrix": [[3]]}}
    run.log_confusion_matrix("digits", [[5, 1], [0, 4]], labels=["one", "two"])
    run.log_confusion_matrix("azure", json.dumps(azure))
    assert run.get_metrics()["digits"]["class_labels"] == ["one", "two"]
    assert run.get_metrics()["azure"] == {"class_labels": ["a"], "matrix": [[3]]}
    with pytest.raises(ValueError, match="2 rows and 3 labels"):
        run.log_confusion_matrix("digits", [[5, 1], [0, 4]], labels=["one", "two", "three"])


def test_images_and_uploads_are_copied_at_once(run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "curve.jpg"
    picture.write_bytes(b"first")
    run.log_image("the curve", path=picture, step=4)
    run.upload_file("model.bin", picture)
    run.upload_file("outputs/model.bin", picture)
    (tmp_path / "many/deep").mkdir(parents=True)
    (tmp_path / "many/deep/a.txt").write_text("a")
    run.upload_folder("notes", tmp_path / "many")
    picture.write_bytes(b"second")
    folder = tmp_path / "run"
    assert run.get_metrics()["the curve"] == "images/the_curve_4.jpg"
    assert (folder / "artifacts/images/the_curve_4.jpg").read_bytes() == b"first"
    assert (folder / "artifacts/model.bin").read_bytes() == b"first"
    assert (folder / "outputs/model.bin").read_bytes() == b"first"
    assert (folder / "artifacts/notes/deep/a.txt").read_text() == "a"
    run.upload_file("outputs/model.bin", folder / "outputs/model.bin")  # it is there already


class Figure:
    """A matplotlib figure saves itself."""

    def savefig(self, path: str, format: str) -> None:
        Path(path).write_bytes(f"a {format}".encode())


def test_a_figure_is_saved_by_itself(run: Run, tmp_path: Path) -> None:
    run.log_image("curve", plot=Figure(), step=1)
    assert (tmp_path / "run/artifacts/images/curve_1.png").read_bytes() == b"a png"
    with pytest.raises(TypeError, match="either a path or a plot"):
        run.log_image("curve")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "", "a/../../x"])
def test_a_file_stays_within_its_run(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(ValueError, match="within the run"):
        run.upload_file(name, tmp_path / "x")


def test_tags_change_and_properties_do_not(run: Run) -> None:
    for value in ("first", "second"):
        run.tag("stage", value)
        run.add_properties({"origin": value})
    run.set_tags({"n": 3})
    assert run.get_tags() == {"stage": "second", "n": 3}
    assert run.get_properties() == {"origin": "first"}


def test_children_have_metrics_tags_and_ends_of_their_own(run: Run) -> None:
    with run.child_run("fold-1") as fold:
        fold.log("accuracy", 0.5)
        fold.tag("fold", 1)
    with pytest.raises(RuntimeError), run.child_run("fold-2") as broken:
        raise RuntimeError("no data")
    run.child_run("fold-1").log("accuracy", 0.75)  # as a job that was started again does
    assert run.get_metrics() == {}
    first, second = run._tracked().children()
    assert (first.name, first.metrics(), first.tags()) == (
        "fold-1",
        {"accuracy": [0.5, 0.75]},
        {"fold": 1},
    )
    assert [child.ended()["state"] for child in (first, second)] == ["Completed", "Failed"]
    assert run.get_children() == ["digits_1_a_fold-1", "digits_1_a_fold-2"]
    assert broken.parent is run
    with pytest.raises(ValueError, match=r"letters, digits, _, - and \."):
        run.child_run("a/b")


def test_of_several_ranks_the_first_that_logged_a_name_is_shown(tmp_path: Path) -> None:
    for rank in (10, 2, 1):
        Run.get_context(environ=environ(tmp_path, rank)).log("loss", float(rank))
    Run.get_context(environ=environ(tmp_path, 2)).log("extra", 2.0)
    Run.get_context(environ=environ(tmp_path, 0, role="ps")).log("loss", -1.0)
    Run.get_context(environ=environ(tmp_path, 0, role="chief")).log("served", 5)
    tracked = Tracked(str(tmp_path))
    assert tracked.ranks() == ["chief-0", "worker-1", "worker-2", "worker-10", "ps-0"]
    assert tracked.metrics() == {"served": 5, "loss": 1.0, "extra": 2.0}
    assert tracked.metrics(rank="worker-10") == {"loss": 10.0}
    assert {name: last.value for name, last in tracked.last().items()} == tracked.metrics()


def test_outside_of_a_job_what_is_logged_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.get_context(environ={})
    run.log("loss", 0.5, 3)
    run.log_row("speed", batch=64)
    run.tag("stage", "first")
    with run.child_run("fold-1") as fold:
        fold.log("accuracy", 0.75)
    assert capsys.readouterr().out.splitlines()[:4] == [
        "loss: 0.5 (step 3)",
        "speed: {'batch': 64}",
        "tag stage: first",
        "accuracy: 0.75",
    ]
    assert run.get_metrics() == {"loss": 0.5, "speed": {"batch": 64}}
    assert run.get_tags() == {"stage": "first"}


VALUES = some.one_of(
    some.floats(allow_nan=False, allow_infinity=False),
    some.integers(-(1 << 70), 1 << 70),
    some.booleans(),
    some.text(max_size=3),
    some.just({"float": "nan"}),
)
LINES = some.one_of(
    some.fixed_dictionaries(
        {"name": some.sampled_from("ab"), "value": VALUES, "time": some.floats(0, 1e9)},
        optional={"step": some.one_of(some.integers(0, 9), some.just(1 << 65), some.none())},
    ).map(json.dumps),
    some.just('{"name":"a","list":[1,2.5],"time":1}'),
    some.just('{"opened":{"pid":1},"time":2.0}'),
    some.just('{"digest":[{"name":"a","value":1,"time":1}]}'),
    some.sampled_from(
        ['{"name":"a","val', "", "null", '{"name":["a"],"value":1.5,"time":1.0}', "\0"]
    ),
)


@pytest.mark.parametrize("fast", [True, False], ids=["msgspec", "json"])
@given(told=some.lists(LINES, max_size=30), ends=some.booleans())
def test_many_lines_are_read_at_once_as_they_are_one_by_one(
    fast: bool, told: list[str], ends: bool
) -> None:
    text = ("\n".join(told) + "\n" * ends).encode()
    one_by_one, at_once = Journal(), Journal()
    for record in records_of(text.split(b"\n")):
        one_by_one.take(record)
    absent = {} if fast else {"hpctf.client.hpctf.points": None}
    with patch.dict(sys.modules, absent):
        for part in whole_lines(io.BytesIO(text)):
            at_once.take_lines(part)
    assert [*at_once.series] == [*one_by_one.series]
    for name, series in one_by_one.series.items():
        found = at_once.series[name]
        assert [repr(value) for value in found.values] == [repr(value) for value in series.values]
        assert (found.steps, found.times) == (series.steps, series.times)
