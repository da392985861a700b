"""Runs as archives: put away only once that is safe, and brought back as they were."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpctf import Run, UsageError
from hpctf.common import progress
from hpctf.errors import RunFolderError
from hpctf.run_folder.ownership import SEAL
from hpctf.runs.housekeeping import archives as module
from hpctf.runs.housekeeping.archives import archive, archives, restore
from hpctf.runs.housekeeping.removal import REMOVING
from hpctf.runs.status.listing import list_runs
from tests.conftest import ROOT
from tests.runs.housekeeping.test_removal import as_nobody
from tests.support.disks import mounted
from tests.support.ended_runs import Copy
from tests.support.projects import hpctf


def tree(top: Path) -> dict[str, Any]:
    """Return all that is in a folder: permissions, files' times, twins, content or target."""
    found: dict[str, Any] = {}
    names: dict[int, str] = {}
    for path in [top, *sorted(top.rglob("*"))]:
        status = path.lstat()
        twin = names.setdefault(status.st_ino, str(path.relative_to(top)))
        content: Any = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        when = int(status.st_mtime) if stat.S_ISREG(status.st_mode) else None
        when = None if path.name == SEAL else when  # made anew
        found[str(path.relative_to(top))] = (oct(status.st_mode), when, twin, content)
    return found


def furnish(run: Run) -> None:
    """Put into the outputs what is not plain."""
    outputs = run.folder.outputs
    (outputs / "empty").mkdir()
    (outputs / "a link").symlink_to("said.txt")
    (outputs / "out").symlink_to("/etc/hosts")
    (outputs / "dangling").symlink_to("nowhere")
    os.link(outputs / "said.txt", outputs / "twin")
    with open(os.fsencode(outputs) + b"/\xff\xfe name", "wb") as stream:
        stream.write(b"odd")
    (outputs / ("long" * 60)).write_text("long")
    (outputs / "run.sh").write_text("#!/bin/sh\n")
    (outputs / "run.sh").chmod(0o755)
    (outputs / "weights").write_bytes(os.urandom(3_000_000))


def test_an_archived_run_comes_back_as_it_was(run: Run, tmp_path: Path) -> None:
    furnish(run)
    before, details, results = tree(run.folder.path), run.get_details(), run.results()
    done = hpctf("archive", run.id, "--yes", cwd=tmp_path)
    file = run.folder.root / ".archive/test" / f"{run.id}.tar.gz"
    assert (done.returncode, done.stdout) == (0, f"{file}\n"), done.stderr
    assert list_runs(run.folder.root) == []
    assert os.listdir(run.folder.path.parent) == []
    assert os.listdir(file.parent) == [file.name]
    done = hpctf("archive", "--restore", run.id, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{run.id}\n"), done.stderr
    assert tree(run.folder.path) == before
    again = Run(run.folder.path)
    assert (again.get_details(), again.results()) == (details, results)
    assert os.listdir(run.folder.path.parent) == [run.id]


def test_the_progress_of_a_large_run_is_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_AFTER_S", "_EVERY_S"):
        monkeypatch.setattr(progress, name, 0.0)
    (run.folder.path / "outputs/weights").write_bytes(os.urandom(4 << 20))
    said = io.StringIO()
    progress.show_on(said)
    try:
        archive(run.folder.root, [run.folder])
        restore(run.folder.root, run.id)
    finally:
        progress.show_on(None)

    for what in ("Archiving", "Restoring"):
        shares = [int(share) for share in re.findall(rf"{what} {run.id}: (\d+) %", said.getvalue())]
        assert shares == sorted(shares) and len(shares) > 3 and shares[-1] > 60


def test_from_python(run: Run) -> None:
    assert run.archive() == run.folder.root / ".archive/test" / f"{run.id}.tar.gz"
    assert restore(run.folder.root, run.id).path == run.folder.path


def test_tar_unpacks_it_in_a_runs_root_too(run: Run) -> None:
    before = tree(run.folder.path)
    del before[SEAL]  # which is the person's alone
    file = run.archive()
    subprocess.run(["tar", "xf", file], cwd=run.folder.root, check=True)
    assert {name: kept[3] for name, kept in tree(run.folder.path).items()} == {
        name: kept[3] for name, kept in before.items()
    }


def test_archives_are_listed_and_found_by_prefix(run: Run, copy: Copy, tmp_path: Path) -> None:
    other = copy(experiment="other")
    for one in (run, other):
        one.archive()
    done = hpctf("archive", "--list", "--json", cwd=tmp_path)
    listed = json.loads(done.stdout)
    assert [(one["experiment"], one["id"]) for one in listed] == [
        ("other", other.id),
        ("test", run.id),
    ]
    assert [os.path.getsize(one["file"]) for one in listed] == [one["bytes"] for one in listed]
    assert other.id in hpctf("archive", "--list", cwd=tmp_path).stdout
    assert json.loads(hpctf("du", "--json", cwd=tmp_path).stdout)["archives"] == sum(
        one["bytes"] for one in listed
    )
    assert "It is archived: hpctf archive --restore other_" in (
        hpctf("status", "other_", cwd=tmp_path).stderr
    )
    hpctf("archive", "--restore", "other_", cwd=tmp_path)
    assert [one.id for one in list_runs(run.folder.root)] == [other.id]


def test_archives_may_lie_elsewhere_and_come_back_under_another_root(
    run: Run, tmp_path: Path
) -> None:
    tape = tmp_path / "tape"
    done = hpctf("archive", "@last", "--to", tape, "--yes", cwd=tmp_path)
    file = tape / "test" / f"{run.id}.tar.gz"
    assert done.stdout == f"{file}\n"
    assert not (run.folder.root / ".archive").exists()
    assert [one.id for one in archives(run.folder.root, tape)] == [run.id]
    assert restore(run.folder.root, run.id, tape).path == run.folder.path
    assert restore(tmp_path / "new", str(file)).path == tmp_path / "new/test" / run.id


def test_archiving_again_replaces_the_archive(run: Run) -> None:
    file = run.archive()
    restore(run.folder.root, run.id)
    (run.folder.outputs / "more").write_text("more")
    assert run.archive() == file
    restore(run.folder.root, run.id)
    assert (run.folder.outputs / "more").read_text() == "more"


def test_a_run_that_is_there_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    run.archive()
    restore(run.folder.root, run.id)
    before = tree(run.folder.path)
    done = hpctf("archive", "--restore", run.id, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Run {run.id} is there" in done.stderr
    assert tree(run.folder.path) == before


def test_a_live_run_is_not_archived(live: Run, tmp_path: Path) -> None:
    done = hpctf("archive", live.id, "--yes", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Run {live.id} must stay: it is Running." in done.stderr
    assert not (live.folder.root / ".archive").exists()


def append(path: Path) -> None:
    path.write_text(path.read_text() + "x")


def same_length(path: Path) -> None:
    path.write_text("HELLO")


@pytest.mark.parametrize(
    "change", [append, same_length, Path.unlink, lambda path: path.with_name("new").touch()]
)
def test_a_run_that_changes_meanwhile_stays(
    run: Run, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    write = module._write

    def written_while_somebody_writes(stream: Any, folder: Any, done: Any) -> None:
        write(stream, folder, done)
        change(folder.outputs / "said.txt")

    monkeypatch.setattr(module, "_write", written_while_somebody_writes)
    with pytest.raises(RunFolderError, match=r"was not archived: .*outputs/.* changed meanwhile"):
        run.archive()
    assert run.status == "Completed"
    assert os.listdir(run.folder.root / ".archive/test") == []


def test_an_archive_that_was_killed_is_made_by_the_next(run: Run, tmp_path: Path) -> None:
    (run.folder.outputs / "weights").write_bytes(os.urandom(30_000_000))
    before = tree(run.folder.path)
    place = run.folder.root / ".archive/test"
    words = [sys.executable, "-m", "hpctf", "archive", run.id, "--yes"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HPCTF_RUNS_ROOT": str(tmp_path / "runs")}
    first = subprocess.Popen(words, env=env)
    part = place / f".{run.id}.tar.gz.part"
    while not part.exists() or part.stat().st_size < 100_000:
        assert first.poll() is None
        time.sleep(0.001)
    first.kill()
    first.wait()
    assert archives(run.folder.root) == []
    assert tree(run.folder.path) == before
    file = run.archive()
    assert os.listdir(place) == [file.name]
    restore(run.folder.root, run.id)
    assert tree(run.folder.path) == before


def test_an_archive_that_was_killed_as_its_run_went_is_finished_by_the_next(
    run: Run, copy: Copy, tmp_path: Path
) -> None:
    half = copy().folder.path
    file = run.archive()
    half.rename(half.with_name(REMOVING + run.id))
    done = hpctf("archive", run.id, "--yes", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert f"Run {run.id} was half removed, and is gone." in done.stderr
    assert os.listdir(run.folder.path.parent) == []
    assert file.exists()


def test_a_restoration_that_was_killed_is_made_by_the_next(run: Run) -> None:
    before = tree(run.folder.path)
    run.archive()
    half = run.folder.path.with_name(f".restoring-{run.id}")
    (half / "test" / run.id / "outputs").mkdir(parents=True)
    restore(run.folder.root, run.id)
    assert tree(run.folder.path) == before
    assert os.listdir(run.folder.path.parent) == [run.id]


def test_two_do_not_archive_a_run_at_once(run: Run) -> None:
    part = run.folder.root / f".archive/test/.{run.id}.tar.gz.part"
    part.parent.mkdir(parents=True)
    with part.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="in use by another hpctf"):
            run.archive()
    assert run.status == "Completed"


def test_a_full_disk_leaves_the_run_and_no_archive(run: Run, tmp_path: Path) -> None:
    (run.folder.outputs / "weights").write_bytes(os.urandom(3_000_000))
    with mounted(tmp_path / "disk", "size=2m") as disk:
        done = hpctf("archive", run.id, "--to", disk, "--yes", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (3, ""), done.stderr
        assert "its file system is full" in done.stderr
        assert os.listdir(disk / "test") == []
    assert run.status == "Completed"


def test_a_full_disk_leaves_no_half_run(run: Run, tmp_path: Path) -> None:
    (run.folder.outputs / "weights").write_bytes(os.urandom(3_000_000))
    file = run.archive()
    with mounted(tmp_path / "disk", "size=2m") as disk:
        with pytest.raises(RunFolderError, match="its file system is full"):
            restore(disk, str(file))
        assert os.listdir(disk) == []
    restore(run.folder.root, run.id)


def test_what_cannot_be_read_keeps_the_run(run: Run) -> None:
    with as_nobody(run) as experiment:
        mine = Run(experiment / run.id)
        (mine.folder.outputs / "said.txt").chmod(0)
        with pytest.raises(RunFolderError, match=r"said.txt' cannot be read: Permission denied"):
            mine.archive()
        assert mine.status == "Completed"
        assert list((experiment.parent / ".archive/test").iterdir()) == []


def test_archives_do_not_lie_in_a_run_that_goes(run: Run) -> None:
    with pytest.raises(UsageError, match=f"lies in run {run.id}"):
        run.archive(run.folder.outputs / "kept")
    assert run.status == "Completed"


@pytest.mark.parametrize("umask", [0o077, 0o027])
def test_an_archive_is_as_open_as_its_run(run: Run, umask: int) -> None:
    run.folder.path.chmod(0o777 & ~umask)
    assert stat.S_IMODE(run.archive().stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize(
    "spoil",
    [lambda data: b"", lambda data: b"no archive", lambda data: data[: len(data) // 2],
     lambda data: data[:-4] + b"oops", lambda data: data[:500] + b"\0" * 40 + data[540:]],
    ids=["empty", "text", "half", "checksum", "garbled"],
)  # fmt: skip
def test_a_broken_archive_brings_nothing_back(
    run: Run, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    (run.folder.outputs / "weights").write_bytes(os.urandom(100_000))
    file = run.archive()
    file.write_bytes(spoil(file.read_bytes()))
    done = hpctf("archive", "--restore", run.id, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert str(file) in done.stderr
    assert os.listdir(run.folder.path.parent) == []


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.mode = kind, link, 0o4777
    return found


TOP = member("e/r", tarfile.DIRTYPE)


@pytest.mark.parametrize(
    "members",
    [
        [member("../../evil")],
        [TOP, member("e/r/../../evil")],
        [TOP, member("/evil")],
        [TOP, member("e/other")],
        [TOP, member("e/r/in", tarfile.SYMTYPE, ".."), member("e/r/in/evil")],
        [TOP, member("e/r/no/folder")],
        [TOP, member("e/r/twin", tarfile.LNKTYPE, "/etc/passwd")],
        [TOP, member("e/r/twin", tarfile.LNKTYPE, "../../../victim")],
        [TOP, member("e/r/a", tarfile.SYMTYPE, "/etc"), member("e/r/b", tarfile.LNKTYPE, "e/r/a")],
        [TOP, member("e/r/a"), member("e/r/a", tarfile.SYMTYPE, "/etc/passwd"), member("e/r/a")],
        [TOP, member("e/r/tty", tarfile.CHRTYPE)],
        [member(".archive/r", tarfile.DIRTYPE)],
        [member("e/.removing-r", tarfile.DIRTYPE)],
        [member("e/r")],
        [],
    ],
    ids=lambda members: " ".join(one.name for one in members) or "nothing",
)
def test_a_hostile_archive_is_refused_and_nothing_is_unpacked(
    tmp_path: Path, members: list[tarfile.TarInfo]
) -> None:
    (tmp_path / "victim").write_text("mine")
    file = tmp_path / "evil.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        for one in members:
            tar.addfile(one, io.BytesIO())
    before = tree(tmp_path)
    with pytest.raises(UsageError):
        restore(tmp_path / "a/runs", str(file))
    assert [path for path in (tmp_path / "a").rglob("*") if path.name != "runs"] == []
    shutil.rmtree(tmp_path / "a", ignore_errors=True)
    assert tree(tmp_path) == before


def test_no_privilege_comes_out_of_an_archive(tmp_path: Path) -> None:
    file = tmp_path / "r.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        for one in (TOP, member("e/r/program")):
            tar.addfile(one, io.BytesIO())
    folder = restore(tmp_path / "runs", str(file))
    assert stat.S_IMODE((folder.path / "program").stat().st_mode) == 0o777


def test_archiving_several_keeps_what_was_done_before_a_failure(
    run: Run, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = copy()
    write = module._write

    def full_for_the_second(stream: Any, folder: Any, done: Any) -> None:
        if folder.id == run.id:
            raise OSError(28, os.strerror(28))
        write(stream, folder, done)

    monkeypatch.setattr(module, "_write", full_for_the_second)
    with pytest.raises(RunFolderError, match="is full"):
        archive(run.folder.root, [other.folder, run.folder])
    assert [one.id for one in archives(run.folder.root)] == [other.id]
    assert [one.id for one in list_runs(run.folder.root)] == [run.id]
