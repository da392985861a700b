"""What gets installed is whole: hpctf works from a wheel, far from its checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT, skip_or_fail
from tests.support.projects import project

pytestmark = pytest.mark.slow

KINDS = ("templates", "site-configs", "docs")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of what is built: without what earlier builds left in ``build/``."""
    copy = tmp_path_factory.mktemp("build") / "hpctf"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("hpctf", *KINDS):
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=ignore)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def built(checkout: Path) -> Path:
    """A folder with the sdist, and the wheel made from that, as package indexes get them."""
    command = [sys.executable, "-m", "build", "--quiet", "--outdir", checkout / "dist", checkout]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        skip_or_fail(f"hpctf cannot be built here: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return checkout / "dist"


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    return next(built.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which hpctf comes from the wheel, and the rest from this Python."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", target, wheel], check=True)
    return {"PYTHONPATH": f"{target}:{sysconfig.get_path('purelib')}", "TARGET": str(target)}


def content_of(package: Path) -> set[str]:
    """Return every file of the checkout's package, all of which must be installed."""
    folders = (package, *(package / kind for kind in KINDS))  # links, which rglob leaves alone
    files = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    names = {str(path.relative_to(package.parent)) for path in files}
    left_out = ("__pycache__", "docs/assets/", "schema.json")  # the last two: the site's, editors'
    return {name for name in names if not any(part in name for part in left_out)}


def test_the_checkout_has_what_the_next_tests_look_for() -> None:
    names = content_of(ROOT / "hpctf")
    assert {"hpctf/templates/base.sbatch.j2", "hpctf/site-configs/slurm.yaml"} <= names
    assert {"hpctf/docs/README.md", "hpctf/docs/troubleshooting/cuda.md"} <= names
    assert {"hpctf/node/start.py", "hpctf/node/function_call.py", "hpctf/node/server.py"} <= names


def test_the_wheel_holds_every_module_and_data_file(wheel: Path, checkout: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert content_of(checkout / "hpctf") - names == set()
    extra = {name for name in names if not name.startswith("hpctf-")}
    assert extra - content_of(checkout / "hpctf") == set()


def test_the_sdist_holds_every_module_and_data_file(sdist: Path, checkout: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert content_of(checkout / "hpctf") - names == set()
    assert {"setup.cfg", "pyproject.toml", "LICENSE"} <= names


def run(words: list[str], cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    # -S: this Python's own site-packages, where the checkout is installed editable, stay out
    command = [sys.executable, "-S", "-c", "from hpctf.cli import main; main()", *words]
    environment = {**os.environ, **env, "HPCTF_RUNS_ROOT": str(cwd / "runs")}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_installed_package_is_the_one_that_runs(
    installed: dict[str, str], tmp_path: Path
) -> None:
    code = "import hpctf, hpctf.common.paths as r; print(hpctf.__file__); print(r.TEMPLATES)"
    env = {**os.environ, **installed}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert all(line.startswith(installed["TARGET"]) for line in done.stdout.splitlines())
    assert not any(path.is_symlink() for path in Path(installed["TARGET"]).rglob("*"))


def test_sites_and_dry_runs_work_far_from_the_checkout(
    installed: dict[str, str], tmp_path: Path
) -> None:
    listed = run(["site", "list"], tmp_path, installed)
    assert "slurm-mpirun" in listed.stdout, listed.stderr
    project(tmp_path / "proj")
    for backend in ("single", "mpi", "ps", "collective"):
        words = ["submit", "--dry-run", "--site", "slurm", "--backend", backend, "proj/train.py"]
        done = run(words, tmp_path, installed)
        assert done.returncode == 0, done.stderr
        assert f"{installed['TARGET']}/hpctf/node/start.py rank" in done.stdout


def test_pages_of_the_documentation_come_along(installed: dict[str, str], tmp_path: Path) -> None:
    done = run(["docs", "troubleshooting/cuda"], tmp_path, installed)
    assert done.stdout.startswith("# No usable GPU\n"), done.stderr
    listed = run(["docs"], tmp_path, installed)
    assert "How-to guides" in listed.stdout, listed.stderr


def test_the_version_is_told(installed: dict[str, str], tmp_path: Path) -> None:
    done = run(["--version"], tmp_path, installed)
    assert done.stdout == "0.1.0\n", done.stderr


def test_a_checkout_runs_without_being_installed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "hpctf", tmp_path / "hpctf", symlinks=True)
    for name in KINDS:
        shutil.copytree(ROOT / name, tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-m", "hpctf", "site", "list"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "slurm-mpirun" in done.stdout
