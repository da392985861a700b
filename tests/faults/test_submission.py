"""A submission is never lost and never doubled, wherever it is cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Person
from tests.faults.conftest import Clock
from tests.faults.inject import Faults
from tests.support.waiting import HANGS_S, wait_until

pytestmark = pytest.mark.slurm

GATE = "touch $0.waits\nuntil [ -e $0.goes ]; do sleep 0.1; done\n"
BEFORE = f"{GATE}exec /usr/bin/sbatch {{words}}\n"
AFTER = f"/usr/bin/sbatch {{words}} >$0.said\n{GATE}cat $0.said\n"
LATER = f"({GATE}exec /usr/bin/sbatch {{words}}) >/dev/null 2>&1 &\necho 'site: wait' >&2; exit 1\n"


def slow_sbatch(person: Person, text: str) -> dict[str, str]:
    """Put an sbatch of our own first on PATH, which ends in Slurm's; return the environment."""
    path = person.write("bin/sbatch", "#!/bin/bash\n" + text.format(words='"$@"'))
    path.chmod(0o755)
    path.parent.chmod(0o777)
    return {"PATH": f"{path.parent}:/usr/local/bin:/usr/bin:/bin"}


def at_the_gate(person: Person) -> Path:
    """Wait until our sbatch stands at its gate; return the file that lets it go on."""
    wait_until((person.home / "bin/sbatch.waits").exists)
    return person.home / "bin/sbatch.goes"


def begin(person: Person, *words: str | Path, **env: str) -> subprocess.Popen[str]:
    """Begin an hpctf command as the person, in the background, but deaf to no signal."""
    plain = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(person.home)}
    command = [str(word) for word in (person.bin / "hpctf", *words)]
    return subprocess.Popen(
        [
            "env",
            "--default-signal=INT",
            "/usr/sbin/runuser",
            "-u",
            str(person.user),
            "--",
            *command,
        ],
        env={**plain, **person.env, **person.cluster.env, **env},
        cwd=person.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def child_of(process: subprocess.Popen[str]) -> int:
    """Return the process id of hpctf itself, under runuser."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(lambda: bool(listed.read_text().split()))
    return int(listed.read_text().split()[0])


def runs(person: Person) -> list[dict[str, Any]]:
    """Return ``hpctf runs --json``."""
    found: list[dict[str, Any]] = json.loads(person.hpctf("runs", "--json", "-n", "0").stdout)
    return found


def jobs_by_name(person: Person) -> dict[str, str]:
    """Return the jobs of the person's runs: ids by name."""
    shown = person.cluster.run("squeue", "--noheader", "--states=all", "--format=%j|%i|%Z")
    rows = [line.split("|") for line in shown.stdout.splitlines()]
    return {name: job for name, job, at in rows if Path(at).is_relative_to(person.home)}


def silent_for(seconds: float, folder: Path) -> None:
    """Let hpctf have written to a run's folder that long ago."""
    then = time.time() - seconds
    for path in (folder / "job.sbatch", folder / "run.json", folder):
        os.utime(path, (then, then))


PAUSES = """\
import signal, sys
def pause(event, args):
    if event == "open" and str(args[0]).endswith("/snapshot/data/file"):
        open(__file__ + ".paused", "x").close()
        signal.pause()
sys.addaudithook(pause)
"""
"""A ``sitecustomize`` with which hpctf pauses in the middle of copying, until a signal comes."""


def signal_in_mid_copy(person: Person, number: int, clock: Clock) -> subprocess.Popen[str]:
    """Submit, send hpctf a signal while it copies the files, and return it when it has ended."""
    pauses = person.write("pauses/sitecustomize.py", PAUSES)
    pauses.parent.chmod(0o777)
    person.write("proj/data/file", "copied last")
    script = person.write("proj/ok.py", "print(1)\n")
    submitting = begin(person, "submit", script, PYTHONPATH=str(pauses.parent))
    wait_until(Path(f"{pauses}.paused").exists)
    clock.injected()
    os.kill(child_of(submitting), number)
    submitting.communicate(timeout=HANGS_S)
    return submitting


@pytest.mark.parametrize(
    "text", [BEFORE, AFTER], ids=["before Slurm has the job", "once Slurm has the job"]
)
@pytest.mark.fault("hpctf is killed while sbatch runs", "finds the job by its name")
def test_a_killed_submission_is_found_again(person: Person, clock: Clock, text: str) -> None:
    script = person.write("proj/ok.py", "print('trained')\n")
    env = slow_sbatch(person, text)
    submitting = begin(person, "submit", script, **env)
    gate = at_the_gate(person)
    clock.injected()
    os.kill(child_of(submitting), signal.SIGKILL)
    gate.touch()
    submitting.communicate(timeout=HANGS_S)
    (run,) = runs(person)
    person.hpctf("wait", run["id"])
    clock.right()
    assert person.status(run["id"])["state"] == "Completed"
    assert person.status(run["id"])["job_id"] == jobs_by_name(person)[run["id"]]


KILLED = """\
import os, signal, sys
acts, last = 0, int(os.environ["KILLED_AT"])
def count(event, args):
    global acts
    writes = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event in ("os.mkdir", "os.rename", "os.link", "os.remove", "subprocess.Popen"):
        acts += 1
        if acts == last:
            os.kill(os.getpid(), signal.SIGKILL)
        if not last:
            os.write(2, b"one act\\n")
sys.addaudithook(count)
"""
"""A ``sitecustomize`` with which hpctf is killed before the Nth time that it changes anything, or
tells each time."""


@pytest.mark.fault(
    "hpctf is killed at any point of a submission", "there is one job or none, and hpctf says which"
)
def test_killed_at_any_point_leaves_a_tracked_run_or_nothing(person: Person, clock: Clock) -> None:
    script = person.write("proj/ok.py", "import time\ntime.sleep(600)\n")
    for number in range(20):
        person.write(f"proj/data/{number}", "x" * 1000)
    killed = person.write("killed/sitecustomize.py", KILLED).parent
    words = ("submit", "--sbatch", "begin=now+1hour", script)

    def submit(killed_at: int) -> tuple[int, int]:
        env = {"PYTHONPATH": str(killed), "KILLED_AT": str(killed_at)}
        submitting = begin(person, *words, **env)
        return submitting.communicate(timeout=HANGS_S)[1].count("one act"), submitting.returncode

    clock.injected()
    submit(0)  # the first one makes more, such as the runs folder
    acts, code = submit(0)
    assert code == 0
    points = sorted({1 + (acts - 1) * part // 24 for part in range(25)})
    for point in points:
        submit(point)
    listed = {run["id"]: run for run in runs(person)}
    jobs = jobs_by_name(person)
    known = [run for run in listed.values() if run["job_id"]]
    assert {run["id"]: run["job_id"] for run in known} == jobs
    for run in listed.values():
        if run["job_id"] is None and run["state"] == "Failed":
            assert "its submission was cut short" in run["reason"]
    clock.right()
    assert {run["state"] for run in known} <= {"Queued"}
    assert 2 < len(known) < 2 + len(points), "some were cut before sbatch, and some after it"
    person.hpctf("cancel", *[run["id"] for run in known])


@pytest.mark.fault("hpctf is killed before sbatch", "Failed: its submission was interrupted")
def test_killed_before_sbatch_there_is_no_job(person: Person, clock: Clock) -> None:
    signal_in_mid_copy(person, signal.SIGKILL, clock)
    waited = person.hpctf("wait", "@last", check=False)
    clock.right()
    assert waited.returncode == 1
    assert "its submission was cut short" in waited.stderr
    assert "its submission was cut short" in person.hpctf("why", "@last").stdout
    assert jobs_by_name(person) == {}


@pytest.mark.parametrize("taken", [True, False], ids=["job taken", "job not taken"])
@pytest.mark.fault("sbatch gets no answer from slurmctld", "finds out whether there is a job")
def test_an_sbatch_without_an_answer(person: Person, clock: Clock, taken: bool) -> None:
    script = person.write("proj/ok.py", "print('trained')\n")
    words = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    text = f"echo '{words}' >&2; exit 1\n"
    env = slow_sbatch(person, ("/usr/bin/sbatch {words} >/dev/null\n" if taken else "") + text)
    clock.injected()
    done = person.hpctf("submit", script, check=False, **env)
    assert done.returncode == (0 if taken else 3)
    assert "Socket timed out" in done.stderr
    assert ("hpctf status @last" in done.stderr) != taken
    folder = next(person.home.glob("runs/*/*"))
    if not taken:
        assert person.status()["state"] == "NotStarted"
        assert "whether Slurm took the job" in person.status()["reason"]
        silent_for(3600, folder)
    waited = person.hpctf("wait", "@last", check=taken)
    clock.right()
    assert waited.returncode == (0 if taken else 1)
    assert len(jobs_by_name(person)) == int(taken)


FAILING = (
    "/usr/bin/sbatch {words} >/dev/null\nexit 7\n",
    "/usr/bin/sbatch {words} >$0.said\necho 'site: cannot write my log' >&2\nexit 1\n",
    "/usr/bin/sbatch {words} >/dev/null\nkill -KILL $$\n",
)


@pytest.mark.fault(
    "a wrapper around sbatch fails after Slurm has the job", "finds the job by its name"
)
def test_a_wrapper_that_fails_after_the_job_was_handed_over(person: Person, clock: Clock) -> None:
    script = person.write("proj/ok.py", "print('trained')\n")
    clock.injected()
    for text in FAILING:
        person.hpctf("submit", "--sbatch", "begin=now+1hour", script, **slow_sbatch(person, text))
    clock.right()
    assert {run["id"]: run["job_id"] for run in runs(person)} == jobs_by_name(person)
    assert {run["state"] for run in runs(person)} == {"Queued"}
    assert len(jobs_by_name(person)) == len(FAILING)


@pytest.mark.fault(
    "a wrapper around sbatch fails, and submits the job later", "keeps the run folder"
)
def test_a_wrapper_that_hands_the_job_over_later(person: Person, clock: Clock) -> None:
    script = person.write("proj/ok.py", "print('trained')\n")
    clock.injected()
    done = person.hpctf("submit", script, check=False, **slow_sbatch(person, LATER))
    assert done.returncode == 3
    assert "site: wait" in done.stderr and "Slurm does not have it so far" in done.stderr
    folder = next(person.home.glob("runs/*/*"))
    silent_for(3600, folder)
    assert person.status()["state"] == "NotStarted"
    for words in (["runs", "--rm"], ["archive"]):
        refused = person.hpctf(*words, folder.name, "--yes", check=False)
        assert refused.returncode == 2 and "must stay" in refused.stderr
    at_the_gate(person).touch()
    person.hpctf("wait", "@last")
    clock.right()
    assert person.status()["job_id"] == jobs_by_name(person)[folder.name]


@pytest.mark.fault(
    "the job of a run that was reported lost appears after all", "the run and its folder stay"
)
def test_a_job_that_comes_after_its_run_was_called_lost(person: Person, clock: Clock) -> None:
    script = person.write("proj/ok.py", "print('trained')\n")
    env = slow_sbatch(person, "echo 'site: over quota' >&2; exit 1\n")
    assert person.hpctf("submit", script, check=False, **env).returncode == 3
    folder = next(person.home.glob("runs/*/*"))
    silent_for(3600, folder)
    assert "its submission was cut short" in person.status()["reason"]
    assert not (folder / "state/final.json").exists(), "it is sought for a day"
    silent_for(100_000, folder)
    assert person.status()["state"] == "Failed"
    lost = [(path, path.read_text()) for path in (folder / "run.json", folder / "state/final.json")]

    def call_lost() -> None:
        for path, text in lost:
            path.write_text(text)
        silent_for(100_000, folder)

    clock.injected()
    person.cluster.run("sbatch", "--hold", folder / "job.sbatch", user=person.user, cwd=person.home)
    person.write("lists/squeue", "#!/bin/sh\nexit 0\n").chmod(0o755)
    lacks = {"PATH": f"{person.home / 'lists'}:/usr/local/bin:/usr/bin:/bin"}
    for words in (["runs", "--rm", "--yes"], ["archive", "--yes"], ["resubmit"]):
        call_lost()
        refused = person.hpctf(*words, folder.name, check=False, **lacks)
        assert refused.returncode == 2, refused.stderr
        assert "has a job after all" in refused.stderr
    clock.right()
    assert folder.exists() and len(jobs_by_name(person)) == 1
    assert person.status()["state"] == "Queued"
    call_lost()
    person.hpctf("cancel", folder.name, **lacks)
    assert person.status()["state"] == "Canceled"


@pytest.mark.fault("slurmctld is down at submission", "says so, and leaves nothing behind")
def test_submitting_without_a_controller(person: Person, faults: Faults, clock: Clock) -> None:
    script = person.write("proj/ok.py", "print(1)\n")
    with faults.stopped("slurmctld"):
        clock.injected()
        done = person.hpctf("submit", script, check=False)
        clock.right()
    assert done.returncode == 3
    assert "Unable to contact slurm controller" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (person.home / "runs").exists()
    assert jobs_by_name(person) == {}


@pytest.mark.fault("eight submissions at once", "eight runs, eight jobs, no folder shared")
def test_submissions_side_by_side_share_nothing(person: Person, clock: Clock) -> None:
    script = person.write("proj/ok.py", "print('trained')\n")
    clock.injected()
    several = [begin(person, "submit", "--name", "same", script) for _ in range(8)]
    ids = [one.communicate(timeout=HANGS_S)[0].strip() for one in several]
    assert [one.returncode for one in several] == [0] * 8
    assert len(set(ids)) == 8
    for run in ids:
        person.hpctf("wait", run)
    clock.right()
    assert {run["id"]: run["job_id"] for run in runs(person)} == jobs_by_name(person)


@pytest.mark.fault("Ctrl-C while sbatch runs", "records the job's id all the same")
def test_ctrl_c_during_sbatch_waits_for_the_job_id(person: Person, clock: Clock) -> None:
    script = person.write("proj/ok.py", "print('trained')\n")
    submitting = begin(person, "submit", script, **slow_sbatch(person, AFTER))
    gate = at_the_gate(person)
    clock.injected()
    os.kill(child_of(submitting), signal.SIGINT)
    gate.touch()
    told = submitting.communicate(timeout=HANGS_S)[1]
    clock.right()
    (run,) = runs(person)
    assert submitting.returncode == 130
    assert f"hpctf status {run['id']}" in told and "Traceback" not in told
    assert run["job_id"] == jobs_by_name(person)[run["id"]]
    person.hpctf("wait", run["id"])


@pytest.mark.fault("Ctrl-C while files are copied", "leaves nothing behind")
def test_ctrl_c_before_sbatch_leaves_nothing(person: Person, clock: Clock) -> None:
    submitting = signal_in_mid_copy(person, signal.SIGINT, clock)
    clock.right()
    assert submitting.returncode == 130
    assert not (person.home / "runs").exists()
    assert jobs_by_name(person) == {}
