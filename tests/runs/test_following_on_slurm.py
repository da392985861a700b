"""Runs that follow others on the real cluster: how those may end, and what is said meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Person
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slurm

WAITS = """
import os, sys, time
open("outputs/reached", "a").close()
while not os.path.exists("outputs/go"):
    time.sleep(0.1)
code = int(open("outputs/go").read())
if not code:
    open("outputs/model.txt", "w").write("trained")
sys.exit(code)
"""

READS = """
import os
open("outputs/read.txt", "w").write(open(os.environ["HPCTF_INPUT_MODEL"]).read())
"""


@dataclass
class Chain:
    """A run that ends as it is told, and others that follow it."""

    person: Person

    def submit(self, *words: str, script: str = "pass") -> str:
        path = self.person.write(f"proj/{abs(hash(script))}.py", script)
        done = self.person.hpctf("submit", *words, "--name", "train", path)
        return done.stdout.strip()

    def begin(self, *words: str) -> str:
        run = self.submit(*words, script=WAITS)
        wait_until((self.person.folder(run) / "outputs/reached").exists)
        return run

    def end(self, run: str, code: int = 0) -> None:
        whole = self.person.folder(run) / "outputs/go.part"
        whole.write_text(str(code))
        whole.rename(whole.with_name("go"))

    def told(self, run: str) -> dict[str, Any]:
        self.person.hpctf("wait", run, check=False)
        return self.person.status(run)


@pytest.fixture
def chain(person: Person) -> Iterator[Chain]:
    yield Chain(person)


def test_runs_follow_one_that_is_requeued_and_then_completes(chain: Chain) -> None:
    person = chain.person
    first = chain.begin()
    model = ("--input", f"model=@{first}/outputs/model.txt")
    reads = chain.submit(*model, script=READS)
    failed = chain.submit("--after", f"{first}:failed")
    third = chain.submit("--after", reads, "--after", f"{first}:any")
    lacking = chain.submit("--input", f"x=@{first}/outputs/none.h5")

    status = person.status(reads)
    assert (status["state"], status["reason"]) == ("Queued", f"waits for run {first} to complete")
    told = person.hpctf("why", third).stdout
    assert f"Run {third} waits for run {reads} to complete and run {first} to end." in told
    assert f"Run {first} (job {person.status(first)['job_id']}) is Running." in told
    assert f"(waits for run {reads} to complete)" not in told

    (person.folder(first) / "outputs/reached").unlink()
    person.cluster.run("scontrol", "requeue", person.status(first)["job_id"])
    assert person.status(reads)["state"] == "Queued"
    # Slurm waits for two minutes before it starts a requeued job again.
    person.cluster.run(
        "scontrol", "update", f"JobId={person.status(first)['job_id']}", "StartTime=now"
    )
    chain.end(first)

    assert chain.told(reads)["state"] == chain.told(third)["state"] == "Completed"
    assert person.output("read.txt", reads) == "trained"
    never = chain.told(failed)
    assert never["state"] == "Canceled"
    assert never["reason"] == f"run {first}, which it was to follow, completed, but had to fail"
    missing = chain.told(lacking)
    assert missing["state"] == "Failed"
    words = f"input x is not there: run {first} has ended without outputs/none.h5"
    assert words in missing["reason"]
    again = person.hpctf("resubmit", third, "--wait").stdout.strip()
    record = json.loads((person.folder(again) / "run.json").read_text())
    assert record["request"]["after"] == []


@pytest.mark.parametrize("end", ["fails", "is cancelled"])
def test_what_follows_a_run_that_does_not_complete(chain: Chain, end: str) -> None:
    person = chain.person
    het = ("--backend", "ps", "--workers", "1", "--ps", "1", "--ps-mode", "script")
    first = chain.begin(*(het if end == "is cancelled" else ()))
    second = chain.submit("--after", first)
    third = chain.submit("--after", second)
    anyhow = chain.submit("--after", f"{first}:any")
    rescue = chain.submit("--after", f"{first}:failed")
    if end == "fails":
        chain.end(first, 3)
    else:
        person.hpctf("cancel", first)
    words = "failed" if end == "fails" else "was cancelled"

    done = person.hpctf("wait", third, check=False)
    assert done.returncode == 1
    assert f"run {second}, which it was to follow, was cancelled" in done.stderr
    assert chain.told(second)["reason"] == f"run {first}, which it was to follow, {words}"
    assert f"hpctf resubmit {second}" in person.hpctf("why", second).stdout
    assert chain.told(anyhow)["state"] == chain.told(rescue)["state"] == "Completed"
    refused = person.hpctf("submit", "--after", first, "proj/x.py", check=False)
    assert refused.returncode == 2


def test_a_task_of_an_array_is_followed_alone(chain: Chain) -> None:
    person = chain.person
    script = person.write("proj/train.py", "import sys\nsys.exit(int(sys.argv[1]))\n")
    program = person.write(
        "sweep.py",
        "from hpctf import Experiment, TensorFlow\n"
        "def train(*words, **asked):\n"
        "    return TensorFlow('proj', entry_script='train.py', arguments=words, **asked)\n"
        "runs = Experiment('sweep').submit_array(\n"
        "    [train(n, sbatch={'begin': 'now+2'}) for n in '10'])\n"
        "print(runs[0].id, *[run.then(train('0')).id for run in runs])\n",
    )
    done = person.cluster.run(
        person.bin / "python", program, user=person.user, cwd=person.home, env=person.env
    )
    failed, never, second = done.stdout.split()[-3:]
    assert script.exists()
    assert chain.told(second)["state"] == "Completed"
    assert chain.told(never)["reason"] == f"run {failed}, which it was to follow, failed"
    assert Path(person.status(second)["run_folder"]).parent.name == "sweep"
