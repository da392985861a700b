"""One table makes the estimator's constructor, its checks, options, job-file keys and record."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpctf import TensorFlow, UsageError
from hpctf.cli.common import given_of
from hpctf.cli.job_file import read_job_file
from hpctf.cli.submit import submit
from hpctf.cli.training_options import asked_of
from hpctf.estimator.parameter import GROUPS, Option
from hpctf.estimator.parameters import CHANGEABLE, OF_BACKENDS, OPTIONS, RECORDED, Parameters
from tests.conftest import ROOT
from tests.support.projects import hpctf, project

TABLE = Parameters.parameters
ENTRY = """    loudness: _Count = Parameter(
        OUTPUT, "How loud it is. In decibels.", check_count, Option("--loudness", int, "DB")
    )
"""
LOOK = """
import inspect, json
from hpctf import TensorFlow, UsageError

def refused(**asked):
    try:
        TensorFlow(function=print, **asked)
    except UsageError as error:
        return str(error)

print(json.dumps({
    "signature": str(inspect.signature(TensorFlow).parameters["loudness"]),
    "documented": "\\nloudness\\n    How loud it is. In decibels." in inspect.getdoc(TensorFlow),
    "value": TensorFlow(function=print, loudness=3).loudness,
    "usual": TensorFlow(function=print).loudness,
    "check": refused(loudness=0),
    "near": refused(loudnes=3),
}))
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of hpctf with one entry more in its table."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "hpctf", folder / "hpctf", ignore=shutil.ignore_patterns("__pycache__"))
    table = folder / "hpctf/estimator/parameters.py"
    before, first, after = table.read_text().partition("    timeline: _Flag")
    table.write_text(before + ENTRY + first + after)
    project(folder / "proj")
    return folder


def test_one_entry_makes_a_parameter_of_the_constructor(extended: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(extended)}
    done = subprocess.run(
        [sys.executable, "-c", LOOK], cwd=extended, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "signature": "loudness: int | None = None",
        "documented": True,
        "value": 3,
        "usual": None,
        "check": "loudness is 0, but must be a whole number of 1 or more.",
        "near": "TensorFlow() has no parameter 'loudnes'. Did you mean 'loudness'?\n"
        "  help(hpctf.TensorFlow) lists them.",
    }


def test_one_entry_makes_an_option_a_key_and_a_line_on_record(extended: Path) -> None:
    env = {"PYTHONPATH": str(extended)}
    for command in ("submit", "resubmit"):
        told = hpctf(command, "--help", cwd=extended, env=env).stdout
        assert "--loudness DB" in told and "How loud it is." in told
        assert told.index("--sbatch") < told.index("--loudness") < told.index("--timeline")

    (extended / "job.yaml").write_text("script: proj/train.py\nsite: local\nloudness: 5\n")
    for words, value in ((["job.yaml"], 5), (["--loudness", "7", "job.yaml"], 7)):
        done = hpctf("submit", "--wait", "--json", *words, cwd=extended, env=env)
        assert done.returncode == 0, done.stderr
        run = next((extended / "runs").glob(f"*/{json.loads(done.stdout)['id']}"))
        assert json.loads((run / "run.json").read_text())["request"]["loudness"] == value

    done = hpctf("submit", "--loudness", "0", "proj/train.py", cwd=extended, env=env)
    assert done.returncode == 2
    assert "loudness is 0, but must be a whole number of 1 or more." in done.stderr


def test_every_parameter_says_what_it_is_about_and_is_in_signature_and_docstring() -> None:
    signature = inspect.signature(TensorFlow)
    assert list(signature.parameters) == list(TABLE)
    assert next(iter(signature.parameters)) == "source_directory"
    kinds = {one.kind for name, one in signature.parameters.items() if name != "source_directory"}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
    documented = inspect.getdoc(TensorFlow) or ""
    for name, parameter in TABLE.items():
        assert parameter.group in GROUPS and parameter.doc.endswith((".", ")"))
        assert f"\n{name}\n    " in documented
        assert signature.parameters[name].default == parameter.default


def test_what_is_kept_is_an_attribute_and_all_else_is_none() -> None:
    made = TensorFlow(function=print)
    assert set(vars(made)) == {*(n for n, p in TABLE.items() if p.kept), *OF_BACKENDS, "backend"}
    for name, parameter in TABLE.items():
        assert hasattr(made, name) == parameter.kept
    assert set(CHANGEABLE) <= {*RECORDED, *OF_BACKENDS}


def sample(option: Option, folder: Path) -> Any:
    """Return a value that an option takes, as a job file has it."""
    texts = {"time": "1:30:00", "warn_with": "usr1", "profile_steps": "3-4"}
    if isinstance(option.kind, tuple):
        return option.kind[0]
    if option.kind is list:
        return ["a", "--b"]
    if option.kind is dict:
        return {"A": str(folder), "B": "c=d"} if option.path == "" else {"A": str(folder)}
    if option.kind in (int, bool):
        return 3 if option.kind is int else True
    return texts.get(option.key, str(folder / "x.txt"))


def words_of(option: Option, value: Any) -> list[str]:
    """Return the words of the command line that say the same."""
    if isinstance(value, dict):
        value = [f"{key}={inner}" for key, inner in value.items()]
    if value is True:
        return [option.flags[0]]
    return [f"{option.flags[0]}={one}" for one in (value if isinstance(value, list) else [value])]


@pytest.mark.parametrize("key", [key for key, (_, option) in OPTIONS.items() if option.flags])
def test_a_job_files_key_means_what_the_option_means(key: str, tmp_path: Path) -> None:
    parameter, option = OPTIONS[key]
    (tmp_path / "x.txt").write_text("")
    value = sample(option, tmp_path)
    context = submit.make_context("submit", [*words_of(option, value), "train.py"])
    given = given_of(context, context.params)
    given.pop("script")
    by_words = asked_of(given)
    assert list(by_words) == [parameter.name]

    (tmp_path / "jobs").mkdir()
    for name in (key, key.replace("_", "-"), *option.aliases):
        (tmp_path / "jobs/job.yaml").write_text(json.dumps({name: value}))
        read = read_job_file(tmp_path / "jobs/job.yaml", submit.params)
        assert asked_of(read) == by_words


def test_an_older_name_stands_for_the_parameter(tmp_path: Path) -> None:
    project(tmp_path)
    (tmp_path / "r.txt").write_text("tiny")
    aliases = {name: one.alias_of for name, one in TABLE.items() if one.alias_of}
    assert aliases
    for alias, name in aliases.items():
        value = "r.txt" if name.endswith("_file") else "an/image"
        old, new = (
            TensorFlow(tmp_path, entry_script="train.py", **{key: value}) for key in (alias, name)
        )
        assert vars(old) == vars(new) and not hasattr(old, alias)
        with pytest.raises(UsageError, match=f"^{alias} is 'other', but {name} is"):
            TensorFlow(tmp_path, entry_script="train.py", **{alias: "other", name: value})
