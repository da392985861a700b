"""What two runs do not share is told, in words and as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, Run, TensorFlow
from hpctf.common.secrets import HIDDEN
from hpctf.errors import UsageError
from hpctf.runs.compare.comparison import difference
from tests.conftest import ROOT
from tests.support.projects import hpctf, project

LOG = """
import sys
from hpctf import Run
run = Run.get_context()
run.log("loss", {loss}, 1)
run.log("{other}", 1)
"""


def trained(experiment: Experiment, source: Path, **asked: Any) -> Run:
    run = experiment.submit(TensorFlow(source, entry_script="train.py", **asked))
    run.wait_for_completion()
    return run


@pytest.fixture
def two(experiment: Experiment, tmp_path: Path) -> tuple[Run, Run]:
    """Two runs of one project that went on meanwhile."""
    source = project(tmp_path / "proj", text=LOG.format(loss=0.5, other="old"))
    (source / "gone.py").write_text("x = 1\n")
    (source / "weights.bin").write_bytes(b"\0\1\2")
    (source / "same.bin").write_bytes(b"\0\1")
    (source / "link").symlink_to("gone.py")
    (source / "sub").mkdir()
    a = trained(
        experiment,
        source,
        arguments=["--lr", "0.1", "--quiet", "--epochs=5", "--api-key", "abc"],
        environment_variables={"API_TOKEN": "abc", "MY_SECRET": "s", "SHOWN": "1"},
    )
    project(source, text=LOG.format(loss=0.25, other="new"))
    (source / "gone.py").unlink()
    (source / "sub/new.py").write_text("y = 2\nz = 3")
    (source / "weights.bin").write_bytes(b"\0\1\3")
    (source / "link").unlink()
    (source / "link").symlink_to("same.bin")
    b = trained(
        experiment,
        source,
        arguments=["--lr", "0.2", "--quiet", "--epochs=5"],
        environment_variables={"API_TOKEN": "abd", "SHOWN": "2"},
        max_run_duration_seconds=600,
    )
    return a, b


def test_parameters_by_name_and_secrets_hidden(two: tuple[Run, Run]) -> None:
    found = difference(*(run.folder for run in two), only=["parameters"])
    values = {one.name: (one.a, one.b) for one in found.parameters or ()}
    assert values == {
        "arguments.lr": (0.1, 0.2),
        "arguments.api-key": (HIDDEN, None),
        "environment_variables.API_TOKEN": (HIDDEN, HIDDEN),
        "environment_variables.MY_SECRET": (HIDDEN, None),
        "environment_variables.SHOWN": ("1", "2"),
        "max_run_duration_seconds": (None, 600),
        "plan.components.0.directives.time": (None, "0-00:10:00"),
        "plan.time_limit_s": (None, 600),
    }
    assert (found.code, found.environment, found.metrics) == (None, None, None)


def test_code_file_by_file(two: tuple[Run, Run]) -> None:
    code = difference(*(run.folder for run in two), only=["code"]).code
    assert code is not None
    files = {one.name: one for one in code.files}
    assert {name: one.change for name, one in files.items()} == {
        "gone.py": "removed",
        "link": "changed",
        "sub/new.py": "added",
        "train.py": "changed",
        "weights.bin": "changed",
    }
    assert (files["train.py"].added, files["train.py"].removed) == (2, 2)
    assert '-run.log("loss", 0.5, 1)\n+run.log("loss", 0.25, 1)\n' in str(
        files["train.py"].diff
    ).replace('-run.log("old", 1)\n', "").replace('+run.log("new", 1)\n', "")
    assert (files["link"].a, files["link"].b) == ({"link": "gone.py"}, {"link": "same.bin"})
    weights = files["weights.bin"]
    assert weights.diff is None and weights.a and weights.b
    assert weights.a["size"] == weights.b["size"] == 3
    assert weights.a["sha256"] != weights.b["sha256"]


def test_the_text_diff_is_one_that_patch_takes(two: tuple[Run, Run], tmp_path: Path) -> None:
    code = difference(*(run.folder for run in two), only=["code"]).code
    assert code is not None
    text = "".join(one.diff or "" for one in code.files)
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", two[0].folder.snapshot, copy], check=True)
    subprocess.run(["git", "apply", "-p1", "-"], input=text, text=True, cwd=copy, check=True)
    for name in ("train.py", "sub/new.py"):
        assert (copy / name).read_text() == (two[1].folder.snapshot / name).read_text()
    assert not (copy / "gone.py").exists()


def test_metrics_side_by_side(two: tuple[Run, Run]) -> None:
    metrics = difference(*(run.folder for run in two), only=["metrics"]).metrics or ()
    rows = {one.name: (one.a, one.b, one.difference) for one in metrics}
    assert rows == {
        "loss": (0.5, 0.25, -0.25),
        "old": (1, None, None),
        "new": (None, 1, None),
    }


def test_packages_of_lock_files_and_what_the_ranks_found(two: tuple[Run, Run]) -> None:
    head = '# hpctf environment lock 1\n# environment: k\n# spec: {"kind": "pip", '
    for run, version, more in zip(two, ("1.0", "1.1"), ("old==1\n", ""), strict=True):
        lock = f'{head}"python_version": "3.11.2"}}\ntiny=={version}\nsame==1\n{more}'
        (run.folder.path / "environment.lock").write_text(lock)
        (run.folder.state / "software-0.json").write_text(
            json.dumps({"versions": {"TensorFlow": f"2.{version}"}})
        )
    found = difference(*(run.folder for run in two), only=["environment"]).environment
    assert {one.name: (one.a, one.b) for one in found or ()} == {
        "packages.tiny": ("1.0", "1.1"),
        "packages.old": ("1", None),
        "found.TensorFlow": ("2.1.0", "2.1.1"),
    }


def test_functions_are_compared_by_their_text(experiment: Experiment) -> None:
    def train() -> int:
        return 1

    def train_more() -> int:
        return 2

    a = experiment.submit(TensorFlow(function=train))
    b = experiment.submit(TensorFlow(function=train_more))
    code = difference(a.folder, b.folder, only=["code"]).code
    assert code is not None
    assert [one.name for one in code.files] == ["function"]
    assert "-        return 1\n" in str(code.files[0].diff)
    a.wait_for_completion()
    b.wait_for_completion()


def test_a_run_does_not_differ_from_its_resubmission(two: tuple[Run, Run]) -> None:
    new = two[0].resubmit()
    new.wait_for_completion()
    found = difference(two[0].folder, new.folder)
    assert (found.parameters, found.environment) == ((), ())
    assert found.code is not None and found.code.files == ()


def test_the_command_line(two: tuple[Run, Run], tmp_path: Path) -> None:
    a, b = two[0].id, two[1].id
    done = hpctf("diff", a, b, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '+run.log("loss", 0.25, 1)' in done.stdout
    assert "\x1b" not in done.stdout
    assert "abc" not in done.stdout and "abd" not in done.stdout
    assert "weights.bin: changed, 3 bytes" in done.stdout
    stat = hpctf("diff", a, b, "--only", "code", "--stat", cwd=tmp_path).stdout
    assert "train.py: changed, +2 -2\n" in stat
    assert "Parameters" not in stat and "run.log" not in stat
    answer = json.loads(hpctf("diff", a, b, "--json", cwd=tmp_path).stdout)
    assert set(answer) == {"runs", "parameters", "code", "environment", "metrics"}
    assert "abc" not in json.dumps(answer["parameters"])
    same = hpctf("diff", a, a, "--only", "code", cwd=tmp_path)
    assert (same.returncode, "no difference" in same.stdout) == (0, True)
    assert hpctf("diff", a, "nobody", cwd=tmp_path).returncode == 2
    assert hpctf("diff", a, cwd=tmp_path).returncode == 2


def test_colours_are_for_terminals(two: tuple[Run, Run], tmp_path: Path) -> None:
    words = ["-m", "hpctf", "diff", two[0].id, two[1].id, "--only", "code"]
    done = subprocess.run(
        ["script", "-qec", " ".join([sys.executable, *words]), "/dev/null"],
        env={**os.environ, "HPCTF_RUNS_ROOT": str(tmp_path / "runs")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\x1b[32m+run.log" in done.stdout


def test_an_unknown_section_is_refused(two: tuple[Run, Run]) -> None:
    with pytest.raises(UsageError, match="no section 'metric'"):
        difference(*(run.folder for run in two), only=["metric"])
