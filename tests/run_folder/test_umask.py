"""The site's umask: who else may read a run, and whose results are read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hpctf import Experiment, HpctfError, Run, TensorFlow
from hpctf.runs.checkpoints import copy_checkpoints
from hpctf.site.loading import load_site
from hpctf.site.model import Site
from hpctf.source.snapshot import take_snapshot

pytestmark = pytest.mark.slow

TRAIN = """
import os
os.mkdir("outputs/deep")
open("outputs/deep/model", "w").close()
open(os.environ["HPCTF_CHECKPOINT_DIR"] + "/one", "w").close()
"""


def site_with(umask: str) -> Site:
    return replace(load_site("local"), umask=umask)


@pytest.fixture(params=["022", "077", "000"])
def own_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """The submitting person's own umask, which must not matter."""
    before = os.umask(int(request.param, 8))
    yield
    os.umask(before)


def train(tmp_path: Path, umask: str, **asked: object) -> Run:
    source = tmp_path / "proj"
    (source / "package").mkdir(parents=True)
    (source / "train.py").write_text(TRAIN)
    (source / "train.py").chmod(0o664)
    source.chmod(0o755)  # one that everybody may write is refused
    experiment = Experiment("test", site=site_with(umask), runs_root=tmp_path / "runs")
    run = experiment.submit(TensorFlow(source, entry_script="train.py"), lambda note: None)
    run.wait_for_completion()
    return run


def modes(top: Path) -> dict[str, int]:
    """Return the permissions of a folder and of all that is in it, links left out."""
    paths = [top, *top.rglob("*")]
    return {
        str(path.relative_to(top)): stat.S_IMODE(path.stat().st_mode)
        for path in paths
        if not path.is_symlink()
    }


@pytest.mark.parametrize(
    ("umask", "folder", "file"),
    [("0077", 0o700, 0o600), ("0027", 0o750, 0o640), ("022", 0o755, 0o644)],
)
def test_all_of_a_run_follows_the_sites_umask_whatever_the_persons_own(
    own_umask: None, tmp_path: Path, umask: str, folder: int, file: int
) -> None:
    run = train(tmp_path, umask)
    found = modes(tmp_path / "runs")
    own_copies = {name: mode for name, mode in found.items() if "/snapshot/" in name}
    payload = run.folder.submitit / "payload.pkl"
    assert found.pop(str(payload.relative_to(tmp_path / "runs"))) == 0o600, "it holds secrets"
    seal = run.folder.path / "seal"
    assert found.pop(str(seal.relative_to(tmp_path / "runs"))) == 0o600, "nobody else may copy it"
    for name, mode in (found.items() - own_copies.items()) | {("", found["."])}:
        wanted = folder if (tmp_path / "runs" / name).is_dir() else file
        assert oct(mode) == oct(wanted), name
    snapshot = modes(run.folder.snapshot)
    assert (snapshot["."], snapshot["package"]) == (folder, folder)
    assert "outputs/deep/model" in run.get_file_names()
    assert (run.folder.checkpoints / "one").is_file()
    assert run.results()[0]["exit_code"] == 0  # others may read it, but not write


def test_who_may_read_a_run_may_not_change_its_code(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for mode in (0o600, 0o664, 0o777):
        (source / f"{mode:o}").touch()
        (source / f"{mode:o}").chmod(mode)
    take_snapshot(source, tmp_path / "group", 1, umask=0o027)
    assert modes(tmp_path / "group") == {".": 0o750, "600": 0o600, "664": 0o644, "777": 0o755}
    take_snapshot(source, tmp_path / "private", 1)
    assert modes(tmp_path / "private") == {".": 0o700, "600": 0o600, "664": 0o664, "777": 0o777}


def test_a_cancelled_run_is_told_to_the_group_too(tmp_path: Path) -> None:
    source = tmp_path / "proj"
    source.mkdir()
    (source / "train.py").write_text("import time\ntime.sleep(60)\n")
    experiment = Experiment("test", site=site_with("0027"), runs_root=tmp_path / "runs")
    run = experiment.submit(TensorFlow(source, entry_script="train.py"))
    run.cancel()
    assert run.wait_for_completion(raise_on_error=False).state == "Canceled"
    for path in (run.folder.cancelled, run.folder.final, run.folder.record_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_checkpoints_of_another_run_get_the_new_ones_permissions(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "deep").mkdir(mode=0o700, parents=True)
    (old / "deep/one").touch(mode=0o400)
    (old / "gone").symlink_to("nowhere")
    new.mkdir()
    copy_checkpoints(old, new, 0o027)
    assert modes(new) == {".": 0o750, "deep": 0o750, "deep/one": 0o640}


def test_a_groups_folder_hands_its_group_down(tmp_path: Path) -> None:
    tmp_path.chmod(0o2755)
    run = train(tmp_path, "0027")
    for folder in (run.folder.path, run.folder.state, run.folder.snapshot):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o2750


def test_results_that_the_group_may_write_are_not_read_and_the_umask_is_named(
    tmp_path: Path,
) -> None:
    run = train(tmp_path, "0007")
    assert stat.S_IMODE(run.folder.submitit.stat().st_mode) == 0o770
    with pytest.raises(HpctfError) as caught:
        run.results()
    assert "may be written by others (mode 770)" in caught.value.message
    assert "umask" in str(caught.value.hint) and "0027" in str(caught.value.hint)


def test_a_function_is_told_before_it_runs_that_its_value_will_not_be_read(
    tmp_path: Path,
) -> None:
    def notes(umask: str) -> str:
        experiment = Experiment("test", site=site_with(umask), runs_root=tmp_path)
        return " ".join(experiment.plan(TensorFlow(function=print)).notes)

    assert "umask is 0002" in notes("0002")
    assert "umask" not in notes("0022") + notes("0077")
