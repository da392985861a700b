"""A worker's own: reading rows, cutting files, matching them to a model, joining parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")

from hpctf.scoring.worker.errors import Fatal, Wrong  # noqa: E402
from hpctf.scoring.worker.inputs import open_source  # noqa: E402
from hpctf.scoring.worker.joining import join, npy_files  # noqa: E402
from hpctf.scoring.worker.models import Input, Model  # noqa: E402
from hpctf.scoring.worker.parts import write_part  # noqa: E402
from hpctf.scoring.worker.picks import picks_of, take  # noqa: E402
from hpctf.scoring.worker.plan import make_plan  # noqa: E402

FLOAT = np.dtype(np.float32)
ROW = [Input("x", (3,), FLOAT)]
PAIR = [Input("price", (), FLOAT), Input("name", (), np.dtype(object))]

HARD = '\ufeffa,"b, b",c\r\n1,2,"3"\r\n\r\n4,5,6\n"7\n",8,9'
"""A byte order mark, quoted commas and line breaks, an empty line, and no line break at the end."""


def rows_of(path: Path, inputs: list[Input], each: int, columns: tuple[str, ...] = ()) -> list[Any]:
    """Return what each part of a file gives the model."""
    source = open_source(str(path))
    picks = picks_of(inputs, source, list(columns))
    return [take(inputs, source, picks, *part) for part in source.cut(each)]


@pytest.mark.parametrize("each", [1, 2, 3, 100])
def test_csv_is_cut_between_records_wherever_lines_break(tmp_path: Path, each: int) -> None:
    (tmp_path / "x.csv").write_text(HARD, encoding="utf-8", newline="")
    parts = rows_of(tmp_path / "x.csv", ROW, each)
    found = np.concatenate([part["x"] for part in parts])
    assert found.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]] and found.dtype == FLOAT
    assert len(parts) == -(-3 // each)


def test_columns_are_inputs_by_their_names_or_in_the_order_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('name,price,more\nA,1.5,0\n"B, b",2,0\n')
    (part,) = rows_of(tmp_path / "x.csv", PAIR, 10)
    assert part["price"].tolist() == [1.5, 2] and part["name"].tolist() == ["A", "B, b"]
    (tmp_path / "y.csv").write_text("a,b,c,x\n1,2,3,4\n")
    (part,) = rows_of(tmp_path / "y.csv", ROW, 10, ("c", "a", "x"))
    assert part["x"].tolist() == [[3, 1, 4]]


@pytest.mark.parametrize(
    ("head", "why"),
    [
        ("1,2.5,3", "first line holds numbers, where the columns' names belong"),
        ("a;b;c", "';' between columns, where commas belong"),
        ("a\tb\tc", "between columns, where commas belong"),
        ("0,1,2", None),  # as pandas writes columns without names
    ],
)
def test_a_first_line_that_names_no_columns_is_told(
    tmp_path: Path, head: str, why: str | None
) -> None:
    (tmp_path / "x.csv").write_text(f"{head}\n4,5,6\n")
    if why is None:
        (part,) = rows_of(tmp_path / "x.csv", ROW, 10)
        assert part["x"].tolist() == [[4, 5, 6]]
        return
    with pytest.raises(Wrong, match=why):
        open_source(str(tmp_path / "x.csv"))


def test_a_row_of_columns_may_be_an_image(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("p0,p1,p2,p3\n1,2,3,4\n")
    (part,) = rows_of(tmp_path / "x.csv", [Input("image", (2, 2, 1), FLOAT)], 10)
    assert part["image"].tolist() == [[[[1], [2]], [[3], [4]]]]


def test_arrays_are_inputs_by_their_names(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "x.npz", price=np.arange(3.0), name=np.array(["a", "b", "c"]), more=[1, 2, 3]
    )
    first, second = rows_of(tmp_path / "x.npz", PAIR, 2)
    assert first["name"].tolist() == ["a", "b"] and second["price"].tolist() == [2]
    np.savez(tmp_path / "one.npz", anything=np.zeros((2, 3)))
    assert rows_of(tmp_path / "one.npz", ROW, 5)[0]["x"].dtype == FLOAT


@pytest.mark.parametrize(
    "name, content, inputs, words",
    [
        ("x.npy", np.zeros((2, 4)), ROW, r"shape \(4\), but the model's input 'x' takes \(3\)"),
        ("x.npy", np.zeros(2), PAIR, "it holds one array, but the model takes 2: use a .npz with"),
        ("x.npy", np.array([["a", "b", "c"]]), ROW, "it holds text, but .* takes float32"),
        ("x.npy", np.zeros((2, 3)), [Input("x", (3,), np.dtype(np.int64))], "holds float64"),
        ("x.npy", np.float32(1), ROW, "it holds a number, not rows"),
        ("x.npy", np.array([{}]), ROW, "not a NumPy file, or holds objects"),
        ("x.npy", "text", ROW, "not a NumPy file"),
        ("x.npz", {"price": np.zeros(2), "name": np.zeros(3)}, PAIR, "differ in their rows"),
        ("x.npz", {"price": np.zeros(2), "nam": np.zeros(2)}, PAIR, "no array 'name'"),
        ("x.csv", "price,nam\n1,2\n", PAIR, "no column 'name', .*; it has price, nam"),
        ("x.csv", "a,b\n1,2\n", ROW, "takes 3 values .* the number of columns is 2"),
        ("x.csv", "\n", ROW, "does not name columns"),
        ("x.csv", "x\n1\n", ROW, "the column of its name holds one"),
        ("x.csv", "a,b,a\n1,2,3\n", ROW, "it has 2 columns 'a'"),
        ("x.csv", "a,b,c\n", ROW, "no rows"),
        ("x.npy", np.zeros((0, 3)), ROW, "no rows"),
    ],
)
def test_what_does_not_fit_is_told(
    tmp_path: Path, name: str, content: Any, inputs: list[Input], words: str
) -> None:
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    else:
        np.save(path, content)
    begin = "The files have" if words == "no rows" else f"Cannot score {path}: .*"
    with pytest.raises(Fatal, match=f"{begin}.*{words}"):
        make_plan(str(tmp_path), definition(tmp_path, path), inputs)


def test_a_cell_that_is_no_number_is_told_by_its_row_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("x,y,z,more\n1,2,3,4\n1,2,3,4\n1,2,,4\n")
    with pytest.raises(Wrong, match="row 2, column 'z': could not convert string ''"):
        rows_of(tmp_path / "x.csv", ROW, 2, ("x", "y", "z"))


def test_a_model_of_a_fixed_batch_gets_whole_batches() -> None:
    sizes = []

    def run(feeds: dict[str, Any]) -> dict[str, Any]:
        sizes.append(len(feeds["x"]))
        return {"y": feeds["x"] * 2}

    model = Model(ROW, run, fixed=4)
    scores = model.score({"x": np.arange(10.0)}, 10, None)["y"]
    assert scores.tolist() == [2.0 * n for n in range(10)] and sizes == [4, 4, 4]


def test_an_output_without_a_row_for_each_row_is_refused() -> None:
    model = Model(ROW, lambda feeds: {"y": feeds["x"].sum()})
    with pytest.raises(Wrong, match=r"'y' has the shape .* for 10 rows, not a row for each"):
        model.score({"x": np.arange(10.0)}, 10, None)


def definition(top: Path, *files: Path, **changes: Any) -> dict[str, Any]:
    return {
        "run": "r",
        "model": {"id": "m:1"},
        "files": list(map(str, files)),
        "out": str(top / "out"),
        "format": "npy",
        "rows_per_part": 2,
        "batch_size": None,
        "columns": [],
        "resumed": [],
        **changes,
    }


def test_rows_of_failed_parts_are_missing_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    plan = {"rows": [5], "parts": [[0, 0, 2, 0], [0, 2, 2, 0], [0, 4, 1, 0]]}
    write_part(str(tmp_path), 0, {"y": np.ones((2, 2)), "n": np.array([1, 2]), "t": ["a", "bb"]})
    write_part(str(tmp_path), 2, {"y": np.ones((1, 2)), "n": np.array([5]), "t": ["ccc"]})
    asked = definition(tmp_path, tmp_path / "x.npy")
    assert join(str(tmp_path), asked, plan, {"1": "bad"}) == {"rows": 5}
    out = tmp_path / "out"
    assert np.isnan(np.load(out / "predictions-y.npy")).any(axis=1).tolist() == [0, 0, 1, 1, 0]
    numbers = np.load(out / "predictions-n.npy")
    assert np.array_equal(numbers, [1, 2, np.nan, np.nan, 5], equal_nan=True), "0 is a number"
    assert np.load(out / "predictions-t.npy").tolist() == ["a", "bb", "", "", "ccc"]
    (failed,) = json.loads((out / "rows.json").read_text())["failed"]
    assert (failed["first"], failed["rows"], failed["reason"]) == (2, 2, "bad")
    assert join(str(tmp_path), asked, plan, {"1": "bad"}) == {"rows": 5}, "it was joined before"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "parts"}


def test_outputs_of_any_name_have_a_file_each() -> None:
    assert npy_files(["a b"]) == ["predictions.npy"]
    names = ["größe", "得分", "a b", "a/b", "a_b", "x" * 300]
    files = npy_files(names)
    assert files[:3] == ["predictions-größe.npy", "predictions-得分.npy", "predictions-a_b.npy"]
    assert len(set(files)) == len(names) and "/" not in "".join(files)
    assert max(len(file.encode()) for file in files) < 255


def test_somebody_elses_output_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    write_part(str(tmp_path), 0, {"y": np.ones(1)})
    plan = {"rows": [1], "parts": [[0, 0, 1, 0]]}
    with pytest.raises(Fatal, match=r"Cannot write .*out"):
        join(str(tmp_path), definition(tmp_path, tmp_path / "x.npy"), plan, {})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    # but for that of a run that this one goes on with
    (tmp_path / "out/rows.json").write_text('{"run": "earlier"}')
    asked = definition(tmp_path, tmp_path / "x.npy", resumed=["earlier"])
    assert join(str(tmp_path), asked, plan, {}) == {"rows": 1}
    assert not (tmp_path / "out/mine").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"out", "parts"}
