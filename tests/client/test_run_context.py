"""`from hpctf import Run` in a training script, wherever hpctf itself is or is not installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpctf.client.hpctf.run_context import Run
from hpctf.common.paths import CLIENT
from tests.conftest import ROOT

OF_A_JOB = {
    "HPCTF_RUN_ID": "digits_1_a",
    "HPCTF_EXPERIMENT": "digits",
    "HPCTF_ROLE": "ps",
    "HPCTF_INDEX": "1",
    "HPCTF_RANK": "3",
    "HPCTF_LOCAL_RANK": "1",
    "HPCTF_WORLD_SIZE": "4",
    "HPCTF_OUTPUTS_DIR": "/runs/digits/digits_1_a/outputs",
    "HPCTF_CHECKPOINT_DIR": "/runs/digits/digits_1_a/checkpoints",
    "HPCTF_RESTART_COUNT": "2",
}

SAY = """
import json
import hpctf
from hpctf import Run
run = Run.get_context()
told = {name: str(value) for name, value in vars(run).items()}
print(json.dumps({**told, "file": hpctf.__file__}))
"""


def pythons() -> list[str]:
    """Return this machine's Pythons of 3.8 and later: a training may have any of them."""
    found = {os.path.realpath(sys.executable): sys.executable}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places = [place for place in os.environ["PATH"].split(os.pathsep) if "shims" not in place]
    where = os.pathsep.join([*places, *map(str, pyenv.glob("versions/3.*/bin"))])
    for minor in range(8, 16):
        path = shutil.which(f"python3.{minor}", path=where)
        if path is not None:
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def say(
    python: str, *options: str, path: list[str | Path], code: str = SAY, **env: str
) -> subprocess.CompletedProcess[str]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("HPCTF_", "PYTHON"))}
    joined = os.pathsep.join(map(str, path))
    return subprocess.run(
        [python, *options, "-c", code],
        env={**plain, **env, "PYTHONPATH": joined},
        cwd="/",
        capture_output=True,
        text=True,
    )


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("python", pythons())
def test_any_python_without_hpctf_gets_the_client_alone(python: str) -> None:
    told = answer(say(python, "-S", path=[CLIENT], **OF_A_JOB))
    assert told["file"] == f"{CLIENT}/hpctf/__init__.py"
    assert (told["id"], told["experiment"], told["role"], told["index"]) == (
        "digits_1_a",
        "digits",
        "ps",
        "1",
    )
    assert (told["rank"], told["world_size"], told["restart_count"]) == ("3", "4", "2")
    assert told["outputs"] == OF_A_JOB["HPCTF_OUTPUTS_DIR"]
    assert told["checkpoints"] == OF_A_JOB["HPCTF_CHECKPOINT_DIR"]


def test_where_hpctf_is_installed_import_hpctf_is_all_of_it() -> None:
    code = "from hpctf import Experiment\nfrom hpctf.cluster_spec import tf_config\n" + SAY
    told = answer(say(sys.executable, path=[CLIENT, ROOT], code=code, **OF_A_JOB))
    assert told["file"] == str(ROOT / "hpctf/__init__.py")
    assert told["id"] == "digits_1_a"


def test_an_installed_hpctf_runs_as_a_program_in_a_training(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": f"{CLIENT}:{ROOT}"}
    words = [sys.executable, "-m", "hpctf", "--version"]
    done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "0.1.0\n"), done.stderr


def test_an_editable_install_with_a_finder_of_its_own_comes_first(tmp_path: Path) -> None:
    finder = (
        "import sys, importlib.util\n"
        "class Finder:\n"
        "    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'hpctf':\n"
        f"            return importlib.util.spec_from_file_location(name, {str(ROOT)!r} +\n"
        "                '/hpctf/__init__.py')\n"
        "sys.meta_path.append(Finder)\n"
    )
    told = answer(say(sys.executable, "-S", path=[CLIENT], code=finder + SAY, **OF_A_JOB))
    assert told["file"] == str(ROOT / "hpctf/__init__.py")


def test_a_folder_that_only_has_the_name_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "hpctf" / "data").mkdir(parents=True)
    told = answer(say(sys.executable, "-S", path=[tmp_path, CLIENT], **OF_A_JOB))
    assert told["file"] == f"{CLIENT}/hpctf/__init__.py"


def test_an_installed_hpctf_that_is_broken_says_so_itself(tmp_path: Path) -> None:
    (tmp_path / "hpctf").mkdir()
    (tmp_path / "hpctf/__init__.py").write_text("raise RuntimeError('half installed')")
    done = say(sys.executable, "-S", path=[CLIENT, tmp_path], code="import hpctf")
    assert done.stderr.endswith("RuntimeError: half installed\n")


def test_what_the_client_has_not_is_told_with_the_way_out() -> None:
    done = say(sys.executable, "-S", path=[CLIENT], code="from hpctf import Experiment")
    assert "hpctf's client (Run) alone. Install hpctf in it" in done.stderr
    done = say(sys.executable, "-S", path=[CLIENT], code="import hpctf\nhpctf.nothing")
    assert "module 'hpctf' has no attribute 'nothing'" in done.stderr


def test_outside_of_a_job_there_is_an_offline_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Run.get_context(environ={})
    assert run.offline
    assert run.id.startswith("OfflineRun_")
    assert run.id != Run.get_context(environ={}).id
    assert (run.role, run.index, run.rank, run.world_size) == ("worker", 0, 0, 1)
    assert (run.outputs, run.checkpoints) == (tmp_path / "outputs", tmp_path / "checkpoints")
    with pytest.raises(RuntimeError, match="hpctf submit"):
        Run.get_context(allow_offline=False, environ={})


def test_the_folder_of_the_client_holds_nothing_else() -> None:
    names = {path.name for path in Path(CLIENT).iterdir()} - {"__pycache__"}
    assert names == {"__init__.py", "hpctf"}
