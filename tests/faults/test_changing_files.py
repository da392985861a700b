"""A source folder that changes while it is copied, and what no copy can hold."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpctf import Experiment, TensorFlow
from hpctf.errors import HpctfError, RunFolderError, UsageError
from hpctf.source import copying, snapshot
from hpctf.source.snapshot import take_snapshot
from tests.conftest import skip_or_fail
from tests.faults.conftest import Clock
from tests.support.waiting import HANGS_S

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Where the snapshot goes, in a run folder that exists."""
    (tmp_path / "runs/e/e_1_a").mkdir(parents=True)
    return tmp_path / "runs/e/e_1_a/snapshot"


@pytest.fixture
def after_the_walk(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Make something happen for certain between the walk over the folder and the copy."""

    def arrange(act: Callable[[], object]) -> None:
        check = snapshot._check_paths

        def acting(*arguments: object) -> None:
            check(*arguments)  # type: ignore[arg-type]
            act()

        monkeypatch.setattr(snapshot, "_check_paths", acting)

    return arrange


def during_the_copy(
    monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], object], times: int
) -> list[int]:
    """Make something happen for certain while a file is copied, so many times; return a count."""
    blocks, counted = copying._blocks, [0]

    def acting(path: Path, stream: object, size: int) -> Iterator[bytes]:
        for block in blocks(path, stream, size):  # type: ignore[arg-type]
            yield block
            if path.name == name and counted[0] < times:
                counted[0] += 1
                act()

    monkeypatch.setattr(copying, "_blocks", acting)
    return counted


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.fault(
    "a file is written while it is copied", "copies it again; if that fails too, names the file"
)
def test_a_log_that_is_written_all_the_time_is_named(
    source: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = source / "train.log"
    log.write_bytes(b"x" * 3_000_000)

    def write() -> None:
        with log.open("ab") as stream:
            stream.write(b"line\n")

    during_the_copy(monkeypatch, log.name, write, 1000)
    clock.injected()
    with pytest.raises(RunFolderError) as caught:
        Experiment("e", "local", tmp_path / "runs").submit(
            TensorFlow(source, entry_script="train.py")
        )
    clock.right()
    assert caught.value.message == (
        f"{str(log)!r} changed each of the 3 times that it was copied into the run."
    )
    assert ".hpctfignore" in str(caught.value.hint)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("new", [b"new" * 1_000_000, b"", b"n" * 3_000_000], ids=len)
def test_a_file_that_is_saved_meanwhile_is_copied_whole(
    source: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, new: bytes
) -> None:
    (source / "data.bin").write_bytes(b"old" * 1_000_000)

    def save() -> None:
        (source / "data.bin").write_bytes(new)
        os.utime(source / "data.bin", (1, 1))

    assert during_the_copy(monkeypatch, "data.bin", save, times=1) == [0]
    size = take_snapshot(source, copy, 10)
    assert (copy / "data.bin").read_bytes() == new
    assert size == len(new) + len("import pkg\n")


def test_a_file_that_another_replaces_is_copied_whole(
    source: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "data.bin").write_bytes(b"old" * 1_000_000)

    def replace() -> None:
        (source / "new").write_bytes(b"new" * 1_000_000)
        (source / "new").replace(source / "data.bin")

    during_the_copy(monkeypatch, "data.bin", replace, times=1)
    take_snapshot(source, copy, 10)
    assert set((copy / "data.bin").read_bytes()) in (set(b"old"), set(b"new"))


@pytest.mark.parametrize("name", [".train.py.swp", "pkg/__init__.py", "pkg"])
def test_what_vanishes_before_its_turn_is_left_out(
    source: Path, copy: Path, after_the_walk: Callable[..., None], name: str
) -> None:
    (source / ".train.py.swp").touch()
    path = source / name
    after_the_walk(lambda: shutil.rmtree(path) if path.is_dir() else path.unlink())
    take_snapshot(source, copy, 10, "train.py")
    assert {n for n in names(copy) if (copy / n).is_file()} == {
        n for n in names(source) if (source / n).is_file()
    }


def test_a_folder_that_vanishes_during_the_walk_is_left_out(
    source: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = snapshot._list

    def vanishing(folder: Path, inside: str) -> object:
        if inside == "pkg":
            shutil.rmtree(folder / "pkg")
        return listing(folder, inside)

    monkeypatch.setattr(snapshot, "_list", vanishing)
    take_snapshot(source, copy, 10, "train.py")
    assert {n for n in names(copy) if (copy / n).is_file()} == {"train.py"}


def test_a_file_that_is_removed_and_written_anew_goes_with_the_run(
    source: Path,
    copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    after_the_walk: Callable[..., None],
) -> None:
    after_the_walk((source / "pkg/__init__.py").unlink)
    anew = (source / "pkg/__init__.py").write_text
    during_the_copy(monkeypatch, "train.py", lambda: anew("anew"), times=1)
    take_snapshot(source, copy, 10)
    assert (copy / "pkg/__init__.py").read_text() == "anew"


def test_an_entry_script_that_vanishes_is_an_error(
    source: Path, tmp_path: Path, after_the_walk: Callable[..., None]
) -> None:
    after_the_walk((source / "train.py").unlink)
    with pytest.raises(RunFolderError, match=r"train.py' vanished while the source folder"):
        Experiment("e", "local", tmp_path / "runs").submit(
            TensorFlow(source, entry_script="train.py")
        )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder", "link"])
def test_a_file_that_becomes_something_else_is_never_waited_for(
    source: Path, copy: Path, after_the_walk: Callable[..., None], kind: str
) -> None:
    path = source / "pkg/__init__.py"

    def become() -> None:
        path.unlink()
        special(path, kind)

    after_the_walk(become)
    if kind == "link":
        take_snapshot(source, copy, 10)
        assert os.readlink(copy / "pkg/__init__.py") == "../train.py"
        return
    with pytest.raises(RunFolderError, match=r"__init__.py' changed each of the 3 times"):
        take_snapshot(source, copy, 10)


def special(path: Path, kind: str) -> None:
    """Make something that is no file."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.relpath(path))
    elif kind == "device":
        if os.geteuid() != 0:
            skip_or_fail("only root can make a device")
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("../train.py")


def test_what_is_no_file_is_left_out_unopened(source: Path, copy: Path) -> None:
    """A pipe would be waited for; /dev/zero would never end."""
    for kind in ("pipe", "socket", "device"):
        special(source / kind, kind)
    done = threading.Event()

    def take() -> None:
        take_snapshot(source, copy, 10)
        done.set()

    threading.Thread(target=take, daemon=True).start()
    assert done.wait(HANGS_S), "the snapshot waits for something that is no file"
    assert names(copy) == {"train.py", "pkg", "pkg/__init__.py"}


@pytest.mark.parametrize("grows", [False, True], ids=["is", "grows"])
def test_a_huge_file_is_named_and_nothing_is_left(
    source: Path, tmp_path: Path, after_the_walk: Callable[..., None], grows: bool
) -> None:
    """Its length counts, holes and all: a reader gets that many bytes."""
    (source / "data.bin").touch()

    def grow() -> None:
        os.truncate(source / "data.bin", 1 << 40)

    if grows:
        after_the_walk(grow)
    else:
        grow()
    with pytest.raises(UsageError) as caught:
        Experiment("e", "local", tmp_path / "runs").submit(
            TensorFlow(source, entry_script="train.py")
        )
    assert "The largest: data.bin (1099512 MB)" in caught.value.message
    assert not (tmp_path / "runs").exists()


def test_a_log_that_grows_faster_than_it_is_copied_ends_all_the_same(
    source: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = source / "train.log"
    log.write_bytes(b"x")

    def grow() -> None:
        with log.open("ab") as stream:
            stream.write(b"y" * 2_000_000)

    counted = during_the_copy(monkeypatch, "train.log", grow, times=1000)
    with pytest.raises(HpctfError):
        take_snapshot(source, copy, 100)
    assert counted[0] < 20


@pytest.mark.parametrize(
    ("link", "leads_to", "reads"),
    [
        ("inside", "train.py", "copy"),
        ("chain", "inside", "copy"),
        ("pkg/up", "../train.py", "copy"),
        ("folder", "pkg", None),
        ("absolute", "{source}/train.py", "copy"),
        ("pkg/absolute", "{source}/train.py", "copy"),
        ("round about", "../proj/train.py", "copy"),
        ("outside", "../data.csv", "data"),
        ("far away", "{source}/../data.csv", "data"),
        ("twice", "outside", "data"),
        ("ignored", "big/x", "big"),
        ("through", "elsewhere/../data.csv", "wrong way round"),
        ("nowhere", "not yet", None),
        ("nowhere else", "../not yet", None),
        ("loop", "loop", None),
        ("loops", "loop", None),
        ("here", ".", None),
        ("old", "outputs/model", None),
    ],
)
def test_links_lead_to_the_copy_or_to_the_same_place_as_before(
    source: Path, copy: Path, tmp_path: Path, link: str, leads_to: str, reads: str | None
) -> None:
    (tmp_path / "data.csv").write_text("data")
    (tmp_path / "other/deep").mkdir(parents=True)
    (tmp_path / "other/data.csv").write_text("wrong way round")
    for folder in ("big", "outputs"):
        (source / folder).mkdir()
    (source / "big/x").write_text("big")
    (source / "outputs/model").touch()
    (source / ".gitignore").write_text("big/\n")
    (source / "elsewhere").symlink_to("../other/deep")
    (source / "inside").symlink_to("train.py")
    (source / "outside").symlink_to("../data.csv")
    (source / "loop").symlink_to("loop")
    if not os.path.lexists(source / link):
        (source / link).symlink_to(leads_to.format(source=source))
    take_snapshot(source, copy, 10)
    assert (copy / link).is_symlink()
    (copy / "train.py").write_text("copy")
    if reads is not None:
        assert (copy / link).read_text() == reads
    elif link in ("folder", "here"):
        assert (copy / link / "__init__.py").exists() == (link == "folder")
        assert (copy / link).resolve().is_relative_to(copy)
    else:
        assert not (copy / link).exists()


def test_an_entry_script_may_be_reached_by_links(source: Path, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/train.py").write_text("print('shared')")
    (source / "lib").symlink_to("pkg")
    (source / "pkg/fit.py").write_text("print('own')")
    (source / "far").symlink_to(tmp_path / "shared")
    (source / "link.py").symlink_to("train.py")
    experiment = Experiment("e", "local", tmp_path / "runs")
    for script in ("lib/fit.py", "far/train.py", "link.py"):
        run = experiment.submit(TensorFlow(source, entry_script=script))
        assert run.wait_for_completion().state == "Completed"


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
@pytest.mark.parametrize("name", ["outputs", "logs"])
def test_outputs_and_logs_stay_behind_whatever_they_are(
    source: Path, tmp_path: Path, kind: str, name: str
) -> None:
    if kind == "file":
        (source / name).write_text("old")
    else:
        special(source / name, kind)
    run = Experiment("e", "local", tmp_path / "runs").submit(
        TensorFlow(source, entry_script="train.py")
    )
    assert run.wait_for_completion().state == "Completed"
    assert (run.folder.snapshot / "outputs").resolve() == run.folder.outputs.resolve()
    assert not os.path.lexists(run.folder.snapshot / "logs")


def test_hard_links_modes_and_empty_folders(source: Path, copy: Path) -> None:
    os.link(source / "train.py", source / "same.py")
    (source / "empty/er").mkdir(parents=True)
    for mode in (0o400, 0o444, 0o600, 0o755, 0o777, 0o040, 0o4755, 0o2755):
        (source / f"{mode:o}").touch()
        (source / f"{mode:o}").chmod(mode)
    take_snapshot(source, copy, 10)
    assert (copy / "same.py").read_text() == (copy / "train.py").read_text() == "import pkg\n"
    assert not (copy / "same.py").samefile(copy / "train.py")
    assert (copy / "empty/er").is_dir()
    for mode, kept in ((0o400, 0o400), (0o755, 0o755), (0o777, 0o777), (0o040, 0o440)):
        assert stat.S_IMODE((copy / f"{mode:o}").stat().st_mode) == kept
    for mode in (0o4755, 0o2755):  # who runs a copy is not who owned the program
        assert stat.S_IMODE((copy / f"{mode:o}").stat().st_mode) == 0o755


def test_folders_too_deep_to_be_removed_again_are_refused(source: Path, tmp_path: Path) -> None:
    deep = source.joinpath("deep", *["d"] * 300)
    deep.mkdir(parents=True)
    experiment = Experiment("e", "local", tmp_path / "runs")
    with pytest.raises(UsageError, match="holds folders more than 200 deep, in 'deep'"):
        experiment.submit(TensorFlow(source, entry_script="train.py"))
    assert not (tmp_path / "runs").exists()


def test_a_path_that_is_too_long_in_the_run_only_is_refused(source: Path, tmp_path: Path) -> None:
    here = os.getcwd()
    os.chdir(source)  # the whole path would be too long for one call
    try:
        for _ in range(15):
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
        open("x", "w").close()
    finally:
        os.chdir(here)
    root = tmp_path.joinpath("runs", *["r" * 200] * 2)
    with pytest.raises(HpctfError, match="more than 4095 bytes"):
        Experiment("e", "local", root).submit(TensorFlow(source, entry_script="train.py"))
    assert not (root / "e").exists()
    shutil.rmtree(source)
