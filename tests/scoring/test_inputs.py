"""What can be scored: files, folders and patterns, and what is refused before anything is done."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hpctf.errors import UsageError
from hpctf.scoring.inputs import input_files, output_folder
from hpctf.scoring.submit import Request


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("b.csv", "a.npy", "c.PARQUET", "notes.txt", "deep/d.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "empty.csv").touch()
    return tmp_path


def names(*named: Path) -> list[str]:
    return [Path(path).name for path in input_files(named)]


def test_files_keep_their_order_and_those_of_folders_and_patterns_are_sorted(files: Path) -> None:
    (files / "empty.csv").unlink()
    assert names(files / "b.csv", files / "a.npy") == ["b.csv", "a.npy"]
    assert names(files) == ["a.npy", "b.csv", "c.PARQUET"]
    assert names(files / "*.csv", files / "deep") == ["b.csv", "d.csv"]
    assert names(files / "**/*.csv") == ["b.csv", "d.csv"]


@pytest.mark.parametrize(
    "name, words",
    [
        ("b.cvs", "There is no file .*Did you mean 'b.csv'"),
        ("*.npz", "No file matches"),
        ("empty.csv", "the file is empty"),
        ("notes.txt", "does not end in .npy, .npz, .csv or .parquet"),
        ("nothing", "The folder .* has no files that end in"),
        ("dead.npy", "it is a link to 'gone', which does not exist"),
        ("links", "dead.csv.*it is a link to 'gone', which does not exist"),
        ("links/*", "dead.csv.*it is a link to 'gone', which does not exist"),
        ("nested", "inside.npy'?: it is a folder, although"),
        ("round/a.npy", "links in its path lead round"),
        ("pipe.npy", "it is a named pipe"),
    ],
)
def test_what_holds_no_rows_is_refused(files: Path, name: str, words: str) -> None:
    for folder in ("nothing", "links", "nested/inside.npy"):
        (files / folder).mkdir(parents=True)
    (files / "dead.npy").symlink_to("gone")
    (files / "links/dead.csv").symlink_to("gone")
    (files / "round").symlink_to("round")
    os.mkfifo(files / "pipe.npy")
    with pytest.raises(UsageError, match=words):
        input_files([files / name])


def test_an_output_is_never_written_over(files: Path) -> None:
    assert output_folder(files / "scores") == str(files / "scores")
    with pytest.raises(UsageError, match="already exists, and nothing is overwritten"):
        output_folder(files / "deep")
    with pytest.raises(UsageError, match="There is no folder"):
        output_folder(files / "none/scores")


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"nodes": 0}, "nodes is 0, but must be a whole number"),
        ({"per_node": True}, "per_node is True"),
        ({"rows_per_part": -1}, "rows_per_part is -1"),
        ({"format": "xlsx"}, "format is 'xlsx', but must be one of npy, csv, parquet"),
        ({"nodes": 6000, "per_node": 2}, "12000, more than"),
    ],
)
def test_a_request_that_cannot_be_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Request(inputs=["a.npy"], out="out", **wrong)
