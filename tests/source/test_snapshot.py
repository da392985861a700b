"""What goes with a run, and what stays behind."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hpctf.errors import UsageError
from hpctf.source.snapshot import take_snapshot
from tests.conftest import ROOT, TEST_USER, skip_or_fail


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "proj"
    (folder / "pkg").mkdir(parents=True)
    (folder / "train.py").write_text("import pkg\n")
    (folder / "pkg" / "__init__.py").write_text("")
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Where the snapshot goes, in a run folder that exists."""
    run = tmp_path / "runs" / "e" / "e_1_a"
    run.mkdir(parents=True)
    return run / "snapshot"


def write(folder: Path, *names: str, text: str = "x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def taken(source: Path, copy: Path, max_mb: int = 10) -> set[str]:
    """Take a snapshot and return the files of it."""
    take_snapshot(source, copy, max_mb)
    return {str(p.relative_to(copy)) for p in copy.rglob("*") if p.is_symlink() or not p.is_dir()}


CODE = {"train.py", "pkg/__init__.py"}


def test_code_and_data_go_at_any_depth(source: Path, copy: Path) -> None:
    write(source, "data/deep/er/x.csv", ".hidden", "no suffix", "a\nb.txt", "pkg/outputs/x")
    assert taken(source, copy) == {
        *CODE, "data/deep/er/x.csv", ".hidden", "no suffix", "a\nb.txt", "pkg/outputs/x",
    }  # fmt: skip


def test_what_is_no_code_stays_behind(source: Path, copy: Path) -> None:
    write(source, ".git/HEAD", "pkg/.git/HEAD", "__pycache__/a.pyc", ".ipynb_checkpoints/a")
    write(source, "venv/pyvenv.cfg", "venv/lib/a.py", "pkg/env-3/pyvenv.cfg", "node_modules/a.js")
    write(source, "outputs/model.h5", "logs/old.log")
    assert taken(source, copy) == CODE


def test_the_snapshot_is_private(source: Path, copy: Path) -> None:
    taken(source, copy)
    assert {stat.S_IMODE(p.stat().st_mode) for p in (copy, copy / "pkg")} == {0o700}


def test_modes_and_times_are_kept(source: Path, copy: Path) -> None:
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o750)
    os.utime(source / "run.sh", (1_000_000_000, 1_000_000_000))
    taken(source, copy)
    found = (copy / "run.sh").stat()
    assert (stat.S_IMODE(found.st_mode), int(found.st_mtime)) == (0o750, 1_000_000_000)


def test_the_size_is_that_of_what_was_copied(source: Path, copy: Path) -> None:
    write(source, "outputs/huge", text="x" * 1000)
    assert take_snapshot(source, copy, 10) == len("import pkg\n")


@pytest.mark.parametrize("name", [".hpctfignore", ".amlignore", ".gitignore"])
def test_an_ignore_file_leaves_out_what_it_says(source: Path, copy: Path, name: str) -> None:
    lines = ["# data", "*.csv", "!keep.csv", "/build/", "data/*", "!data/small", "", "a b"]
    write(source, name, text="\r\n".join(lines))
    write(source, "a.csv", "keep.csv", "pkg/b.csv", "build/x", "pkg/build/x", "data/big", "a b")
    write(source, "data/small")
    kept = {*CODE, name, "keep.csv", "pkg/build/x", "data/small"}
    assert taken(source, copy) == kept


def test_the_first_ignore_file_alone_counts(source: Path, copy: Path) -> None:
    write(source, ".hpctfignore", text="a\n")
    write(source, ".gitignore", text="b\n")
    write(source, "a", "b")
    assert taken(source, copy) == {*CODE, ".hpctfignore", ".gitignore", "b"}


def test_a_line_that_is_no_pattern_is_told(source: Path, copy: Path) -> None:
    write(source, ".gitignore", text="*.csv\n!\n")
    with pytest.raises(UsageError, match=r"\.gitignore cannot be used: .*'!'"):
        taken(source, copy)


def test_a_link_within_stays_as_it_is(source: Path, copy: Path) -> None:
    (source / "pkg" / "again.py").symlink_to("../train.py")
    (source / "lib").symlink_to("pkg")
    taken(source, copy)
    assert os.readlink(copy / "pkg" / "again.py") == "../train.py"
    assert os.readlink(copy / "lib") == "pkg"
    assert (copy / "lib" / "__init__.py").exists()


def test_a_link_to_elsewhere_is_not_followed_but_still_leads_there(
    source: Path, copy: Path, tmp_path: Path
) -> None:
    write(tmp_path, "data set/x.csv", text="far away")
    (source / "data").symlink_to("../data set")
    (source / "absolute").symlink_to(tmp_path / "data set" / "x.csv")
    assert take_snapshot(source, copy, 10) < 100
    assert (copy / "data").is_symlink()
    assert (copy / "data" / "x.csv").read_text() == "far away"
    assert (copy / "absolute").read_text() == "far away"


def test_a_link_out_of_a_folder_reached_by_a_link_leads_to_the_right_place(
    source: Path, copy: Path, tmp_path: Path
) -> None:
    write(tmp_path, "data/x.csv", text="right")
    write(tmp_path, "home/data/x.csv", text="wrong")
    (source / "data").symlink_to("../data")
    (tmp_path / "home" / "proj").symlink_to(source)
    taken(tmp_path / "home" / "proj", copy)
    assert (copy / "data" / "x.csv").read_text() == "right"


def test_a_broken_link_is_no_error(source: Path, copy: Path) -> None:
    (source / "gone").symlink_to("nowhere")
    (source / "loop").symlink_to("loop")
    assert {"gone", "loop"} <= taken(source, copy)


def test_pipes_and_sockets_stay_behind(source: Path, copy: Path) -> None:
    os.mkfifo(source / "pipe")
    assert taken(source, copy) == CODE


def test_names_that_are_not_utf8_go_as_they_are(source: Path, copy: Path) -> None:
    name = b"caf\xe9.py"
    Path(os.fsdecode(bytes(source) + b"/" + name)).write_text("x")
    write(source, ".gitignore", text="*.csv\n")
    taken(source, copy)
    assert name in os.listdir(bytes(copy))


def test_too_large_a_folder_names_the_largest_files_and_copies_nothing(
    source: Path, copy: Path
) -> None:
    for name, mb in (("a.bin", 2), ("data/b.bin", 5), ("c.bin", 1), ("d.bin", 3)):
        write(source, name)
        os.truncate(source / name, mb * 1_000_000)
    with pytest.raises(UsageError) as caught:
        take_snapshot(source, copy, 10)
    assert caught.value.message == (
        f"source_directory {str(source)!r} holds 11 MB, but a run takes at most 10 MB of it. "
        "The largest: data/b.bin (5 MB), d.bin (3 MB), a.bin (2 MB)."
    )
    assert ".hpctfignore" in str(caught.value.hint)
    assert not copy.exists()
    write(source, ".hpctfignore", text="data/\n")
    assert take_snapshot(source, copy, 10) > 6_000_000


@pytest.mark.parametrize("inside", ["runs", "work/runs", "."])
def test_runs_within_the_source_folder_do_not_go_with_the_next_run(
    source: Path, inside: str
) -> None:
    root = source / inside
    for run in ("e/e_1_a", "e/e_2_b", "other/other_1_c"):
        write(root / run, "run.json", "plan.json", "snapshot/train.py", "outputs/model")
    write(source, "work/keep.py")
    copy = root / "e/e_3_d/snapshot"
    copy.parent.mkdir()
    assert taken(source, copy) == {*CODE, "work/keep.py"}


def test_the_runs_are_known_by_either_path(source: Path, tmp_path: Path) -> None:
    (source / "runs/e/e_1_a").mkdir(parents=True)
    write(source, "runs/e/e_0_z/outputs/model")
    (tmp_path / "link").symlink_to(source)
    assert taken(tmp_path / "link", source / "runs/e/e_1_a/snapshot") == CODE


def test_a_file_that_cannot_be_read_is_told_with_the_way_out(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from hpctf.source.snapshot import take_snapshot\n"
        "take_snapshot(Path('proj'), Path('copy'), 10)"
    )
    place = tmp_path
    command = [sys.executable, "-c", code]
    if os.geteuid() == 0:  # root reads everything: an ordinary user it must be
        command = ["runuser", "-u", TEST_USER, "--", *command]
        place = Path("/var/tmp") / f"hpctf-{os.getpid()}"
    write(place / "proj", "train.py", "secret.key")
    try:
        (place / "proj/secret.key").chmod(0)
        if os.geteuid() == 0:
            for path in (place, place / "proj"):
                shutil.chown(path, TEST_USER)
            can_run = subprocess.run([*command[:-1], "import hpctf"], capture_output=True)
            if can_run.returncode:
                skip_or_fail(f"{TEST_USER} cannot run hpctf here: {can_run.stderr.decode()}")
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True)
        assert "RunFolderError" in done.stderr
        assert "proj/secret.key' cannot be copied into the run: Permission denied." in done.stderr
        assert "name it in" in done.stderr and ".hpctfignore" in done.stderr
    finally:
        shutil.rmtree(place, ignore_errors=True)


def test_an_entry_script_that_stays_behind_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "proj"
    source.mkdir()
    (source / "train.py").touch()
    (source / ".gitignore").write_text("train.py\n")
    with pytest.raises(UsageError, match="an ignore file"):
        take_snapshot(source, tmp_path / "snapshot", 1, "train.py")
    assert not (tmp_path / "snapshot").exists()
