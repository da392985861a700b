"""Copies that share their blocks where the file system can, and are copies all the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hpctf.common.cloning import copy
from hpctf.source.snapshot import take_snapshot
from tests.conftest import skip_or_fail
from tests.support.disks import cloning, mounted

SIZE = 64 << 20
LITTLE = 8 << 20


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file of 64 MiB, on a file system that can clone."""
    with ExitStack() as stack:
        try:
            place = stack.enter_context(cloning(tmp_path / "xfs"))
        except OSError as error:
            skip_or_fail(str(error))
        (place / "source").mkdir()
        (place / "source/data.bin").write_bytes(os.urandom(SIZE))
        os.chmod(place / "source/data.bin", 0o640)
        os.utime(place / "source/data.bin", (1e9, 1e9))
        yield place


def free(place: Path) -> int:
    os.sync()
    return shutil.disk_usage(place).free


def test_snapshots_take_no_room_and_cannot_be_changed_through_one_another(xfs: Path) -> None:
    before = free(xfs)
    snapshots = [xfs / f"run{number}/snapshot" for number in range(3)]
    for snapshot in snapshots:
        snapshot.parent.mkdir()
        assert take_snapshot(xfs / "source", snapshot, 1000) == SIZE
    assert before - free(xfs) < LITTLE
    whole = (xfs / "source/data.bin").read_bytes()
    with (snapshots[1] / "data.bin").open("r+b") as file:
        file.write(b"another run's own words")
    for other in (xfs / "source", snapshots[0], snapshots[2]):
        assert (other / "data.bin").read_bytes() == whole
    found = (snapshots[2] / "data.bin").stat()
    assert (found.st_mode & 0o777, found.st_mtime) == (0o640, 1e9)


def test_a_copied_file_takes_no_room(xfs: Path) -> None:
    before = free(xfs)
    copy(xfs / "source/data.bin", xfs / "copy")
    assert before - free(xfs) < LITTLE
    assert (xfs / "copy").read_bytes() == (xfs / "source/data.bin").read_bytes()
    found = (xfs / "copy").stat()
    assert (found.st_mode & 0o777, found.st_mtime) == (0o640, 1e9)


def test_between_file_systems_the_bytes_are_copied(xfs: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "other", "size=200m") as other:
        (other / "run").mkdir()
        take_snapshot(xfs / "source", other / "run/snapshot", 1000)
        copy(xfs / "source/data.bin", other / "copy")
        whole = (xfs / "source/data.bin").read_bytes()
        assert (other / "run/snapshot/data.bin").read_bytes() == whole
        assert (other / "copy").read_bytes() == whole


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(shutil.SpecialFileError):
        copy(tmp_path / "pipe", tmp_path / "copy")
