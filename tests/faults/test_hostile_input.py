"""Hostile input arrives at the script unchanged or is refused, and never reaches a shell.

Thousands of cases (`CASES`): each value of `hostile.VALUES`, wherever a person can put one, through
the command line, a job file and Python. Three things hold for all of them: a refusal is one clear
message with exit code 2 or 3; what is not refused stands in the plan as it was given; and the batch
script differs from a harmless one in the value of that option alone. What the plan says is then
run: all values together on the real Slurm, and each alone under stubs of sbatch and srun that run
the script here, since a thousand jobs would take too long.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpctf import TensorFlow, UsageError
from hpctf.common.secrets import HIDDEN, is_secret
from hpctf.plan import Plan
from hpctf.submission.script import render
from tests.faults.asking import CAPTURE, Refused, Ways
from tests.faults.hostile import FOR_COMMAND_LINES, VALUES

pytestmark = pytest.mark.slow

WAYS = ("command line", "job file", "python")

PLACES = {
    "argument": lambda v: {"arguments": [v]},
    "name of a script parameter": lambda v: {"script_params": {v: "1"}},
    "value of a script parameter": lambda v: {"script_params": {"--p": v}},
    "value of a variable": lambda v: {"variables": {"V": v}},
    "name of a variable": lambda v: {"variables": {v: "1"}},
    "experiment": lambda v: {"experiment": v},
    "run's name": lambda v: {"name": v},
    "value of an sbatch option": lambda v: {"sbatch": {"comment": v}},
    "name of an sbatch option": lambda v: {"sbatch": {v: "1"}},
    "partition": lambda v: {"sbatch": {"partition": v}},
    "mem": lambda v: {"mem": v},
    "time": lambda v: {"time": v},
    "target": lambda v: {"target": v},
    "site": lambda v: {"site": v},
    "python": lambda v: {"python": v},
    "source folder": lambda v: {"source_dir": v},
    "script": lambda v: {"script": v},
    "name of an input": lambda v: {"inputs": {v: "train.py"}},
    "path of an input": lambda v: {"inputs": {"data": v}},
}

CASES = [
    (way, place)
    for way in WAYS
    for place in PLACES
    if not (way == "command line" and "script parameter" in place)  # it has arguments alone
]


@pytest.fixture
def ways(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ways]:
    """The three ways to ask for a training, from a folder with a script."""
    place = tmp_path / "proj"
    place.mkdir()
    (place / "train.py").write_text(CAPTURE)
    monkeypatch.chdir(place)
    monkeypatch.setenv("HPCTF_RUNS_ROOT", str(place / "runs"))
    yield Ways(place, capsys, monkeypatch)
    no_canary(tmp_path)


def no_canary(folder: Path) -> None:
    found = [path for path in folder.rglob("*") if path.name == "CANARY"]
    assert not found, "a shell was reached"


def test_there_are_thousands_of_cases() -> None:
    assert len(VALUES) >= 60 and len(CASES) * len(FOR_COMMAND_LINES) >= 5000


@pytest.mark.parametrize(("way", "place"), CASES)
def test_a_value_is_taken_as_it_is_or_refused(ways: Ways, way: str, place: str) -> None:
    harmless = ways.python()
    assert isinstance(harmless, Plan)
    for value in values_for(way, place):
        answer = ways.named(way)(**PLACES[place](value))
        if isinstance(answer, Refused):
            clear(answer, value)
        else:
            assert as_given(answer, place, value), (place, value, answer)
            only_its_option_differs(answer, harmless, place, value)
    assert {path.name for path in ways.place.iterdir()} <= {"train.py", "jobs"}


def values_for(way: str, place: str) -> list[str]:
    """Return the values that a person can put there; two have another meaning, as documented."""
    if way == "job file" and place in ("value of an sbatch option", "partition"):
        return [value for value in VALUES if value not in ("true", "false")]  # a bare flag
    if way == "command line" and place.startswith("name of"):
        return [value for value in FOR_COMMAND_LINES if "=" not in value]  # NAME=VALUE ends there
    return FOR_COMMAND_LINES if way == "command line" else VALUES


def clear(refused: Refused, value: str) -> None:
    """Look that an error is one message that a person can read."""
    assert refused.exit_code in (2, 3), refused
    assert "Traceback" not in refused.said and len(refused.said) < 6000, (value, refused)
    assert all(char.isprintable() or char == "\n" for char in refused.said), (value, refused)


def as_given(plan: Plan, place: str, value: str) -> bool:
    """Whether what was given stands in the plan as it was given."""
    arguments, environment = plan.entry.command[2:], plan.entry.environment
    options = dict(plan.components[0].directives)
    if "script parameter" in place:
        key, word = (value, "1") if "name" in place else ("--p", value)
        return arguments == ((key, word) if word else (key,))
    if place == "time":
        return plan.time_limit_s is not None and value in ("007", "1e3")
    return {
        "argument": arguments == (value,),
        "value of a variable": environment.get("V") == value,
        "name of a variable": environment.get(value) in ("1", HIDDEN if is_secret(value) else "1"),
        "experiment": plan.experiment == value,
        "run's name": plan.run_id.startswith(value + "_"),
        "value of an sbatch option": options.get("comment") == value,
        "name of an sbatch option": options.get(value.lstrip("-").replace("_", "-")) == "1",
        "partition": options.get("partition") == value,
        "mem": options.get("mem") == value,
        "target": plan.target == value,
        "site": plan.site == value,
        "python": os.path.basename(plan.entry.python) == os.path.basename(value),
        "source folder": os.path.isdir(os.path.expanduser(value or ".")),
        "script": os.path.basename(plan.entry.command[1]) == os.path.basename(value),
        "name of an input": f"HPCTF_INPUT_{value.upper()}" in environment,
        "path of an input": value == "." or environment.get("HPCTF_INPUT_DATA", "").endswith(
            os.path.expanduser(value)
        ),
    }[place]  # fmt: skip


OPTIONS = {
    "value of an sbatch option": "comment",
    "partition": "partition",
    "mem": "mem",
    "time": "time",
}


def only_its_option_differs(plan: Plan, harmless: Plan, place: str, value: str) -> None:
    """Look that the batch script has no line that the value wrote, but its own option's."""
    lines, usual = script_of(plan), script_of(harmless)
    if place in OPTIONS:
        own = [line for line in lines if line not in usual]
        assert len(own) == 1 and len(lines) == len(usual) + 1, (place, value, own)
        (word,) = shlex.split(own[0].removeprefix("#SBATCH "))
        given = value if place != "time" else word.partition("=")[2]
        assert word == f"--{OPTIONS[place]}={given}" or (word, given) == (f"--{OPTIONS[place]}", "")
    elif place == "name of an sbatch option":
        assert len(lines) == len(usual) + 1
    else:
        assert lines == usual, (place, value)


def script_of(plan: Plan) -> list[str]:
    """Return the lines of a plan's batch script, with the run's names made equal."""
    text = render(plan, keep=False).replace(plan.run_folder, "/RUN").replace(plan.run_id, "RUN")
    return text.splitlines()


@pytest.mark.parametrize("key", ["arra", "outp", "wra", "job", "n", "tim", "--erro", "pars"])
def test_the_beginning_of_an_option_is_that_option(ways: Ways, key: str) -> None:
    """As sbatch takes it: ``#SBATCH --arra=0-3`` would make a job array."""
    for way in WAYS:
        answer = ways.named(way)(sbatch={key: "1"})
        assert isinstance(answer, Refused) and "hpctf sets" in answer.said


@pytest.mark.parametrize("asked", [{"sbatch": {"comment": ""}}, {"mem": ""}])
def test_an_option_without_its_value_would_swallow_the_next(
    ways: Ways, asked: dict[str, object]
) -> None:
    for way in WAYS:
        answer = ways.named(way)(**asked)
        assert isinstance(answer, Refused) and "would take the next option" in answer.said


@pytest.mark.parametrize("count", [10**7, 10**30, 10**4000])
@pytest.mark.parametrize("name", ["node_count", "process_count_per_node", "worker_count"])
def test_counts_beyond_all_clusters_are_refused(ways: Ways, name: str, count: int) -> None:
    with pytest.raises(UsageError, match="1,000,000 at most"):
        TensorFlow(ways.place, entry_script="train.py", distributed_backend="mpi", **{name: count})
