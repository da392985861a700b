"""What a script writes beside ./outputs is found: ``hpctf files`` and ``hpctf download``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpctf import Experiment, Run, TensorFlow
from tests.support.counted import counted
from tests.support.projects import hpctf

SCRIPT = """
import os
os.makedirs("deep/er")
for name in ("checkpoint-1.h5", "deep/er/ckpt.index", "outputs/model.keras"):
    open(name, "w").write(name)
open(os.environ["HPCTF_CHECKPOINT_DIR"] + "/ckpt-7", "w").write("kept for restarts")
open("config.yaml", "a").write("changed: true")
open("same.txt").read()
os.utime("data/touched.txt")
os.mkdir("__pycache__")
open("__pycache__/train.pyc", "w").write("")
os.symlink("checkpoint-1.h5", "latest")
os.symlink("/etc/hostname", "outside")
os.symlink("/etc", "folder")
os.symlink("nowhere", "broken")
os.mkfifo("pipe")
"""

ADDED = {
    "checkpoints/ckpt-7",
    "snapshot/checkpoint-1.h5",
    "snapshot/config.yaml",
    "snapshot/data/touched.txt",
    "snapshot/deep/er/ckpt.index",
    "snapshot/latest",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "data").mkdir()
    for name in ("same.txt", "config.yaml", "data/touched.txt", "data/other.txt"):
        (folder / name).write_text(name)
        os.utime(folder / name, (1e9, 1e9))
    (folder / "linked.txt").symlink_to("same.txt")
    (folder / "train.py").write_text(SCRIPT)
    return folder


@pytest.fixture
def run(experiment: Experiment, project: Path) -> Run:
    run = experiment.submit(TensorFlow(project, entry_script="train.py"))
    run.wait_for_completion()
    return run


def test_what_the_script_wrote_is_listed_and_downloaded(run: Run, tmp_path: Path) -> None:
    names = set(run.get_file_names())
    own = {name for name in names if not name.startswith("logs/")}
    assert own == ADDED | {"outputs/model.keras"}
    root = ["--site", "local"]
    listed = hpctf("files", run.id, *root, cwd=tmp_path).stdout.splitlines()
    assert set(listed) == names
    done = hpctf("download", run.id, *root, "--to", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    here = tmp_path / "here"
    got = {str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()}
    assert got == own
    assert (here / "snapshot/latest").read_text() == "checkpoint-1.h5"
    assert (here / "snapshot/config.yaml").read_text() == "config.yamlchanged: true"
    done = hpctf("download", run.id, *root, "snapshot/deep", cwd=tmp_path)
    assert done.stdout == "snapshot/deep/er/ckpt.index\n"


def test_an_upload_keeps_its_name_beside_them(run: Run, tmp_path: Path) -> None:
    upload = run.folder.artifacts / "snapshot/checkpoint-1.h5"
    upload.parent.mkdir(parents=True)
    upload.write_text("uploaded")
    assert run.download_file("snapshot/checkpoint-1.h5", tmp_path / "x").read_text() == "uploaded"


def test_a_run_that_does_not_say_what_was_copied_shows_nothing_of_it(run: Run) -> None:
    (run.folder.path / "snapshot.json").write_text("[]")
    assert not [name for name in run.get_file_names() if name.startswith("snapshot/")]
    (run.folder.path / "snapshot.json").unlink()
    assert not [name for name in run.get_file_names() if name.startswith("snapshot/")]


def test_a_snapshot_that_is_a_link_is_not_followed(run: Run, project: Path, tmp_path: Path) -> None:
    run.folder.snapshot.rename(tmp_path / "moved")
    run.folder.snapshot.symlink_to(tmp_path / "moved")
    assert not [name for name in run.get_file_names() if name.startswith("snapshot/")]


def test_each_file_costs_one_more_look(run: Run, tmp_path: Path) -> None:
    def opened(number: int) -> int:
        for n in range(number):
            (run.folder.snapshot / f"part-{n}").write_text(str(n))
        done = counted("files", run.id, cwd=tmp_path)
        return sum(n for name, n in done.opened.items() if name.startswith(str(run.folder.path)))

    assert opened(200) == opened(20), "files are listed, none of them opened"
