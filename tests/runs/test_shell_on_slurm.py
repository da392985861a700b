"""A shell in a rank's place on the real cluster: on its node, in its environment, until its end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.support.forking import as_user
from tests.support.waiting import HANGS_S, wait_until

pytestmark = pytest.mark.slurm

WAITS = """
import json, os, time
name = os.environ["HPCTF_ROLE"] + "-" + os.environ["HPCTF_INDEX"]
with open("outputs/part-" + name, "w") as stream:
    json.dump({**os.environ, "node": os.uname().nodename}, stream)
os.rename("outputs/part-" + name, f"outputs/{name}.json")
while not os.path.exists("outputs/go"):
    time.sleep(0.1)
"""


def begin(person: Person, *words: str, last: str) -> tuple[str, Path]:
    """Return a run that goes on until ``outputs/go`` is there, and its outputs."""
    script = person.write("proj/train.py", WAITS)
    run = person.hpctf("submit", *words, script).stdout.strip()
    outputs = person.folder(run) / "outputs"
    wait_until((outputs / f"{last}.json").exists)
    return run, outputs


def test_a_shell_is_in_the_place_of_its_rank_and_leaves_the_training_alone(person: Person) -> None:
    person.write("proj/hpctf.yaml", "prologue: ['export OF_THE_SITE=here']\n")
    het = ("--backend", "ps", "--workers", "2", "--ps", "1", "--ps-mode", "script")
    run, outputs = begin(person, *het, "--env", "MY_TOKEN=s3cret", last="ps-0")
    waiting = person.hpctf("submit", "--after", run, "proj/train.py").stdout.strip()
    refused = person.hpctf("shell", waiting, "--", "true", check=False)
    assert refused.returncode == 2
    assert f"waits for run {run} to complete" in refused.stderr

    show = "import json, os; print(json.dumps({**os.environ, 'node': os.uname().nodename}))"
    words = ("--role", "ps", "--", "python3", "-c", show)
    found = json.loads(person.hpctf("shell", run, *words).stdout)
    rank = json.loads((outputs / "ps-0.json").read_text())
    same = ("node", "TF_CONFIG", "MY_TOKEN", "OF_THE_SITE", "PATH", "HPCTF_RANK", "SLURM_JOB_ID")
    assert {name: found.get(name) for name in same} == {name: rank.get(name) for name in same}
    assert not [name for name in found if name.startswith(("PMI_", "PMIX_"))]
    left = person.hpctf("shell", run, "--", "sh", "-c", "pwd; exit 7", check=False)
    assert (left.returncode, left.stdout) == (7, f"{outputs.parent}/snapshot\n")
    assert person.status(run)["state"] == "Running"

    # The job's end ends a shell that is open.
    opened = ["shell", run, "--", "sh", "-c", "touch outputs/open; sleep 600"]
    command = [person.bin / "hpctf", *opened]
    shell = subprocess.Popen(
        [*as_user(person.user), *map(str, command)],
        env=person.cluster.environment(person.user, person.env),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until((outputs / "open").exists)
    (outputs / "go").touch()
    _, said = shell.communicate(timeout=HANGS_S)
    assert shell.returncode >= 128
    assert f"The shell ended with its job: run {run} is" in said
    assert json.loads(person.hpctf("wait", run, "--json").stdout)["state"] == "Completed"
    person.hpctf("cancel", waiting)


def test_an_interactive_run_is_one_job_until_its_shell_is_left(person: Person) -> None:
    script = person.write("proj/train.py", "raise SystemExit('not to be run')")
    command = [person.bin / "hpctf", "submit", "--interactive", script]
    done = subprocess.run(
        [*as_user(person.user), *map(str, command)],
        env=person.cluster.environment(person.user, person.env),
        cwd=person.home,
        input="echo $SLURM_JOB_ID; exit 3\n",
        capture_output=True,
        text=True,
        timeout=HANGS_S,
    )
    assert done.returncode == 3, done.stderr
    status = person.status()
    assert done.stdout.split() == [status["job_id"]]
    person.hpctf("wait", status["id"], check=False)
    assert person.status()["state"] == "Canceled"
