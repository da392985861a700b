"""Runs that Slurm still has, or has again, are not removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slurm

DONE = "import os\nopen(os.environ['HPCTF_CHECKPOINT_DIR'] + '/1', 'w').write('w')\n"


def refused(person: Person, run: str, **env: str) -> str:
    """Look that a run is neither removed nor archived, and return why not."""
    for words in (["runs", "--rm"], ["archive"]):
        done = person.hpctf(*words, run, "--yes", check=False, **env)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert list(person.home.glob(f"runs/*/{run}/run.json"))
    return done.stderr


def completed(person: Person) -> str:
    """Return a run that is over and settled."""
    script = person.write("proj/done.py", DONE)
    return person.hpctf("submit", "--wait", script).stdout.strip()


def test_a_run_that_waits_in_the_queue_stays(person: Person) -> None:
    script = person.write("proj/done.py", DONE)
    run = person.hpctf("submit", "--sbatch", "begin=2099-01-01", script).stdout.strip()
    assert "it is Queued" in refused(person, run)
    person.hpctf("cancel", run)
    wait_until(lambda: person.status(run)["state"] == "Canceled")
    assert person.hpctf("runs", "--rm", run, "--yes").stdout == f"{run}\n"
    assert person.hpctf("runs", "--json").stdout == "[]\n"


def test_a_run_whose_checkpoints_a_queued_one_begins_with_stays(person: Person) -> None:
    first = completed(person)
    words = ["--resume-from", first, "--sbatch", "begin=2099-01-01"]
    later = person.hpctf("submit", *words, "proj/done.py").stdout.strip()
    assert f"run {later} uses it, which is not over" in refused(person, first)


def test_a_run_whose_job_is_in_the_queue_again_stays(person: Person) -> None:
    """It is settled as Completed, and Slurm starts it once more all the same."""
    run = completed(person)
    assert json.loads(Path(person.status(run)["run_folder"], "state/final.json").read_text())
    person.cluster.run("scontrol", "requeuehold", str(person.status(run)["job_id"]))
    assert "is in the queue again" in refused(person, run)


def test_where_slurm_cannot_be_asked_what_may_run_stays(person: Person) -> None:
    script = person.write("proj/done.py", DONE)
    waiting = person.hpctf("submit", "--sbatch", "begin=2099-01-01", script).stdout.strip()
    over = completed(person)
    broken = person.write("bin/squeue", "#!/bin/sh\necho 'slurm is away' >&2\nexit 1\n")
    broken.chmod(0o755)
    path = f"{broken.parent}:/usr/local/bin:/usr/bin:/bin"
    for run in (waiting, over):
        assert "the scheduler could not be asked" in refused(person, run, PATH=path)
    assert person.hpctf("runs", "--rm", over, "--yes").stdout == f"{over}\n"


def test_the_first_run_of_an_array_stays_while_others_wait(person: Person) -> None:
    person.write("proj/done.py", "import sys, time\ntime.sleep(float(sys.argv[1]))\n")
    program = person.write(
        "sweep.py",
        "from hpctf import Experiment, TensorFlow\n"
        "runs = Experiment('sweep').submit_array([\n"
        "    TensorFlow('proj', entry_script='done.py', arguments=[seconds])\n"
        "    for seconds in (0, 600)])\n"
        "runs[0].wait_for_completion()\n"
        "print(*(run.id for run in runs))\n",
    )
    done = person.cluster.run(
        person.bin / "python", program, user=person.user, cwd=person.home, env=person.env
    )
    first, second = done.stdout.split()
    assert f"run {second} uses it" in refused(person, first)
    person.hpctf("cancel", second)
    wait_until(lambda: person.status(second)["state"] == "Canceled")
    assert person.hpctf("runs", "--rm", first, "--yes").stdout == f"{first}\n"
    assert person.status(second)["state"] == "Canceled"


def test_roots_own_command_leaves_a_users_run(person: Person) -> None:
    run = completed(person)
    done = person.cluster.run(
        *(person.bin / "hpctf", "runs", "--rm", run, "--yes"), env=person.env, check=False
    )
    assert done.returncode == 2
    assert f"it belongs to {person.user}" in done.stderr
