"""What hostile requests become when they run: the script gets every byte, and no shell does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpctf import Experiment
from hpctf.errors import UsageError
from tests.conftest import Person
from tests.faults.asking import CAPTURE, bytes_of, estimator, flow, words
from tests.faults.hostile import FOR_COMMAND_LINES, LONG
from tests.faults.test_hostile_input import no_canary

pytestmark = pytest.mark.slow

SBATCH = """#!/bin/bash
export SLURM_JOB_ID=4242 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=$HOSTNAME
bash "${@: -1}" >"$STUB_LOG" 2>&1
echo 4242
"""
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
export SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NTASKS=1 SLURM_STEP_NUM_TASKS=1 SLURM_STEP_ID=0
export SLURM_STEP_NODELIST=$HOSTNAME SLURM_STEP_TASKS_PER_NODE=1 SLURMD_NODENAME=$HOSTNAME
exec "$@"
"""
"""Stubs that run the batch script and its one rank on this machine, at once."""
AWAY = """#!/bin/bash
echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2
exit 1
"""

Seen = dict[str, Any]
Submit = Callable[[dict[str, Any]], Seen]


@pytest.fixture
def submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submit:
    """Submit for real, but to the stubs, and return what the script saw."""
    asking = dict.fromkeys(("scontrol", "squeue", "sacct"), AWAY)
    for name, text in {"sbatch": SBATCH, "srun": SRUN, **asking}.items():
        (tmp_path / "stubs").mkdir(exist_ok=True)
        (tmp_path / "stubs" / name).write_text(text)
        (tmp_path / "stubs" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/stubs:{os.environ['PATH']}")
    monkeypatch.setenv("STUB_LOG", str(tmp_path / "stub.log"))
    monkeypatch.chdir(tmp_path)

    def submitting(asked: dict[str, Any]) -> Seen:
        run = Experiment("e", "slurm", tmp_path / "runs").submit(estimator(asked))
        seen = run.folder.outputs / "seen.json"
        assert seen.exists(), (tmp_path / "stub.log").read_text()
        found: Seen = json.loads(seen.read_text())
        return found

    return submitting


def arrived(seen: Seen, asked: dict[str, Any]) -> None:
    """Look that the script was given exactly what was asked for."""
    given = [word for pair in asked.get("script_params", {}).items() for word in pair if word != ""]
    given += asked.get("arguments", [])
    assert seen["argv"][1:] == [bytes_of(word) for word in given]
    for name, value in asked.get("variables", {}).items():
        assert seen["environment"].get(bytes_of(name)) == bytes_of(value), name
    for name, path in asked.get("inputs", {}).items():
        assert seen["environment"][f"HPCTF_INPUT_{name.upper()}"] == bytes_of(path)


NAMES = [
    value
    for value in FOR_COMMAND_LINES
    if value not in ("", ".", "..") and "/" not in value and len(os.fsencode(value)) < 200
]
"""The values that a file can have for a name."""

FIRST = tuple("-~ \t\n")
"""What may mean something where a path begins with it: an option, a home, nothing."""


def together() -> list[list[str]]:
    """Return all values in lists, each for one run: one name begins a path there, and values that
    are so long that a script can be given no more are alone."""
    alone = [[value] for value in FOR_COMMAND_LINES if len(os.fsencode(value)) > 50_000]
    short = [value for value in FOR_COMMAND_LINES if [value] not in alone]
    begin = [value for value in short if value in NAMES and value.startswith(FIRST)]
    others = [value for value in short if value not in begin]
    count = len(begin)
    return alone + [[first, *others[n::count]] for n, first in enumerate(begin)]


def test_each_value_arrives_in_every_place(submit: Submit, tmp_path: Path) -> None:
    """Argument, parameter, variable, and the names of folder, script, interpreter and input."""
    for number, values in enumerate(together()):
        names = [value for value in values if value in NAMES] or [f"plain {number}"]
        place = tmp_path / str(number) / "/".join(names)
        script = "/".join(names) + ".py"
        (place / script).parent.mkdir(parents=True)
        (place / script).write_text(CAPTURE)
        (place / "python").symlink_to(sys.executable)
        variables = {f"V{n}": value for n, value in enumerate(values)}
        asked = {
            "source_dir": str(place),
            "script": script,
            "python": str(place / "python"),
            "script_params": {value or "--empty": value for value in values},
            "arguments": [*values, *values],
            "variables": variables | {value: "1" for value in values if value and "=" not in value},
            "inputs": {"data": str(place)},
        }
        if LONG in values:  # with "=1" a name may be as long as an argument
            assert asked["variables"][LONG] == "1"
        seen = submit(asked)
        arrived(seen, asked)
        assert seen["argv"][0].removeprefix("./") == bytes_of(script)
        assert bytes_of(f"{names[0]}.py" if len(names) == 1 else names[0]) in seen["files"]
    no_canary(tmp_path)


word = st.text(
    st.characters(exclude_characters="\0", exclude_categories=("Cs",))
    | st.integers(0xDC80, 0xDCFF).map(chr),
    max_size=50,
).filter(lambda text: os.fsdecode(os.fsencode(text)) == text)
"""Any text that the operating system can pass on, bytes that are no UTF-8 included."""


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    arguments=st.lists(word, max_size=30),
    variables=st.dictionaries(
        word.filter(lambda name: name and "=" not in name and not name.startswith("HPCTF_")).map(
            lambda name: f"V{name}"
        ),
        word,
        max_size=20,
    ),
)
def test_whatever_words_arrive(
    submit: Submit, tmp_path: Path, arguments: list[str], variables: dict[str, str]
) -> None:
    (tmp_path / "train.py").write_text(CAPTURE)
    asked = {"arguments": arguments, "variables": variables}
    arrived(submit(asked), asked)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters() | st.sampled_from("\0\ud800\udce9\n'\"$`"), max_size=20))
def test_whatever_text_is_taken_whole_or_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "train.py").touch()
    for asked in (
        {"arguments": [text]},
        {"variables": {"V": text}},
        {"script_params": {"-": text}},
    ):
        try:
            made = estimator({"source_dir": str(tmp_path), **asked})
        except UsageError as error:
            assert "\0" in text or any("\ud800" <= char <= "\udfff" for char in text), error
        else:
            held = [*made.command_line(), *made.environment_variables.values()]
            assert text in [*held, ""]


@pytest.mark.parametrize("size", [100_000, 131_071, 131_072, 200_000])
def test_the_longest_argument_is_linuxs(submit: Submit, tmp_path: Path, size: int) -> None:
    (tmp_path / "train.py").write_text(CAPTURE)
    asked = {"arguments": ["x" * size]}
    if size <= 131_071:
        arrived(submit(asked), asked)
        return
    with pytest.raises(UsageError, match="Linux passes on 131071 at most"):
        submit(asked)
    assert not (tmp_path / "runs").exists()


def test_words_that_are_too_long_together_are_refused_not_failed(
    submit: Submit, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(CAPTURE)
    most = {"arguments": ["x" * 120_000] * 4, "variables": {f"V{n}": "x" * 120_000 for n in "1234"}}
    arrived(submit(most), most)
    for kind in (
        {"arguments": ["x" * 120_000] * 5},
        {"arguments": [""] * 100_000},
        {"variables": {f"V{n}": "x" * 100_000 for n in range(6)}},
        {"script_params": {f"--{n}": "x" * 100_000 for n in range(6)}},
    ):
        with pytest.raises(UsageError, match="in all, but a script can be given 500000 at most"):
            submit(kind)


def everything() -> dict[str, Any]:
    """Return one request that holds every value as argument, parameter, variable and its name."""
    names = [value for value in FOR_COMMAND_LINES if value and "=" not in value and value != LONG]
    return {
        "script": "train.py",
        "arguments": FOR_COMMAND_LINES,
        "variables": {
            **{f"V{number}": value for number, value in enumerate(FOR_COMMAND_LINES)},
            **{name: "1" for name in names if len(name) < 1000},
        },
    }


@pytest.mark.slurm
@pytest.mark.parametrize("way", ["command line", "job file", "python"])
def test_all_values_arrive_through_the_real_slurm(person: Person, way: str) -> None:
    person.write("train.py", CAPTURE)
    asked = everything()
    if way == "command line":
        person.hpctf("submit", "--wait", *words(asked, site=None))
    elif way == "job file":
        keys = {"variables": "env", "arguments": "args"}
        lines = [f"{keys.get(key, key)}: {flow(value)}\n" for key, value in asked.items()]
        person.hpctf("submit", "--wait", person.write("job.yaml", "".join(lines)))
    else:
        asked["script_params"] = {f"--p{n}": value for n, value in enumerate(asked["arguments"])}
        code = (
            "import json, sys; from hpctf import Experiment, TensorFlow\n"
            "a = json.load(open('asked.json'))\n"
            "Experiment('e').submit(TensorFlow('.', entry_script=a['script'],\n"
            " arguments=a['arguments'], script_params=a['script_params'],\n"
            " environment_variables=a['variables'])).wait_for_completion()\n"
        )
        person.write("asked.json", json.dumps(asked))
        run_as(person, "-c", code)
    arrived(json.loads(person.output("seen.json")), asked)
    no_canary(person.home)


def run_as(person: Person, *python: str) -> subprocess.CompletedProcess[str]:
    """Run the person's Python."""
    home = person.home
    program = person.bin / "python"
    return person.cluster.run(program, *python, user=person.user, cwd=home, env=person.env)


@pytest.mark.slurm
def test_values_of_sbatch_options_are_what_slurm_has(person: Person) -> None:
    """Each comment that hpctf takes is the job's comment, to the letter."""
    person.write("train.py", "print(1)\n")
    person.write("values.json", json.dumps(FOR_COMMAND_LINES))
    code = (
        "import json; from hpctf import Experiment, TensorFlow, UsageError\n"
        "jobs = {}\n"
        "for value in json.load(open('values.json')):\n"
        "    try:\n"
        "        asked = {'comment': value, 'begin': 'now+1hour'}\n"
        "        run = Experiment('e').submit(TensorFlow('.', entry_script='train.py',\n"
        "            sbatch=asked), on_note=str)\n"
        "    except Exception as error:\n"
        "        assert type(error).__name__ in ('UsageError', 'SubmissionError'), error\n"
        "    else:\n"
        "        jobs[run.job_id] = value\n"
        "print(json.dumps(jobs))\n"
    )
    jobs = json.loads(run_as(person, "-c", code).stdout)
    try:
        told = person.cluster.run("squeue", "--noheader", "--format=%i %k", user=person.user)
    finally:
        person.cluster.run("scancel", *jobs)
    comments = dict(line.partition(" ")[::2] for line in told.stdout.splitlines())
    assert len(jobs) > 60
    assert {job: comments[job] for job in jobs} == jobs
    no_canary(person.home)
