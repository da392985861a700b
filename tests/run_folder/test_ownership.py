"""A stranger's run: it is looked at, and nothing of it is executed or leads outside of it."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pwd
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hpctf import Run
from hpctf.common.processes import start_time
from hpctf.errors import HpctfError, RunFolderError, SchedulerError
from hpctf.export.event_files import EventFiles, find_python
from hpctf.notebook.cards import experiment_card, run_card
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.ownership import SEAL, is_mine
from hpctf.runs.housekeeping.archives import archive, restore
from tests.conftest import TEST_USER, skip_or_fail
from tests.support.every_command import about_runs, filled, run_all
from tests.support.projects import hpctf

CANARY = "the-readers-own-secret"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A folder of the reader's own with what must never be shown."""
    folder = tmp_path / "reader"
    folder.mkdir()
    for name in ("key.png", "worker-0.log", "worker-0.jsonl", "child.json", "plain"):
        (folder / name).write_text(json.dumps({"name": CANARY, "value": 1, "time": 1.0}) + "\n")
    return folder


def give_away(run: Run) -> None:
    if os.geteuid() != 0:
        skip_or_fail("only root can give a file away")
    for path in [run.folder.path, *run.folder.path.rglob("*")]:
        os.chown(path, pwd.getpwnam(TEST_USER).pw_uid, -1, follow_symlinks=False)


def replaced(path: Path, target: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


PLANTED = [
    {
        "logs/worker-0.log": "worker-0.log",
        "logs/job.log": "plain",
        "metrics/worker-1.jsonl": "worker-0.jsonl",
        "outputs/stolen": "plain",
        "outputs/events.out.tfevents.1.x": "plain",
        "artifacts/key.png": "key.png",
        "children/one": ".",
        "job.sbatch": "plain",
        "environment.lock": "plain",
        "snapshot/train.py": "plain",
        "snapshot/deep": ".",
        "state/worker-0.jsonl": "worker-0.jsonl",
        "state/last.json": "child.json",
    },
    {"metrics": ".", "outputs": ".", "artifacts": ".", "children": "..", "logs": "."},
    {"state": ".", "snapshot": ".", "metrics/worker-0.jsonl": "worker-0.jsonl"},
]
"""Links by name, and what in the reader's folder they lead to."""


def commands(run: str, other: str, out: Path, python: str, slow: bool) -> list[list[str]]:
    """Return every command about runs, and further ways to call some; MLflow's is `slow`."""
    calls = [call for call in about_runs() if call[1] != "mlflow" or (slow and "--json" in call)]
    more = [
        ["logs", run, "--role", "job"], ["download", run, "logs/", "--to", str(out / "logs")],
        ["export", "csv", run], ["resubmit", "--trust", "--dry-run", run],
        ["result", "--trust", run], ["metrics", "--csv", "--recursive", run],
    ]  # fmt: skip
    for number, call in enumerate(calls):
        if call[0] == "tensorboard":  # it goes on; test_board.py looks at what it shows
            continue
        words = [python if word == "/bin/false" else word for word in call]
        more.append(filled(words, run, other, out / str(number)))
    return sorted(more, key=lambda words: words[0] == "archive")


def test_no_command_reads_what_links_of_a_strangers_run_lead_to(
    run: Run, secret: Path, tmp_path: Path, tools_python: str
) -> None:
    (run.folder.metrics / "worker-0.jsonl").write_text(
        json.dumps({"name": "picture", "image": "key.png", "time": 1.0}) + "\n"
    )
    env = {"HPCTF_RUNS_ROOT": str(run.folder.root)}
    for number, links in enumerate(PLANTED):
        path = run.folder.root / "test" / f"planted_{number}_aaaaaa"
        shutil.copytree(run.folder.path, path, symlinks=True)
        for name, target in links.items():
            replaced(path / name, secret / target)
        give_away(Run(path))
        out = tmp_path / f"out-{number}"
        out.mkdir()
        card = experiment_card("test", run.folder.root)
        with contextlib.suppress(HpctfError):
            card += run_card(RunFolder(path))
        assert CANARY not in card
        calls = commands(path.name, run.id, out, tools_python, slow=not number)
        for said in run_all(calls, tools_python, out, env):
            assert said.code in (0, 1, 2, 3), (number, said)
            assert "Traceback" not in said.text and CANARY not in said.text, (number, said)
        assert said.words[0] == "archive" and f"belongs to {TEST_USER}" in said.text
        assert path.exists(), "a stranger's run stays where it is"
        for file in filter(Path.is_file, out.rglob("*")):
            assert CANARY.encode() not in file.read_bytes(), file


def test_links_within_a_strangers_run_and_out_of_ones_own_are_followed(
    run: Run, secret: Path, tmp_path: Path
) -> None:
    (run.folder.outputs / "inside").symlink_to("said.txt")
    (run.folder.outputs / "absolute").symlink_to(run.folder.outputs / "said.txt")
    (run.folder.outputs / "outside").symlink_to(secret / "plain")
    os.mkfifo(run.folder.outputs / "pipe")
    mine = {"outputs/inside", "outputs/absolute", "outputs/said.txt", "outputs/outside"}
    assert mine == {name for name in run.get_file_names() if name.startswith("outputs/")}
    give_away(run)
    theirs = {name for name in run.get_file_names() if name.startswith("outputs/")}
    assert theirs == mine - {"outputs/outside"}
    assert run.download_file("outputs/inside", tmp_path / "x").read_text() == "hello"


def test_no_python_of_a_strangers_run_is_started(run: Run, tmp_path: Path) -> None:
    """Python names one that leaves a mark; hpctf's own cannot serve, since it is named here."""
    mark, program = tmp_path / "MARK", tmp_path / "python"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    plan = json.loads(run.folder.plan_file.read_text())
    plan["entry"]["python"] = str(program)
    run.folder.plan_file.write_text(json.dumps(plan))
    give_away(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(Exception, match="your own runs"):
            find_python([Run(run.folder)])
        assert not mark.exists()
        for path in [run.folder.path, *run.folder.path.rglob("*")]:
            os.chown(path, os.geteuid(), -1, follow_symlinks=False)
        assert find_python([Run(run.folder)]) == str(program)
    assert mark.exists()


def copied(run: Run, tmp_path: Path) -> Run:
    """``cp -r`` of a run that is a stranger's: they cannot read the seal."""
    away = tmp_path / "theirs"
    shutil.copytree(run.folder.path, away, symlinks=True)
    (away / SEAL).unlink()
    shutil.rmtree(run.folder.path)
    shutil.copytree(away, run.folder.path, symlinks=True)
    return Run(run.folder)


def forged(run: Run, tmp_path: Path) -> Run:
    """A stranger's archive that brings a seal along."""
    (run.folder.path / SEAL).write_text("0" * 64)
    file = tmp_path / "theirs.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        tar.add(run.folder.path, f"test/{run.id}")
    shutil.rmtree(run.folder.path)
    return Run(restore(run.folder.root, str(file)))


def changed(run: Run, tmp_path: Path) -> Run:
    """The person's own archive, signed, in which somebody has changed a byte."""
    root = run.folder.root
    file = archive(root, [run.folder])[0].file
    data = file.read_bytes()
    plain = gzip.decompress(data).replace(b"hello", b"hullo")
    file.write_bytes(gzip.compress(plain) + data[-91:])
    return Run(restore(root, str(file)))


def again(run: Run, tmp_path: Path) -> Run:
    """A forged one that the reader has archived and restored since."""
    one = forged(run, tmp_path)
    file = archive(one.folder.root, [one.folder])[0].file
    return Run(restore(one.folder.root, str(file)))


@pytest.mark.parametrize("how", [copied, forged, changed, again])
def test_a_run_that_came_from_elsewhere_is_not_the_users_own(
    run: Run, tmp_path: Path, how: Callable[[Run, Path], Run]
) -> None:
    came = how(run, tmp_path)
    assert not is_mine(came.folder.path)
    with pytest.raises(RunFolderError, match="not submitted by you") as caught:
        came.results()
    assert caught.value.exit_code == 3
    with pytest.raises(RunFolderError, match="would run as you"):
        came.resubmit()
    assert came.results(trust=True)[0]["exit_code"] == 0
    assert hpctf("result", came.id, cwd=tmp_path).returncode == 3
    assert hpctf("result", "--trust", came.id, cwd=tmp_path).returncode == 0


def test_a_strangers_run_is_not_cancelled_by_what_its_record_names(run: Run) -> None:
    """Its record names a process of the reader's."""
    with subprocess.Popen(["sleep", "60"]) as process:
        for path in [run.folder.final, *run.folder.state.glob("*.jsonl")]:
            path.unlink()
        run.folder.update_record(
            job_id=str(process.pid),
            job_host=os.uname().nodename,
            job_start_time=start_time(process.pid),
        )
        give_away(run)
        with pytest.raises(SchedulerError, match=f"belongs to {TEST_USER}"):
            run.cancel()
        assert process.poll() is None
        process.kill()


@pytest.mark.parametrize("name", ["/{0}/x", "../../{0}", "a/../../../x", "..", "a\0b", "x" * 5000])
def test_a_childs_name_leads_nowhere(run: Run, tmp_path: Path, name: str) -> None:
    child = run.folder.path / "children" / "one"
    (child / "metrics").mkdir(parents=True)
    about = {"id": "one", "name": name.format(tmp_path / "elsewhere"), "created": 1.0}
    (child / "child.json").write_text(json.dumps(about))
    point = {"name": "loss", "value": 1.0, "time": 1.0}
    (child / "metrics/worker-0.jsonl").write_text(json.dumps(point) + "\n")
    files = EventFiles.__new__(EventFiles)
    files._top, files._of_events, files._sent = tmp_path / "board", False, {}
    folders = [Path(point["folder"]) for point in files._new(run)]
    assert folders and all(
        Path(os.path.normpath(folder)).is_relative_to(tmp_path / "board") for folder in folders
    )


@pytest.mark.parametrize("role", ["/etc/passwd", "../../x", "", 5, None])
def test_a_role_that_no_plan_has_names_no_file(run: Run, tmp_path: Path, role: object) -> None:
    plan = json.loads(run.folder.plan_file.read_text())
    plan["roles"][0]["name"] = role
    run.folder.plan_file.write_text(json.dumps(plan))
    done = hpctf("logs", run.id, cwd=tmp_path)
    assert done.returncode == 3 and "Traceback" not in done.stderr, done.stderr
