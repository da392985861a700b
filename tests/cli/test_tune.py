"""What `hpctf tune` refuses before anything is written."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from hpctf.cli.submit import submit
from hpctf.cli.tune import start
from tests.support.projects import hpctf, project

OF_A_RUN = {option for parameter in submit.params for option in parameter.opts}
FROM_0 = {"--seed"}
NUMBERS = [
    option.opts[0]
    for option in start.params
    if isinstance(option, click.Option) and option.type is click.INT
]
"""Options of a study alone that are numbers."""
STUDY = ("--metric", "acc", "--param", "lr=uniform(0, 1)")


def refusal(folder: Path, *words: str) -> str:
    source = project(folder / "proj")
    done = hpctf("tune", "--site", "slurm", *words, source / "train.py", cwd=folder)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert not (folder / "runs").exists()
    return str(done.stderr)


@pytest.mark.parametrize("option", sorted({*NUMBERS} - OF_A_RUN - FROM_0))
def test_no_number_that_must_be_1_or_more_may_be_0(option: str, tmp_path: Path) -> None:
    """Nor is 0 taken for an option that was left out."""
    assert " is 0" in refusal(tmp_path, *STUDY, option, "0")


@pytest.mark.parametrize("name", ["l r", "l\tr", "l\nr", "\x1b[31m"])
def test_a_parameter_that_can_be_no_option_is_refused(name: str, tmp_path: Path) -> None:
    said = refusal(tmp_path, "--metric", "acc", "--param", f"{name}=uniform(0, 1)")
    assert "cannot be an option of the script" in said


@pytest.mark.parametrize("text", ["{lr: 1}", "1", "lr=1", ""])
def test_what_is_put_in_line_is_json(text: str, tmp_path: Path) -> None:
    assert """Write --enqueue '{"lr": 0.01}'.""" in refusal(tmp_path, *STUDY, "--enqueue", text)


def test_a_space_that_is_not_there(tmp_path: Path) -> None:
    said = refusal(tmp_path, "--metric", "acc", "--space", "none.yaml")
    assert "--space none.yaml does not exist" in said
