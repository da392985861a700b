"""Estimator + site → how the training is entered: in the plan, and in the batch script."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpctf.common.paths import PACKAGE
from hpctf.errors import SiteError, UsageError
from hpctf.plan import Plan
from hpctf.site.model import ContainerSettings, MpiSettings, Site
from hpctf.submission.script import render
from tests.support.projects import planned, project, site_of


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.sif").touch()
    return project(tmp_path / "proj")


def with_containers(name: str = "slurm", **settings: Any) -> Site:
    return site_of(name, containers=ContainerSettings(**settings))


def test_apptainer_is_what_each_rank_calls(source: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    site = with_containers(binds=("/scratch", "/opt/x:/opt/x:ro"), options=("--cleanenv",))
    plan = planned(source, site, container="x.sif", inputs={"d": str(tmp_path / "data")}).plan
    container = plan.entry.container
    assert container is not None
    assert container.image == str(tmp_path / "x.sif")
    words = " ".join(container.command)
    assert words.startswith("apptainer exec --cleanenv --bind /shared/runs/e/e_1_a --bind ")
    for bind in (f"{PACKAGE}:{PACKAGE}:ro", f"{tmp_path}/data", "/scratch", "/opt/x:/opt/x:ro"):
        assert f"--bind {bind}" in words
    assert container.gpu_options == ("--nv",)
    assert plan.entry.command == ("python3", "train.py")
    assert Plan.from_json(plan.to_json()) == plan
    assert "command -v apptainer >/dev/null ||" in render(plan)


def test_a_sites_own_gpu_option_is_enough(source: Path) -> None:
    plan = planned(source, with_containers(options=("--rocm",)), container="x.sif").plan
    assert plan.entry.container is not None
    assert plan.entry.container.gpu_options == ()


def test_the_containers_python_may_be_named(source: Path) -> None:
    plan = planned(
        source, with_containers(), container="x.sif", python="/opt/conda/bin/python"
    ).plan
    assert plan.entry.python == "/opt/conda/bin/python"


def test_an_image_that_every_node_fetches_is_told(source: Path) -> None:
    notes = planned(source, container="docker://tf:1").notes
    assert any("apptainer build image.sif docker://tf:1" in note for note in notes)
    assert planned(source, container="x.sif").notes == ()


@pytest.mark.parametrize(
    ("image", "named"),
    [
        ("docker://tensorflow/tensorflow:2.15", "tensorflow/tensorflow:2.15"),
        ("docker://nvcr.io/nvidia/tensorflow:24", "nvcr.io#nvidia/tensorflow:24"),
        ("docker://localhost/tf", "localhost#tf"),
        ("docker://nvcr.io#nvidia/tensorflow:24", "nvcr.io#nvidia/tensorflow:24"),
    ],
)
@pytest.mark.parametrize("backend", ["single", "mpi", "ps", "collective"])
def test_pyxis_is_sruns_own(source: Path, image: str, named: str, backend: str) -> None:
    """Pyxis cannot be had here: that srun takes the options is its own word."""
    site = with_containers(
        runtime="pyxis", binds=("/scratch",), options=("--no-container-mount-home",)
    )
    plan = planned(source, site, container=image, distributed_backend=backend).plan
    assert plan.entry.container is None
    assert (plan.entry.python, plan.launch.rank_python) == ("python3", "python3")
    text = render(plan)
    words = shlex.split(text[text.index("\nsrun") : text.index("\nstatus=$?")])
    mounts = f"/shared/runs/e/e_1_a:/shared/runs/e/e_1_a,{PACKAGE}:{PACKAGE}:ro,/scratch:/scratch"
    start = f"{PACKAGE}/node/start.py"
    steps = 2 if backend == "ps" else 1
    options = (f"--container-image={named}", f"--container-mounts={mounts}")
    for option in (*options, "--no-container-mount-home", "python3"):
        assert words.count(option) == steps
    command = words[words.index("python3") :]
    assert command[:5] == ["python3", "-I", "-S", start, "rank"]
    assert f"exec {sys.executable} -I -S {start} conclude" in text  # outside
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


def test_pyxis_needs_srun(source: Path) -> None:
    site = site_of(
        "slurm",
        containers=ContainerSettings(runtime="pyxis"),
        mpi=MpiSettings(launcher="mpirun"),
    )
    with pytest.raises(SiteError, match="which is srun's"):
        planned(source, site, container="tf:1", distributed_backend="mpi")
    with pytest.raises(SiteError, match="has no Slurm"):
        planned(source, with_containers("local", runtime="pyxis"), container="tf:1")


def test_modules_of_the_site_come_before_the_persons(source: Path) -> None:
    site = site_of("slurm", modules=("site/1", "both"))
    plan = planned(source, site, modules=["mine/2", "both"]).plan
    assert plan.launch.modules == ("site/1", "both", "mine/2")
    assert plan.entry.python == "python3"
    assert "module load site/1 both mine/2" in render(plan)


def test_a_sites_modules_alone_leave_the_python_as_it_is(source: Path) -> None:
    plan = planned(source, site_of("slurm", modules=("site/1",))).plan
    assert plan.entry.python == sys.executable
    named = planned(source, site_of("slurm", modules=("site/1",)), python="python3.12").plan
    assert named.entry.python == "python3.12"  # which one that is, the modules say on the node


def test_a_script_without_modules_is_as_short_as_ever(source: Path) -> None:
    text = render(planned(source).plan)
    assert "module" not in text
    assert "LD_LIBRARY_PATH" not in text


@pytest.fixture
def squashfs(tmp_path: Path) -> str:
    path = tmp_path / "x.sqfs"
    path.write_bytes(b"hsqs and more")
    return str(path)


def with_ch_run(**settings: Any) -> Site:
    return with_containers(runtime="charliecloud", **settings)


def test_ch_run_is_what_each_rank_calls(source: Path, squashfs: str, tmp_path: Path) -> None:
    (tmp_path / "data.csv").touch()
    (tmp_path / "folder").mkdir()
    site = with_ch_run(binds=("/scratch", "/opt/x:/opt/y"), options=("--unset-env=CONDA*",))
    inputs = {"d": str(tmp_path / "data.csv")}
    plan = planned(source, site, container=squashfs, inputs=inputs).plan
    container = plan.entry.container
    assert container is not None
    assert container.command[:2] == ("ch-run", "--write-fake")
    assert container.command[-6:] == (
        "--unset-env=CONDA*",
        "--bind=/shared/runs/e/e_1_a",
        f"--bind={PACKAGE}",
        f"--bind={tmp_path}",  # a file is seen with its folder
        "--bind=/scratch",
        "--bind=/opt/x:/opt/y",
    )
    assert (container.image, container.after, container.replaced) == (squashfs, ("--",), False)
    assert container.gpu_options == ()
    assert Plan.from_json(plan.to_json()) == plan
    assert "command -v ch-run >/dev/null ||" in render(plan)
    folder = planned(source, site, container=tmp_path / "folder").plan.entry.container
    assert folder is not None and folder.replaced


@pytest.mark.parametrize("option", ["-w", "-W", "--write", "--write-fake=1g"])
def test_a_site_says_how_an_image_is_written(source: Path, squashfs: str, option: str) -> None:
    container = planned(source, with_ch_run(options=(option,)), container=squashfs).plan.entry
    assert container.container is not None
    words = container.container.command
    assert [word for word in words if word.lower().startswith(("--w", "-w"))] == [option]


@pytest.mark.parametrize(
    ("image", "hint"),
    [
        ("docker://nvcr.io/nvidia/tf:24.1", "ch-image pull nvcr.io/nvidia/tf:24.1 && ch-convert"),
        ("tf:1", "ch-convert tf:1 tf-1.sqfs; then --container tf-1.sqfs"),
        ("x.sif", "apptainer build --sandbox x "),
        ("x.tar.gz", "/x.tar.gz x.sqfs; then --container x.sqfs"),
    ],
)
def test_what_ch_run_does_not_run_is_refused_before_the_queue(
    source: Path, tmp_path: Path, image: str, hint: str
) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(UsageError) as caught:
        planned(source, with_ch_run(), container=image)
    assert hint in (caught.value.hint or "")


def test_ch_run_cannot_bind_read_only(source: Path, squashfs: str) -> None:
    with pytest.raises(SiteError, match="read-only, which ch-run cannot do"):
        planned(source, with_ch_run(binds=("/a:/a:ro",)), container=squashfs)


@pytest.mark.parametrize("name", ["a,b", "a:b"])
def test_an_input_is_not_taken_for_two_folders(source: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match="commas and colons"):
        planned(source, container="x.sif", inputs={"d": str(tmp_path / name)})
