"""A node's copies of a run's data: what they hold, what stops them, and what is left of them."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpctf.common.folders import shared_kind
from hpctf.errors import StagingError
from hpctf.node.staging import copying, step
from hpctf.node.staging.area import Area, Held
from hpctf.node.staging.held import Copies
from hpctf.node.staging.sources import look
from hpctf.run_folder.node_states import first_failed, staging_words
from tests.conftest import skip_or_fail
from tests.node.staging.nodes import Node, node
from tests.support.disks import mounted
from tests.support.waiting import wait_until


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with all that folders have."""
    top = tmp_path / "shared/data"
    (top / "part/deep").mkdir(parents=True)
    (top / "part/deep/a.bin").write_bytes(os.urandom(100_000))
    (top / "tool.sh").write_text("#!/bin/sh\n")
    (top / "tool.sh").chmod(0o755)
    (top / "empty").touch()
    (top / "first").symlink_to("part/deep/a.bin")
    outside = tmp_path / "shared/elsewhere"
    outside.mkdir()
    (outside / "b").write_text("b")
    (outside / "up").symlink_to("../x")  # of the folder that it was in: it leads nowhere
    (top / "other").symlink_to("../elsewhere")
    (top / "gone").symlink_to("nowhere")
    with (top / "holes").open("wb") as stream:
        stream.truncate(64 << 20)
        stream.seek(32 << 20)
        stream.write(b"in the middle")
    os.utime(top / "part/deep/a.bin", ns=(1, 1_600_000_000_123_456_789))
    return top


def tree(top: Path) -> dict[str, bytes | str]:
    """What a folder holds, by path: the links that stay within it as links."""
    found: dict[str, bytes | str] = {}
    for path in top.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(top))] = os.readlink(path)
        elif path.is_file():
            found[str(path.relative_to(top))] = path.read_bytes()
    return found


def test_a_copy_holds_what_the_source_does_and_goes_with_the_job(
    data: Path, tmp_path: Path
) -> None:
    one = tmp_path / "shared/one.csv"
    one.write_text("1,2\n")
    there = node(tmp_path, tmp_path / "disk", {"data": data, "one": one})
    assert there.stage() == 0, there.said

    copy = there.place()
    assert copy.name == "data" and there.place("one").read_text() == "1,2\n"
    assert there.place("one").name == "one.csv"
    wanted = tree(data)
    del wanted["other"]
    assert tree(copy) == {**wanted, "other/b": b"b", "other/up": "../x"}
    assert os.access(copy / "tool.sh", os.X_OK)
    assert (copy / "part/deep/a.bin").stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert (copy / "holes").stat().st_blocks < 1000
    assert (there.disk / f"hpctf-{os.geteuid()}").stat().st_mode & 0o777 == 0o700

    copies = Copies(str(there.folder), 0)
    assert copies.variables()["HPCTF_INPUT_DATA"] == str(copy)
    assert copies.variables()["AZUREML_DATAREFERENCE_one"] == str(there.place("one"))
    with pytest.raises(StagingError, match="has not put on record"):
        Copies(str(there.folder), 1)
    copies.leave()
    assert there.left() == []
    with pytest.raises(StagingError, match="is no longer on node"):
        Copies(str(there.folder), 0)


def test_a_step_after_the_ranks_removes_the_copies(data: Path, tmp_path: Path) -> None:
    there = node(tmp_path, tmp_path / "disk", {"data": data})
    assert there.stage() == 0 and there.left() == [f"jobs/{there.job}.0"]
    assert there.unstage() == 0 and there.left() == []
    assert there.unstage() == 0  # and once more, where nothing is left


def break_pipe(path: Path) -> None:
    os.mkfifo(path / "part/pipe")


def break_circle(path: Path) -> None:
    (path / "part/round").symlink_to(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (break_pipe, "pipe' cannot be staged: it is neither a file nor a folder"),
        (break_circle, "links in it lead round in a circle"),
    ],
)
def test_what_cannot_be_copied_is_named(
    data: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    there = node(tmp_path, tmp_path / "disk", {"data": data})
    spoil(data)
    assert there.stage() == StagingError.exit_code
    assert words in there.said and words in there.state().reason
    assert there.left() == []


def test_a_file_that_may_not_be_read_is_named(data: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        skip_or_fail("root reads everything, and nobody else can become somebody who does not")
    there = node(tmp_path, tmp_path / "disk", {"data": data})
    for path in (there.folder, there.folder / "state", there.disk):
        shutil.chown(path, "nobody")
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    (data / "empty").chmod(0)

    def become_nobody() -> None:
        os.setgroups([])
        os.setuid(65534)

    assert there.stage(become_nobody) == StagingError.exit_code
    assert "empty' cannot be staged: Permission denied" in there.state().reason


@pytest.mark.parametrize("how", ["is written to", "gets shorter", "goes", "gets a neighbour"])
def test_a_source_that_changes_meanwhile_is_noticed(
    data: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing = data / "part/deep/a.bin"
    if how == "gets a neighbour":
        changing = changing.parent

    def change() -> None:
        if how == "is written to":
            changing.write_bytes(b"b" * 100_000)
        elif how == "gets shorter":
            os.truncate(changing, 10)
        elif how == "goes":
            changing.unlink()
        else:
            (changing / "new").touch()

    def looked(path: str) -> object:
        source = look(path)
        change()
        return source

    monkeypatch.setattr(step, "look", looked)
    there = node(tmp_path, tmp_path / "disk", {"data": data})
    assert there.stage() == StagingError.exit_code
    assert f"{changing!s}' changed while it was being copied" in there.state().reason
    assert there.left() == []


def test_too_little_room_is_said_before_anything_is_copied(data: Path, tmp_path: Path) -> None:
    (data / "large").write_bytes(bytes(3 << 20))
    with mounted(tmp_path / "disk", "size=2m") as disk:
        there = node(tmp_path, disk, {"data": data})
        assert there.stage() == StagingError.exit_code
        failed = first_failed(there.folder, 0)
        assert failed is not None
        words = f"Node {os.uname().nodename} has too little room in '{disk}/hpctf-"
        assert failed.reason.startswith(words)
        assert "MB are needed, 2.1 MB are free" in failed.reason
        assert "staging.fallback=shared" in failed.hint
        assert there.left() == []

        there = node(tmp_path, disk, {"data": data}, fallback="shared")
        assert there.stage() == 0
        assert there.place() == data and there.state().state == "staged"
        assert "It reads the shared files." in there.state().notes[0]
        assert there.left() == []
        assert Copies(str(there.folder), 0).variables()["HPCTF_INPUT_DATA"] == str(data)

    with mounted(tmp_path / "small", "nr_inodes=9") as disk:
        there = node(tmp_path, disk, {"data": data})
        assert there.stage() == StagingError.exit_code
        assert "there is room for" in there.state().reason


def test_a_disk_that_becomes_full_meanwhile_is_cleaned(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "large").write_bytes(bytes(8 << 20))
    monkeypatch.setattr(Area, "free", lambda area: (1 << 40, 1 << 40))
    with mounted(tmp_path / "disk", "size=6m") as disk:
        there = node(tmp_path, disk, {"data": data})
        assert there.stage() == StagingError.exit_code
        assert "has become full: No space left on device, after" in there.state().reason
        assert there.left() == []
        assert os.statvfs(disk).f_bfree > os.statvfs(disk).f_blocks - 20


def test_a_signal_ends_it_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    there = node(tmp_path, tmp_path / "disk", {"data": data})
    go_on = tmp_path / "go"

    def be_slow() -> None:
        copy_file = copying.Copier._copy_file

        def slow(copier: copying.Copier, entry: object) -> None:
            copy_file(copier, entry)  # type: ignore[arg-type]
            while not copier._stop.is_set():
                time.sleep(0.01)
            go_on.touch()

        copying.Copier._copy_file = slow  # type: ignore[method-assign, assignment]

    def begun(path: str) -> int:
        be_slow()
        return step.stage(path)

    child = there.start(begun)
    wait_until(lambda: any(name.startswith(f"jobs/{there.job}") for name in there.left()))
    wait_until(lambda: staging_words(there.folder, 0).startswith("staging data on 1 node (0.0 of"))
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + signal.SIGTERM
    assert there.left() == [] and there.state().state == "staging"


def test_nodes_wait_for_each_other_and_end_if_one_fails(data: Path, tmp_path: Path) -> None:
    def both() -> list[Node]:
        return [
            node(tmp_path, tmp_path / "disk", {"data": data}, nodes=2, host=host) for host in "ab"
        ]

    first, second = both()
    second.folder = first.folder
    child = first.start(step.stage)
    wait_until(first.is_staged)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    assert second.stage() == 0
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert first.place().is_dir()

    first, second = both()
    second.folder = first.folder
    child = first.start(step.stage)
    wait_until(first.is_staged)
    second.variables["TMPDIR"] = "/nowhere"
    shutil.rmtree(data)
    assert second.stage() == StagingError.exit_code
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + signal.SIGTERM
    assert not first.place().exists()


def kept(tmp_path: Path, data: Path, **settings: Any) -> Node:
    """Stage `data` in one more job, and end that job."""
    there = node(tmp_path, tmp_path / "disk", {"data": data}, keep="node", **settings)
    assert there.stage() == 0, there.said
    return there


def test_a_copy_that_is_kept_is_found_again_until_the_source_changes(
    data: Path, tmp_path: Path
) -> None:
    first = kept(tmp_path, data)
    place = first.place().resolve()
    assert not (place / "tool.sh").stat().st_mode & 0o222
    assert first.unstage() == 0
    assert place.is_dir() and len(first.left()) == 1

    second = kept(tmp_path, data)
    assert "found a copy" in second.said and second.place().resolve() == place
    (data / "empty").write_text("no longer")
    third = kept(tmp_path, data)
    assert third.place().resolve() != place
    assert (third.place() / "empty").read_text() == "no longer"
    assert second.place().is_dir()

    # Somebody has changed what a job reads: others do not take it, and that job keeps it.
    changed = third.place().resolve() / "empty"
    changed.chmod(0o600)
    changed.write_text("by mistake")
    fourth = kept(tmp_path, data)
    assert (fourth.place() / "empty").read_text() == "no longer"
    assert changed.read_text() == "by mistake"


def test_contents_are_compared_where_the_site_wants_it(data: Path, tmp_path: Path) -> None:
    first = kept(tmp_path, data)
    first.unstage()
    copy = next((tmp_path / "disk").glob("*/kept/*/data/part/deep/a.bin"))
    times = copy.stat()
    copy.chmod(0o600)
    copy.write_bytes(b"x" * times.st_size)
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "found a copy" in kept(tmp_path, data).said
    for one in (tmp_path / "disk").glob("*/jobs/*"):
        shutil.rmtree(one)
    again = kept(tmp_path, data, compare="content")
    assert "found a copy" not in again.said
    found = again.place() / "part/deep/a.bin"
    assert found.read_bytes() == (data / "part/deep/a.bin").read_bytes()


def test_older_copies_give_way_but_none_that_a_job_uses(tmp_path: Path) -> None:
    sources = []
    for name in "abcd":
        (tmp_path / name).write_bytes(bytes(1 << 20))
        sources.append(tmp_path / name)
    with mounted(tmp_path / "disk", "size=3500k") as disk:
        used = kept(tmp_path, sources[0])
        for source in sources[1:3]:
            assert kept(tmp_path, source).unstage() == 0
        last = kept(tmp_path, sources[3])
        names = {path.name[0] for path in disk.glob("*/kept/*")}
        assert names == {"a", "c", "d"}
        assert used.place().is_file() and last.place().is_file()
        large = tmp_path / "large"
        large.write_bytes(bytes(3 << 20))
        there = node(tmp_path, disk, {"data": large}, keep="node")
        assert there.stage() == StagingError.exit_code
        assert used.place().is_file() and last.place().is_file()


def test_what_a_killed_job_has_left_goes_when_the_next_one_comes(
    data: Path, tmp_path: Path
) -> None:
    there = node(tmp_path, tmp_path / "disk", {"data": data})
    assert there.stage() == 0
    waiting = node(tmp_path, tmp_path / "disk", {"data": data})
    assert waiting.stage() == 0
    assert there.place().is_dir()  # its ranks may yet come
    copies = Copies(str(there.folder), 0)
    assert node(tmp_path, tmp_path / "disk", {"data": data}).stage() == 0
    assert there.place().is_dir()  # they are there
    copies._held.release()  # killed
    (tmp_path / "disk" / f"hpctf-{os.geteuid()}/kept/.x.part").mkdir()
    assert node(tmp_path, tmp_path / "disk", {"data": data}).stage() == 0
    assert not there.place().exists() and waiting.place().is_dir()
    assert not any(".part" in name for name in there.left())


def test_the_last_rank_of_a_node_that_is_taken_off_removes_the_copies(
    data: Path, tmp_path: Path
) -> None:
    there = node(tmp_path, tmp_path / "disk", {"data": data})
    assert there.stage() == 0
    first, second = (Copies(str(there.folder), 0) for _ in range(2))
    first.leave()
    assert there.place().is_dir()
    assert not Held(str(there.place().parents[1])).is_mine_alone()
    second.leave()
    assert there.left() == []


def test_two_jobs_of_one_node_copy_once(data: Path, tmp_path: Path) -> None:
    nodes = [node(tmp_path, tmp_path / "disk", {"data": data}, keep="node") for _ in range(2)]
    children = [one.start(step.stage) for one in nodes]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0, 0]
    assert nodes[0].place().resolve() == nodes[1].place().resolve()
    said = [(one.folder / "said").read_text() for one in nodes]
    assert sum("found a copy" in words for words in said) == 1


def test_a_folder_of_somebody_elses_is_refused(data: Path, tmp_path: Path) -> None:
    there = node(tmp_path, tmp_path / "disk", {"data": data})
    (tmp_path / "elsewhere").mkdir()
    (there.disk / f"hpctf-{os.geteuid()}").symlink_to(tmp_path / "elsewhere")
    assert there.stage() == StagingError.exit_code
    assert "is not a folder of yours" in there.state().reason
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("$HPCTF_NOT_SET/x", "a variable of it is not set"),
        ("/nowhere/at/all", "'/nowhere/at/all' is not a folder"),
    ],
)
def test_a_folder_that_a_node_does_not_have(
    data: Path, tmp_path: Path, folder: str, words: str
) -> None:
    there = node(tmp_path, tmp_path / "disk", {"data": data}, folder=folder)
    assert there.stage() == StagingError.exit_code
    assert f"staging.folder is {folder!r}, but on node" in there.said and words in there.said
    assert "Traceback" not in there.said


def test_the_job_s_own_tmpdir_is_where_copies_lie(data: Path, tmp_path: Path) -> None:
    there = node(tmp_path, tmp_path / "disk", {"data": data}, folder="$TMPDIR")
    there.variables["TMPDIR"] = str(there.disk)
    assert there.stage() == 0
    assert there.place().is_relative_to(there.disk)


def test_file_systems_that_nodes_share_are_known(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text(
        "/dev/sda1 / ext4 rw,relatime 0 0\n"
        "mgs:/fs /scratch lustre rw 0 0\n"
        "tmpfs /scratch/my\\040disk tmpfs rw 0 0\n"
    )
    assert shared_kind("/scratch/x", str(table)) == "lustre"
    assert shared_kind("/scratch/my disk/x", str(table)) == ""
    assert shared_kind("/scratchy", str(table)) == ""
    assert shared_kind("/", str(tmp_path / "none")) == ""
