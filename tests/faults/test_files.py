"""Files that clusters do not let be written or read: a clear error and nothing half-written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpctf import Experiment, TensorFlow
from hpctf.common.files import append_record, cannot_write, read_records, write_json
from hpctf.errors import HpctfError, RunFolderError
from tests.conftest import Person
from tests.faults.conftest import Clock
from tests.support.disks import mounted
from tests.support.waiting import HANGS_S

pytestmark = pytest.mark.slow


def estimator(source: Path) -> TensorFlow:
    return TensorFlow(source, entry_script="train.py")


def refused(act: Callable[[], object]) -> str:
    """Do what must be refused because of the file system, and return what was said."""
    with pytest.raises(HpctfError) as caught:
        act()
    assert isinstance(caught.value, RunFolderError) and caught.value.exit_code == 3
    assert caught.value.hint
    return str(caught.value)


def submit(source: Path, root: Path) -> object:
    return Experiment("test", site="local", runs_root=root).submit(estimator(source))


def cli(source: Path, root: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Submit by the command line, on this machine."""
    code = "from hpctf.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "submit", "--site", "local", source / "train.py"],
        env={**os.environ, "HPCTF_RUNS_ROOT": str(root), **env},
        capture_output=True,
        text=True,
        timeout=HANGS_S,
    )


def refused_by_cli(source: Path, root: Path, **env: str) -> str:
    done = cli(source, root, **env)
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    assert done.stderr.startswith("hpctf: error: ") and "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.fault(
    "the disk of the runs is full", "says how much space is needed; leaves nothing behind"
)
def test_a_snapshot_that_does_not_fit_is_told_with_what_is_free(
    source: Path, tmp_path: Path, clock: Clock
) -> None:
    (source / "big.bin").write_bytes(os.urandom(6_000_000))
    with mounted(tmp_path / "disk", "size=4m") as disk:
        clock.injected()
        for said in (
            refused(lambda: submit(source, disk / "runs")),
            refused_by_cli(source, disk / "runs"),
        ):
            assert "snapshot/big.bin' cannot be written: its file system is full" in said
            assert re.search(r"4\.[0-2] MB were free, 6\.0 MB are needed", said)
            assert "HPCTF_RUNS_ROOT" in said
            assert list(disk.iterdir()) == []
        clock.right()


def test_wherever_the_disk_becomes_full_it_is_told_and_nothing_is_left(
    source: Path, tmp_path: Path
) -> None:
    """One more page of memory is free each time, until the submission succeeds."""
    refusals = 0
    with mounted(tmp_path / "disk", "size=1m") as disk:
        filler = disk / "filler"
        for pages in range(60):
            filler.write_bytes(b"")
            free = os.statvfs(disk)
            filler.write_bytes(b"x" * (free.f_bavail - pages) * free.f_frsize)
            try:
                run = Experiment("test", "local", disk / "runs").submit(estimator(source))
            except RunFolderError as error:
                refusals += 1
                assert "is full" in error.message and "MB were free" in error.message
                assert os.listdir(disk) == ["filler"]
                continue
            filler.unlink()
            assert run.wait_for_completion(raise_on_error=False).final
            break
        else:
            pytest.fail("no submission succeeded")
    assert refusals >= 5


def test_a_disk_without_room_for_more_files_is_told(source: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m,nr_inodes=8") as disk:
        assert "no room for more files, however small" in refused(
            lambda: submit(source, disk / "runs")
        )
        assert list(disk.iterdir()) == []


def test_a_quota_that_is_used_up_is_told_as_one(tmp_path: Path) -> None:
    """The error alone: a quota cannot be had on every kernel."""
    said = str(cannot_write(tmp_path / "a", OSError(122, "Disk quota exceeded"), needed=5_000_000))
    assert "your quota on its file system is used up" in said and "5.0 MB are needed" in said


def test_a_runs_root_on_a_read_only_file_system(source: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "ro") as disk:
        for said in (refused(lambda: submit(source, disk)), refused_by_cli(source, disk / "new")):
            assert "cannot be made: Read-only file system" in said
            assert "Choose another runs root: HPCTF_RUNS_ROOT" in said


def test_a_runs_root_that_is_a_file_or_below_one(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for root in (tmp_path / "file", tmp_path / "file/runs"):
        for said in (refused(lambda: submit(source, root)), refused_by_cli(source, root)):  # noqa: B023
            assert f"Not a directory: '{tmp_path}/file' is not a folder" in said
    assert (tmp_path / "file").read_text() == "mine"


def test_a_runs_root_that_cannot_be_made(source: Path, tmp_path: Path) -> None:
    for root, why in (
        (Path("/proc/nowhere/runs"), "No such file"),
        (tmp_path / ("a" * 300), "name too long"),
    ):
        assert why in refused(lambda: submit(source, root))  # noqa: B023
        assert why in refused_by_cli(source, root)
    assert {path.name for path in tmp_path.iterdir()} - {"cache"} == {"proj"}


@pytest.mark.parametrize(
    "name", ["caf\udce9", "new\nline", "turned\u202eround", "a%jb", "nul\0", "a/" * 1500]
)
def test_a_runs_root_that_no_script_can_name(source: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(HpctfError, match="cannot be used: "):
        submit(source, tmp_path / name)
    if "\0" not in name:
        done = cli(source, tmp_path / name, LC_ALL="C", PYTHONIOENCODING="ascii:strict")
        assert done.returncode == 2 and "cannot be used" in done.stderr
        assert "Traceback" not in done.stderr and done.stderr.isascii()


@pytest.mark.parametrize("name", ["ünï→日本", "back\\slash", "a b'c\"d$ %;%d#*[x]!"])
def test_a_runs_root_with_any_other_name_works(source: Path, tmp_path: Path, name: str) -> None:
    done = cli(source, tmp_path / name, LC_ALL="C", PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 0, done.stderr
    run = submit(source, tmp_path / name)
    run.wait_for_completion()
    assert run.folder.path.is_relative_to(tmp_path / name)


def test_a_runs_root_within_the_source_folder_and_the_other_way_round(source: Path) -> None:
    inside = Experiment("test", "local", source / "runs")
    runs = [inside.submit(estimator(source)) for _ in range(2)]
    for run in runs:
        run.wait_for_completion()
        names = {path.name for path in run.folder.snapshot.iterdir()}
        assert names - {"__pycache__"} == {"train.py", "pkg", "outputs"}
    again = inside.submit(estimator(runs[0].folder.snapshot))
    assert again.wait_for_completion().state == "Completed"


@pytest.mark.slurm
def test_what_an_ordinary_user_may_not_write(person: Person) -> None:
    script = person.write("train.py", "print(1)\n")
    for root in ("/root/runs", "/proc/1/runs"):
        done = person.hpctf("submit", script, check=False, HPCTF_RUNS_ROOT=root)
        assert done.returncode == 3 and "Traceback" not in done.stderr
        assert f"{root}/train/train_" in done.stderr and "HPCTF_RUNS_ROOT" in done.stderr


@pytest.mark.slurm
@pytest.mark.parametrize("name", ["secret.key", "pkg/secret.key", "locked/", "blind/"])
def test_what_an_ordinary_user_may_not_read(person: Person, name: str) -> None:
    script = person.write("proj/train.py", "print(1)\n")
    person.write("proj/pkg/a.py", "")
    path = person.home / "proj" / name
    if name.endswith("/"):
        path.mkdir()
        (path / "a.py").touch()
        path.chmod(0o711 if name == "locked/" else 0o744)
    else:
        path.touch(mode=0o600)
    done = person.hpctf("submit", script, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    shown = f"{str(path)!r}" if name == "locked/" else str(path)
    assert f"{shown}" in done.stderr and "Permission denied" in done.stderr
    assert "name it in .hpctfignore" in done.stderr and "Traceback" not in done.stderr
    assert not (person.home / "runs").exists()
    person.write("proj/.hpctfignore", f"{name}\n")
    person.hpctf("submit", "--wait", script)


@pytest.mark.slurm
def test_names_of_bytes_reach_the_nodes_as_they_are(person: Person) -> None:
    """Folder, script and file have names that are not UTF-8; so has what is printed of them."""
    name = "caf\udce9"
    look = "import os, sys; open('outputs/seen','wb').write(b'\\n'.join(sorted(os.listdir(b'.'))))"
    folder = person.home / f"{name} $(touch CANARY)"
    folder.mkdir()
    (folder / f"{name}.py").write_text(look)
    (folder / f"{name}.csv").write_text("1,2")
    for env in ({"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii:strict"}):
        person.hpctf("submit", "--wait", folder / f"{name}.py", **env)
        seen = (Path(person.status()["run_folder"]) / "outputs/seen").read_bytes().split(b"\n")
        assert seen == sorted([b"outputs", b"caf\xe9.py", b"caf\xe9.csv"])
        json.loads(person.hpctf("status", "--json", "@last", **env).stdout)
        gone = person.hpctf("submit", folder / f"{name}-gone.py", check=False, **env)
        assert gone.returncode == 2 and "caf\\udce9-gone.py" in gone.stderr
        assert "Traceback" not in gone.stderr


def test_a_record_that_the_disk_cuts_short_hides_no_other(tmp_path: Path) -> None:
    """The disk is full after any page of a long record; then there is room again."""
    with mounted(tmp_path / "disk", "size=64k") as disk:
        path, filler = disk / "state.jsonl", disk / "filler"
        for pages in range(5):
            path.unlink(missing_ok=True)
            append_record(path, {"event": "started"})
            filler.write_bytes(b"")
            free = os.statvfs(disk)
            filler.write_bytes(b"x" * (free.f_bavail - pages) * free.f_frsize)
            lost = {"event": "lost", "text": "x" * 4096 * (pages + 1)}
            with pytest.raises(OSError, match="No space left"):
                append_record(path, lost)
            assert list(read_records(path)) == [{"event": "started"}]
            filler.unlink()
            append_record(path, {"event": "ended"})
            assert list(read_records(path)) == [{"event": "started"}, {"event": "ended"}]


def test_a_document_that_the_disk_has_no_room_for_leaves_the_old_one(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=16k") as disk:
        write_json(disk / "a.json", {"value": "old"})
        with pytest.raises(OSError, match="No space left"):
            write_json(disk / "a.json", {"value": "x" * 20_000})
        assert os.listdir(disk) == ["a.json"]
        assert json.loads((disk / "a.json").read_text()) == {"value": "old"}
