"""How runs end on the real cluster: well, badly, cancelled; and what is told of it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpctf.common.processes import start_time
from tests.conftest import TEST_USER, Person
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slurm

EXIT_7 = """
import os, sys, time
if os.environ["HPCTF_RANK"] == "1" or os.environ["HPCTF_WORLD_SIZE"] == "1":
    print("about to fail", flush=True)
    sys.exit(7)
time.sleep(600)
"""


PS = ["--backend", "ps", "--workers", "2", "--ps-mode", "script"]
PLACES: dict[str, tuple[list[str], str]] = {
    "single": ([], "worker-0"),
    "mpi-srun": (["--backend", "mpi", "--nodes", "2"], "worker-1"),
    "mpi-mpirun": (["--backend", "mpi", "--nodes", "2", "--site", "slurm-mpirun"], "worker-1"),
    "collective": (["--backend", "collective", "--nodes", "2"], "worker-1"),
    "ps-hetjob": (PS, "worker-0"),
    "ps-shared": ([*PS, "--ps-placement", "shared"], "worker-0"),
}
OF_ROOT = ("single", "mpi-mpirun")
"""Where it makes a difference that root submits: to files, and to mpirun, which refuses root."""
CASES = [
    *[pytest.param(TEST_USER, *place, id=f"{name}-user") for name, place in PLACES.items()],
    *[pytest.param(None, *PLACES[name], id=f"{name}-root") for name in OF_ROOT],
]


@pytest.mark.parametrize(("person", "words", "culprit"), CASES, indirect=["person"])
def test_the_first_failure_ends_the_job_with_its_own_exit_code(
    person: Person, words: list[str], culprit: str
) -> None:
    script = person.write("proj/fail.py", EXIT_7)
    began = time.monotonic()
    done = person.hpctf("submit", *words, "--wait", script, check=False)
    assert time.monotonic() - began < 60
    assert done.returncode == 1
    assert f"{culprit} on n" in done.stderr
    assert "exit code 7" in done.stderr
    assert "about to fail" in done.stderr
    assert "Traceback" not in done.stderr
    status = person.status()
    assert (status["state"], status["exit_code"]) == ("Failed", 7)
    waited = person.hpctf("wait", status["id"], check=False)
    assert waited.returncode == 1
    assert culprit in waited.stderr and "about to fail" in waited.stderr
    assert person.hpctf("result", status["id"], check=False).returncode == 1
    ranks = {(role["role"], role["index"]): role for role in status["roles"]}
    role, _, index = culprit.partition("-")
    assert ranks[role, int(index)]["exit_code"] == 7
    wait_until(lambda: person.jobs() == [])


def test_slurm_itself_reports_the_exit_code_of_the_rank_that_failed(person: Person) -> None:
    script = person.write("proj/fail.py", EXIT_7)
    person.hpctf("submit", "--backend", "mpi", "--nodes", "2", "--wait", script, check=False)
    job = person.status()["job_id"]
    shown = person.cluster.run("scontrol", "show", "job", job).stdout
    assert "ExitCode=7:0" in shown


def test_a_rank_ended_by_a_signal_is_told_by_its_name(person: Person) -> None:
    script = person.write("proj/kill.py", "import os\nos.kill(os.getpid(), 9)\n")
    done = person.hpctf("submit", "--wait", script, check=False)
    assert done.returncode == 1
    assert "signal 9 (SIGKILL)" in done.stderr
    assert person.status()["exit_code"] == 128 + 9
    assert person.status()["roles"][0]["signal"] == 9


def test_parameter_servers_end_once_chief_and_workers_have(person: Person) -> None:
    script = person.write(
        "proj/serve.py",
        "import os, time\nif os.environ['HPCTF_ROLE'] == 'ps':\n    time.sleep(600)\n",
    )
    words = ["--backend", "ps", "--workers", "2", "--ps", "2", "--ps-mode", "script", "--no-chief"]
    person.hpctf("submit", *words, "--wait", script)
    states = {(role["role"], role["index"]): role["state"] for role in person.status()["roles"]}
    assert set(states.values()) == {"Completed"}
    wait_until(lambda: person.jobs() == [])


def test_a_crashing_parameter_server_fails_the_job_at_once(person: Person) -> None:
    script = person.write(
        "proj/serve.py",
        "import os, sys, time\n"
        "if os.environ['HPCTF_ROLE'] == 'ps':\n"
        "    sys.exit(3)\n"
        "time.sleep(600)\n",
    )
    words = ["--backend", "ps", "--workers", "2", "--ps-mode", "script", "--wait"]
    for placement in ("hetjob", "shared"):
        done = person.hpctf("submit", *words, "--ps-placement", placement, script, check=False)
        assert done.returncode == 1
        assert "ps-0 on n" in done.stderr and "exit code 3" in done.stderr
        assert person.status()["exit_code"] == 3


def test_workers_of_a_script_may_finish_after_the_chief(person: Person) -> None:
    script = person.write(
        "proj/late.py",
        "import os, time\n"
        "role = os.environ['HPCTF_ROLE']\n"
        "time.sleep({'chief': 0, 'worker': 2, 'ps': 600}[role])\n"
        "print('finished')\n",
    )
    words = ["--backend", "ps", "--workers", "1", "--ps-mode", "script", "--wait"]
    run = person.hpctf("submit", *words, script).stdout.strip()
    assert "finished" in person.hpctf("logs", run, "--role", "worker").stdout
    assert "finished" not in person.hpctf("logs", run, "--role", "ps").stdout


def test_a_program_that_is_not_there_is_told_in_those_words(person: Person) -> None:
    person.write("proj/run.sh", "#!/no/such/shell\n").chmod(0o755)
    done = person.hpctf("submit", "--wait", person.home / "proj/run.sh", check=False)
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr
    assert person.status()["exit_code"] == 127


def test_cancel_ends_every_process_and_says_so(person: Person) -> None:
    script = person.write(
        "proj/sleep.py", "import time\nprint('up', flush=True)\ntime.sleep(600)\n"
    )
    run = person.hpctf("submit", "--backend", "collective", "--nodes", "2", script).stdout.strip()
    wait_for_state(person, run, "Running")
    person.hpctf("cancel", run)
    done = person.hpctf("wait", run, check=False)
    assert done.returncode == 1
    assert "was cancelled" in done.stderr
    assert person.status(run)["state"] == "Canceled"
    wait_until(lambda: person.jobs() == [])
    again = person.hpctf("cancel", run)
    assert "has ended already" in again.stderr


def test_a_run_cancelled_by_somebody_else_is_canceled_too(person: Person) -> None:
    script = person.write("proj/sleep.py", "import time\ntime.sleep(600)\n")
    run = person.hpctf("submit", script).stdout.strip()
    wait_for_state(person, run, "Running")
    person.cluster.run("scancel", person.status(run)["job_id"])
    person.hpctf("wait", run, check=False)
    assert person.status(run)["state"] == "Canceled"


def test_a_queued_run_says_why_it_waits(person: Person) -> None:
    script = person.write("proj/sleep.py", "import time\ntime.sleep(600)\n")
    run = person.hpctf("submit", "--sbatch", "begin=now+1hour", script).stdout.strip()
    status = person.status(run)
    assert (status["state"], status["reason"]) == ("Queued", "BeginTime")
    person.hpctf("cancel", run)
    assert person.status(run)["state"] == "Canceled"


def test_a_signal_to_the_job_reaches_the_script(person: Person) -> None:
    script = person.write(
        "proj/notice.py",
        "import signal, sys, time\n"
        "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n",
    )
    run = person.hpctf("submit", script).stdout.strip()
    log = Path(person.status(run)["run_folder"]) / "logs/worker-0.log"
    wait_until(lambda: log.exists() and "ready" in log.read_text())
    person.cluster.run("scancel", "--signal=USR1", f"{person.status(run)['job_id']}.0")
    person.hpctf("wait", run)
    assert person.status(run)["state"] == "Completed"


def test_children_of_the_script_end_with_it(person: Person) -> None:
    script = person.write(
        "proj/children.py",
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "open('outputs/pid', 'w').write(str(child.pid))\n",
    )
    person.hpctf("submit", "--wait", script)
    assert start_time(int(person.output("pid"))) is None


def test_interrupting_a_wait_leaves_the_run_going(person: Person) -> None:
    script = person.write("proj/sleep.py", "import time\ntime.sleep(5)\n")
    run = person.hpctf("submit", script).stdout.strip()
    waiting = subprocess.Popen(
        [person.bin / "hpctf", "wait", run],
        env={"PATH": "/usr/bin:/bin", **person.env, **person.cluster.env},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr is not None
    waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    told = waiting.communicate()[1]
    assert waiting.returncode == 130
    assert f"hpctf wait {run}" in told and "Traceback" not in told
    person.hpctf("wait", run)
    assert person.status(run)["state"] == "Completed"


def test_sbatch_refusing_leaves_its_own_words_and_no_run(person: Person) -> None:
    script = person.write("proj/ok.py", "print(1)\n")
    done = person.hpctf("submit", "--sbatch", "partition=nowhere", script, check=False)
    assert done.returncode == 3
    assert "invalid partition" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (person.home / "runs").exists()


def test_a_finished_run_is_known_without_asking_slurm(person: Person) -> None:
    script = person.write("proj/ok.py", "print(1)\n")
    run = person.hpctf("submit", "--wait", script).stdout.strip()
    found = person.hpctf("status", run, "--json", PATH="/nowhere").stdout
    assert json.loads(found)["state"] == "Completed"


def wait_for_state(person: Person, run: str, state: str) -> None:
    """Look until the run is in that state."""
    wait_until(lambda: person.status(run)["state"] == state)


def test_an_srun_that_does_not_end_is_ended_once_every_rank_has(person: Person) -> None:
    # Slurm's own srun does so now and then; this one always does.
    endless = person.write("bin/srun", '#!/bin/sh\n/usr/bin/srun "$@"\nexec sleep 600\n')
    endless.chmod(0o755)
    site = person.write("site.yaml", f"name: mine\nprologue: ['PATH={endless.parent}:$PATH']\n")
    script = person.write("proj/ok.py", "print('trained')\n")
    words = ["--site", site, "--backend", "ps", "--workers", "2", "--ps-mode", "script"]
    run = person.hpctf("submit", *words, "--wait", script).stdout.strip()
    assert person.status(run)["state"] == "Completed"
    assert "srun has not: ending it" in person.hpctf("logs", run, "--role", "job").stdout
    wait_until(lambda: person.jobs() == [])


def test_what_a_job_said_before_it_was_put_back_into_the_queue_is_no_end(person: Person) -> None:
    """Nobody has looked meanwhile, so that nothing is settled yet."""
    run = person.hpctf("submit", person.write("proj/fail.py", EXIT_7)).stdout.strip()
    job = json.loads((person.folder(run) / "run.json").read_text())["job_id"]
    wait_until(lambda: person.jobs() == [])
    person.cluster.run("scontrol", "requeuehold", job)

    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(person.hpctf, "wait", run, check=False)
        wait_until(lambda: "Queued" in person.hpctf("status", run).stdout)
        person.hpctf("cancel", run)
        done = waiting.result()

    assert done.returncode == 1
    assert "was cancelled" in done.stderr
    assert "exit code 7" not in done.stderr


def test_a_requeued_run_starts_afresh_and_completes(person: Person) -> None:
    script = person.write(
        "proj/again.py",
        "import os, time\n"
        "if os.environ['HPCTF_RESTART_COUNT'] == '0' or os.environ['HPCTF_ROLE'] == 'ps':\n"
        "    time.sleep(600)\n"
        "time.sleep(2)\n"
        "print('second time')\n",
    )
    words = ["--backend", "ps", "--workers", "1", "--ps-mode", "script"]
    run = person.hpctf("submit", *words, script).stdout.strip()
    wait_for_state(person, run, "Running")
    wait_until(lambda: all(role["host"] for role in person.status(run)["roles"]))
    person.cluster.run("scontrol", "requeue", person.status(run)["job_id"])
    person.hpctf("wait", run)
    assert "second time" in person.hpctf("logs", run, "--role", "chief").stdout
    assert {role["state"] for role in person.status(run)["roles"]} == {"Completed"}


def test_a_runs_root_may_have_any_name_that_shows(person: Person) -> None:
    script = person.write("proj/train.py", "print('hello')\n")
    root = person.home / "rüns → a'b\"c%;%d $ #*[x]"
    env = {"HPCTF_RUNS_ROOT": str(root)}
    words = ["--backend", "collective", "--nodes", "2", "--wait", "--json"]
    done = person.hpctf("submit", *words, script, **env)
    told = json.loads(done.stdout)
    assert told["state"] == "Completed"
    folder = next(root.glob("*/*"))
    assert folder.name == told["id"]
    assert "hello" in (folder / "logs/worker-1.log").read_text()
    assert "hpctf: start 0" in (folder / "logs/job.log").read_text()
    refused = person.hpctf("submit", script, check=False, HPCTF_RUNS_ROOT=f"{person.home}/a\\b")
    assert refused.returncode == 2 and "drops the backslash" in refused.stderr
