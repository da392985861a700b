"""Files of a run folder are whole or absent, and appended lines are never lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpctf.common import files
from hpctf.common.files import (
    append_record,
    read_json,
    read_records,
    tail,
    write_atomic,
    write_json,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_mode_and_nothing_beside_it(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"one")
    write_atomic(tmp_path / "b", "two", mode=0o644)
    assert (tmp_path / "a").read_bytes() == b"one"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o644
    assert names(tmp_path) == ["a", "b"]


def test_text_that_is_not_utf8_comes_out_as_the_bytes_it_was(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"caf\xe9".decode("utf-8", "surrogateescape"))
    assert (tmp_path / "a").read_bytes() == b"caf\xe9"


def test_a_reader_sees_the_old_file_or_the_new_one_never_a_part(tmp_path: Path) -> None:
    path = tmp_path / "value"
    old, new = b"a" * 300_000, b"b" * 300_000
    write_atomic(path, old)
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(40):
        write_atomic(path, new if turn % 2 else old)
    done.set()
    reader.join()
    assert seen <= {old, new}


def test_a_write_that_fails_leaves_the_old_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "a", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_value_that_is_not_json_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "a", {"x": object()})
    assert names(tmp_path) == []


def test_a_folder_that_is_not_there_is_the_callers_to_make(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "nowhere" / "a", b"")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters()),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    )
)
def test_json_comes_back_unchanged(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value
    assert path.read_bytes().isascii()


def append_many(path: str, who: int, count: int) -> None:
    for number in range(count):
        append_record(path, {"who": who, "number": number, "padding": "x" * (number % 300)})


def test_records_of_many_processes_at_once_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    path.touch()
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=append_many, args=(str(path), who, 300)) for who in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    records = list(read_records(path))
    whole = [line for line in path.read_text().splitlines() if line]
    assert len(records) == len(whole) == 8 * 300
    for who in range(8):
        mine = [record["number"] for record in records if record["who"] == who]
        assert mine == list(range(300))


def test_a_record_is_one_line_whatever_it_holds(tmp_path: Path) -> None:
    record = {"text": "two\nlines\u2028and a \udce9", "nan": None}
    append_record(tmp_path / "a", record)
    assert (tmp_path / "a").read_bytes().count(b"\n") == 1
    assert list(read_records(tmp_path / "a")) == [record]


def test_a_line_cut_short_by_a_crash_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a"
    append_record(path, {"event": "started"})
    with path.open("ab") as stream:
        stream.write(b'{"event":"hea')
    assert list(read_records(path)) == [{"event": "started"}]


def test_a_record_after_a_line_cut_short_is_not_lost_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b'{"event":"hea')
    append_record(path, {"event": "ended"})
    assert list(read_records(path)) == [{"event": "ended"}]


def test_lines_that_are_no_records_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'\n[1]\n7\n"text"\n\xff\xfe\n\0\0\0\n{"event":"ended"}\n')
    assert list(read_records(tmp_path / "a")) == [{"event": "ended"}]


def test_records_of_a_file_that_is_not_there_are_none(tmp_path: Path) -> None:
    assert list(read_records(tmp_path / "nowhere")) == []


@pytest.mark.parametrize(
    ("content", "lines", "last"),
    [
        (b"", 3, []),
        (b"one\n", 3, ["one"]),
        (b"1\n2\n3\n4\n5", 3, ["3", "4", "5"]),
        (b"1\n2\n3\n4\n5\n", 2, ["4", "5"]),
        (b"\xff\xfe bytes\n", 1, ["\ufffd\ufffd bytes"]),
        (b"dos\r\nlines\r\n", 2, ["dos", "lines"]),
    ],
)
def test_tail_gives_the_last_lines(
    tmp_path: Path, content: bytes, lines: int, last: list[str]
) -> None:
    (tmp_path / "log").write_bytes(content)
    assert tail(tmp_path / "log", lines) == last


def test_tail_of_a_huge_log_reads_only_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as log:
        log.truncate(10**10)  # sparse: reading it all would take ten seconds and 10 GB
        log.seek(0, os.SEEK_END)
        log.write(b"\nthe end\n")
    assert tail(path, 1) == ["the end"]


def test_tail_of_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "log") == []


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"value": "old"})
    code = (
        "import os, sys\n"
        "from hpctf.common import files\n"
        "files.os.fsync = lambda descriptor: os.kill(os.getpid(), 9)\n"
        "files.write_json(sys.argv[1], {'value': 'new'})\n"
    )
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == -9
    assert json.loads(path.read_text()) == {"value": "old"}
