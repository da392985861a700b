"""Submitting again on the real cluster: heterogeneous jobs, array members, other people's runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TEST_USER, Person, make_person

pytestmark = pytest.mark.slurm

SAY = """
import json, os, sys
name = os.environ["HPCTF_ROLE"] + "-" + os.environ["HPCTF_INDEX"]
json.dump(sys.argv[1:], open("outputs/" + name + ".json", "w"))
"""


def folder(person: Person, run: str) -> Path:
    return Path(person.status(run)["run_folder"])


def plan(person: Person, run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder(person, run) / "plan.json").read_text())
    return found


def test_a_heterogeneous_job_is_submitted_again_with_another_time(person: Person) -> None:
    script = person.write("proj/train.py", SAY)
    words = ["--backend", "ps", "--workers", "2", "--ps", "1", "--ps-mode", "script"]
    words += ["--set", "targets.default.directives.comment=mine", "--wait"]
    first = person.hpctf("submit", *words, script, "--", "a b", "c").stdout.strip()
    script.unlink()
    second = person.hpctf("resubmit", first, "--wait", "--time", "7").stdout.strip()
    assert json.loads(person.output("ps-0.json", second)) == ["a b", "c"]
    one, other = plan(person, first), plan(person, second)
    assert other["roles"] == one["roles"]
    assert len(other["components"]) == len(one["components"]) == 2
    directives = [dict(part["directives"]) for part in other["components"]]
    assert {part["comment"] for part in directives} == {"mine"}
    told = json.loads(person.hpctf("diff", first, second, "--json").stdout)
    assert told["code"]["files"] == told["environment"] == []
    assert "max_run_duration_seconds" in {one["name"] for one in told["parameters"]}
    shown = person.hpctf("resubmit", first, "--dry-run", "--time", "7").stdout
    assert "#SBATCH hetjob" in shown


def test_one_run_of_an_array_is_submitted_again_alone(person: Person) -> None:
    person.write("proj/train.py", SAY)
    program = person.write(
        "sweep.py",
        "from hpctf import Experiment, TensorFlow\n"
        "runs = Experiment('sweep').submit_array([\n"
        "    TensorFlow('proj', entry_script='train.py', arguments=[str(n)]) for n in range(3)])\n"
        "print(*[run.id for run in runs])\n"
        "print(runs[2].wait_for_completion() and runs[2].resubmit().id)\n",
    )
    done = person.cluster.run(
        person.bin / "python", program, user=person.user, cwd=person.home, env=person.env
    )
    new = done.stdout.split()[-1]
    person.hpctf("wait", new)
    assert json.loads(person.output("worker-0.json", new)) == ["2"]
    assert "_" not in person.status(new)["job_id"]


def test_another_persons_run_is_submitted_again_if_it_may_be_read(
    person: Person, installed: Path
) -> None:
    script = person.write("proj/train.py", SAY)
    first = person.hpctf("submit", "--set", "umask='0022'", "--wait", script, "--", "x")
    run = folder(person, first.stdout.strip())
    other = make_person(person.cluster, installed, "other", None)
    assert person.user == TEST_USER and other.user is None
    try:
        refused = other.hpctf("resubmit", run, check=False)
        assert (refused.returncode, refused.stdout) == (3, "")
        assert f"belongs to {person.user}" in refused.stderr and "--trust" in refused.stderr
        new = other.hpctf("resubmit", "--trust", run, "--wait").stdout.strip()
        assert json.loads(other.output("worker-0.json", new)) == ["x"]
        mine = folder(other, new)
        assert mine.is_relative_to(other.home)
        record = json.loads((mine / "run.json").read_text())
        assert (record["resubmitted_from"], record["user"]) == (run.name, "root")
    finally:
        other.leave()
