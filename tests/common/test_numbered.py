"""Numbers are taken once each and without a gap, whoever else takes some, and whatever NFS says."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpctf.common.numbered import hidden_name, numbers, remove_abandoned, take_number
from tests.conftest import ROOT

TAKES = """
import os, sys
from pathlib import Path
from hpctf.common.numbered import hidden_name, take_number

into, writer, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for turn in range(count):
    made = into / hidden_name()
    made.mkdir()
    token = f"{writer} {turn}"
    (made / "who").write_text(token)
    number = take_number(made, lambda path: (path / "who").read_text() == token)
    print(number, token)
"""


def make(into: Path, who: str) -> tuple[Path, Callable[[Path], bool]]:
    made = into / hidden_name()
    made.mkdir()
    (made / "who").write_text(who)

    def is_ours(path: Path) -> bool:
        return (path / "who").is_file() and (path / "who").read_text() == who

    return made, is_ours


def test_eight_writers_at_once_take_each_number_once(tmp_path: Path) -> None:
    words = [sys.executable, "-c", TAKES, str(tmp_path)]
    writers = [
        subprocess.Popen([*words, str(writer), "40"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for writer in range(8)
    ]
    said = [line.split(" ", 1) for one in writers for line in one.communicate()[0].splitlines()]
    assert [one.returncode for one in writers] == [0] * 8
    assert numbers(tmp_path) == list(range(1, 321))
    assert {int(number): who for number, who in said} == {
        number: (tmp_path / str(number) / "who").read_text() for number in range(1, 321)
    }
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("said", [errno.ENOENT, errno.ENOTEMPTY, errno.EIO])
def test_a_rename_that_nfs_sends_twice_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: int
) -> None:
    """A stand-in for a lost answer: there is no NFS here. The request has been served, and its
    second copy is told that it cannot be."""
    rename = os.rename

    def sent_twice(source: Path, target: Path) -> None:
        rename(source, target)
        raise OSError(said, os.strerror(said))

    made, is_ours = make(tmp_path, "me")
    monkeypatch.setattr(os, "rename", sent_twice)
    assert take_number(made, is_ours) == 1
    monkeypatch.undo()
    again, is_again = make(tmp_path, "again")
    assert take_number(again, is_again) == 2
    assert numbers(tmp_path) == [1, 2]


def test_what_cannot_be_renamed_takes_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, is_ours = make(tmp_path, "me")

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(OSError, match="quota"):
        take_number(made, is_ours)
    assert numbers(tmp_path) == [] and made.is_dir()


def test_a_number_that_a_listing_does_not_show_yet_is_not_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for who in ("a", "b"):
        take_number(*make(tmp_path, who))
    made, is_ours = make(tmp_path, "late")
    monkeypatch.setattr("hpctf.common.numbered.numbers", lambda folder: [])
    assert take_number(made, is_ours) == 3


def test_only_numbers_as_they_are_written_count(tmp_path: Path) -> None:
    for name in ("1", "03", "٣", "2.free", ".tmp-x", "x", "0"):
        (tmp_path / name).mkdir()
    assert numbers(tmp_path) == [1] and numbers(tmp_path / "nowhere") == []


def test_what_was_left_half_made_goes_after_a_day(tmp_path: Path) -> None:
    old, fresh = make(tmp_path, "old")[0], make(tmp_path, "fresh")[0]
    os.utime(old, (0, 0))
    remove_abandoned(tmp_path)
    assert fresh.is_dir() and not old.exists()
