"""hpctf where something that is usually there is not: a home, a name, a folder, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, TensorFlow, TrainingFailed
from tests.support.projects import project

pytestmark = pytest.mark.slow

MAIN = (sys.executable, "-c", "from hpctf.cli import main; main()")
NOBODY = 54321


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return Experiment("test", site="local", runs_root=tmp_path / "runs")


def in_removed_folder(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.argv[1], sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-c", code, *MAIN, *words],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )


def test_a_working_folder_that_is_gone_matters_only_where_one_is_needed(tmp_path: Path) -> None:
    script = project(tmp_path / "proj") / "train.py"
    env = {"HPCTF_RUNS_ROOT": str(tmp_path / "runs"), "HPCTF_SITE": "local"}
    done = in_removed_folder(tmp_path / "a", "submit", "--wait", str(script), **env)
    assert done.returncode == 0, done.stderr
    for look in ("runs", "status @last", "logs @last", "why @last", "site list"):
        done = in_removed_folder(tmp_path / "a", *look.split(), **env)
        assert (done.returncode, done.stderr) == (0, ""), (look, done.stderr)
    for needs in ("submit train.py", "report @last", "export csv @last --to here.csv"):
        done = in_removed_folder(tmp_path / "a", *needs.split(), **env)
        assert done.returncode == 2, (needs, done.stderr)
        assert "The folder that you are in no longer exists" in done.stderr


@pytest.fixture
def mine() -> Iterator[Path]:
    """A folder of somebody's whom nobody knows, where that one may go."""
    with tempfile.TemporaryDirectory(prefix="hpctf-") as folder:
        os.chmod(folder, 0o755)
        mine = project(Path(folder) / "mine")
        for path in (mine, mine / "train.py"):
            os.chown(path, NOBODY, NOBODY)
        yield mine


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody whom nobody knows")
def test_somebody_without_a_name_and_a_home_trains(mine: Path) -> None:

    def hpctf(words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*MAIN, *words.split()],
            cwd=mine,
            env={"PATH": "/usr/bin:/bin", **env},
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            capture_output=True,
            text=True,
        )

    root = str(mine / "runs")
    for words in (
        "submit --site local --wait train.py",
        "runs",
        "status @last",
        "why @last",
        "cancel @last",
        "report @last",
        "site show local",
        "archive @last --yes",
    ):
        done = hpctf(words, HPCTF_RUNS_ROOT=root)
        assert done.returncode == 0, (words, done.stderr)
    for words in ("runs", "env list"):
        done = hpctf(words)
        assert done.returncode == 2, done.stderr
        assert "lies in a home that nobody knows here" in done.stderr
    assert not list(mine.glob("~*"))


def outcome(experiment: Experiment, function: Callable[[], Any], **variables: str) -> Any:
    run = experiment.submit(TensorFlow(function=function, environment_variables=variables))
    run.wait_for_completion(raise_on_error=False)
    return run


def test_a_function_finds_what_it_would_without_a_safe_path(experiment: Experiment) -> None:
    def paths() -> Sequence[str]:
        import os
        import sys

        return [os.getcwd(), *sys.path]

    usual = outcome(experiment, paths).result()
    safe = outcome(experiment, paths, PYTHONSAFEPATH="1").result()
    assert usual[1] == usual[0]
    assert safe[1] == safe[0]
    assert safe[2:] == usual[2:]


def test_a_value_that_cannot_be_pickled_is_told_by_why_wait_and_result(
    experiment: Experiment,
) -> None:
    def train() -> Any:
        import threading

        return threading.Lock()

    run = outcome(experiment, train)
    why = "the function's return value cannot be pickled"
    assert why in str(run.why()).lower()
    assert "cannot pickle '_thread.lock' object" in str(run.why())
    for ask in (run.result, run.wait_for_completion):
        with pytest.raises(TrainingFailed) as failed:
            ask()
        assert "cannot be pickled" in str(failed.value)
        assert failed.value.exit_code == 1


@pytest.mark.parametrize(
    "code",
    [
        "held = [bytearray(1 << 28) for _ in range(64)]",
        'import os, sys; os.write(2, b"terminate called after throwing an instance of '
        "'std::bad_alloc'\\n  what():  std::bad_alloc\\n\"); import faulthandler;"
        "faulthandler.enable()\ndef deep(n):\n    return os.abort() if not n else deep(n - 1)\n"
        "deep(95)",
        "import mmap; held = [mmap.mmap(-1, 1 << 30) for _ in range(64)]",
    ],
    ids=["python", "library", "mmap"],
)
def test_a_limit_of_memory_is_named_and_not_only_the_frames(
    experiment: Experiment, tmp_path: Path, code: str
) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
    source = project(tmp_path / "proj", text=limit + code)
    run = experiment.submit(TensorFlow(source, entry_script="train.py"))
    run.wait_for_completion(raise_on_error=False)
    told = str(run.why())
    assert "memory" in told.splitlines()[1].lower(), told
    assert "ulimit -v" in told
    assert ", line " not in told or code.startswith(("held", "import mmap"))
