"""Ranks that do not fit together end the run with a sentence, before they train."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpctf.common.paths import STARTUP
from tests.client.test_run_context import pythons
from tests.support.mpi_ranks import of_two
from tests.support.waiting import HANGS_S

TRAIN = "import tensorflow; print('trains')"
REFUSED = 78


def environment(folder: Path, **versions: str) -> Path:
    """Make a stand-in for a training environment: packages of these versions, with nothing in."""
    for package, version in versions.items():
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(f"__version__ = '{version}'\n")
        (folder / f"{package}-{version}.dist-info").mkdir()
    return folder


class Ranks:
    """Ranks of a run, started one by one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "state").mkdir(parents=True)

    def start(
        self, rank: int, path: Path, *, code: str = TRAIN, python: str = sys.executable, **env: str
    ) -> subprocess.Popen[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HPCTF_", "PYTHON"))}
        run = {
            "PYTHONPATH": f"{STARTUP}:{path}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HPCTF_PREFLIGHT": "script",
            **of_two(self.folder, rank),
        }
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        words = [python, "-c", code]
        return subprocess.Popen(words, env={**clean, **run, **env}, text=True, **pipes)

    def run(self, rank: int, path: Path, **more: str) -> tuple[int, str, str]:
        """Return a rank's exit code, and what it said on stdout and stderr."""
        child = self.start(rank, path, **more)
        out, err = child.communicate(timeout=HANGS_S)
        return child.returncode, out, err


@pytest.fixture
def ranks(tmp_path: Path) -> Ranks:
    return Ranks(tmp_path / "run")


TRAINED = (0, "trains\n", "")


@pytest.mark.parametrize("python", pythons())
def test_ranks_that_are_alike_train_and_leave_what_they_have(
    ranks: Ranks, tmp_path: Path, python: str
) -> None:
    alike = environment(tmp_path / "site", tensorflow_cpu="2.21.0", tensorflow="2.21.0")
    assert ranks.run(0, alike, python=python) == TRAINED
    assert ranks.run(1, alike, python=python) == TRAINED
    left = json.loads((ranks.folder / "state/software-0.json").read_text())
    assert left["rank"] == "worker-0"
    assert left["versions"]["TensorFlow"] == "2.21.0"
    assert left["versions"]["Python"].startswith("3.")


@pytest.mark.parametrize("python", pythons())
def test_a_rank_that_differs_ends_with_one_sentence(
    ranks: Ranks, tmp_path: Path, python: str
) -> None:
    first = environment(tmp_path / "a", tensorflow="2.21.0", keras="3.15.1", tf_keras="2.21.0")
    other = environment(tmp_path / "b", tensorflow="2.18.1", keras="3.15.1")
    host = os.uname().nodename
    assert ranks.run(0, first, python=python) == TRAINED
    code, out, err = ranks.run(1, other, python=python)
    assert (code, out) == (REFUSED, "")
    assert err.startswith(
        f"hpctf: preflight: worker-1 on {host} has TensorFlow 2.18.1 and no tf-keras, "
        f"but worker-0 on {host} has TensorFlow 2.21.0 and tf-keras 2.21.0. "
    )
    assert err.count("\n") == 1


def test_of_many_at_once_one_is_first_and_all_that_differ_from_it_end(
    ranks: Ranks, tmp_path: Path
) -> None:
    kinds = [
        environment(tmp_path / "a", tensorflow="2.21.0"),
        environment(tmp_path / "b", tensorflow="2.18.1"),
    ]
    started = [ranks.start(rank, kinds[rank % 2]) for rank in range(12)]
    codes = [child.communicate(timeout=HANGS_S) and child.returncode for child in started]
    first = json.loads((ranks.folder / "state/software-0.json").read_text())
    kind = int(first["versions"]["TensorFlow"] == "2.18.1")
    assert codes == [0 if rank % 2 == kind else REFUSED for rank in range(12)]
    assert [path.name for path in (ranks.folder / "state").iterdir()] == ["software-0.json"]


def test_a_restarted_job_may_have_another_environment(ranks: Ranks, tmp_path: Path) -> None:
    before = environment(tmp_path / "a", tensorflow="2.18.1")
    after = environment(tmp_path / "b", tensorflow="2.21.0")
    assert ranks.run(0, before) == TRAINED
    assert ranks.run(1, after, HPCTF_RESTART_COUNT="1") == TRAINED


def test_who_insists_trains_all_the_same(ranks: Ranks, tmp_path: Path) -> None:
    assert ranks.run(0, environment(tmp_path / "a", tensorflow="2.21.0")) == TRAINED
    other = environment(tmp_path / "b", tensorflow="2.18.1")
    assert ranks.run(1, other, HPCTF_SKIP_PREFLIGHT="1") == TRAINED


def test_the_children_of_a_script_are_not_compared(ranks: Ranks, tmp_path: Path) -> None:
    """As a script that converts data in an environment of its own."""
    own = environment(tmp_path / "a", tensorflow="2.21.0")
    other = environment(tmp_path / "b", tensorflow="1.15.0")
    child = f"os.environ['PYTHONPATH'] = {f'{STARTUP}:{other}'!r}"
    code = f"import os, subprocess, sys; {child}; "
    code += f"subprocess.run([sys.executable, '-c', {TRAIN!r}], check=True); {TRAIN}"
    assert ranks.run(0, own) == TRAINED
    assert ranks.run(1, own, code=code) == (0, "trains\ntrains\n", "")


def test_programs_that_start_several_pythons_compare_each_with_its_like(
    ranks: Ranks, tmp_path: Path
) -> None:
    modes = {"HPCTF_PREFLIGHT": "program"}
    old = environment(tmp_path / "old", tensorflow="1.15.0")
    new = environment(tmp_path / "new", tensorflow="2.21.0")
    (tmp_path / "python").symlink_to(sys.executable)
    prepares = str(tmp_path / "python")
    assert ranks.run(0, old, python=prepares, **modes) == TRAINED
    assert ranks.run(0, new, **modes) == TRAINED
    assert ranks.run(1, old, python=prepares, **modes) == TRAINED
    assert ranks.run(1, old, **modes)[0] == REFUSED


def test_where_nothing_can_be_written_nothing_is_compared(ranks: Ranks, tmp_path: Path) -> None:
    (ranks.folder / "state").rmdir()
    assert ranks.run(0, environment(tmp_path / "a", tensorflow="2.21.0")) == TRAINED


@pytest.mark.parametrize(
    ("built_for", "there", "fits"),
    [
        ("2.18.0", "2.21.0", False),
        ("2.21.0", "2.21.1", True),
        ("2.21.0-rc1", "2.21.0", True),
        ("none", "2.21.0", True),
    ],
)
def test_a_horovod_built_for_another_tensorflow_ends_the_run(
    ranks: Ranks, tmp_path: Path, built_for: str, there: str, fits: bool
) -> None:
    site = environment(tmp_path / "a", tensorflow=there, horovod="0.28.1")
    (site / "horovod/tensorflow").mkdir()
    (site / "horovod/tensorflow/__init__.py").write_text("import tensorflow\nprint('trains')\n")
    (site / "horovod/metadata.json").write_text(json.dumps({"tensorflow": built_for}))
    code, out, err = ranks.run(0, site, code="import horovod.tensorflow")
    if fits:
        assert (code, out, err) == TRAINED
    else:
        assert (code, out) == (REFUSED, "")
        assert (
            f"Horovod 0.28.1 in {site}/horovod was built for TensorFlow 2.18.0, but TensorFlow "
            "2.21.0 is there."
        ) in err
        assert err.count("\n") == 1
