"""Whatever fails, the run's failure is that of the first rank that failed, and nothing stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from hpctf import Run
from hpctf.common.processes import start_time
from tests.cluster.fixture import crashes
from tests.conftest import Person
from tests.faults.conftest import Clock
from tests.faults.inject import Faults
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slurm

AT_ONCE_S = 10.0
"""Seconds within which everything of a job that has failed must be gone."""

STUBBORN = """
import os, signal, subprocess, sys, time
me = os.environ["HPCTF_ROLE"] + "-" + os.environ["HPCTF_INDEX"]
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
# a child that ignores signals, too, and one that has made itself a daemon
ignoring = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
pids = [os.getpid(), subprocess.Popen([sys.executable, "-c", ignoring]).pid]
pids.append(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)
with open("outputs/" + me + ".new", "w") as f:
    f.write(" ".join(map(str, pids)))
os.rename("outputs/" + me + ".new", "outputs/" + me + ".pids")
print(me, "is up", flush=True)
while me != "{culprit}":
    time.sleep(1)
while len([f for f in os.listdir("outputs") if f.endswith(".pids")]) < int({ranks}):
    time.sleep(0.05)
print("the last words of", me, flush=True)
{crash}
"""
CRASHES = {
    "exit": ("sys.exit(9)", "exit code 9", 9),
    "signal": ("os.kill(os.getpid(), signal.SIGSEGV)", "signal 11 (SIGSEGV)", 139),
    "exception": ("raise RuntimeError('out of coffee')", "exit code 1", 1),
}
PS = ["--backend", "ps", "--workers", "2", "--ps-mode", "script"]
PLACES: list[tuple[list[str], str, int]] = [
    ([], "worker-0", 1),
    (["--backend", "mpi", "--nodes", "2"], "worker-1", 2),
    (["--backend", "mpi", "--nodes", "2", "--site", "slurm-mpirun"], "worker-1", 2),
    (["--backend", "collective", "--nodes", "3"], "worker-2", 3),
    (PS, "chief-0", 4),
    (PS, "worker-1", 4),
    (PS, "ps-0", 4),
    ([*PS, "--ps-placement", "shared"], "worker-0", 4),
]


def left_of(run_folder: Path) -> list[int]:
    """Return the process ids, noted by a run's scripts, that are still alive."""
    noted = [int(p) for f in run_folder.glob("outputs/*.pids") for p in f.read_text().split()]
    return [pid for pid in noted if start_time(pid) is not None]


# How a rank ends is its own matter: every way is tried on one rank of each kind of step.
CASES = [
    pytest.param(*place, crash, id=f"{crash} of {place[1]}, {' '.join(place[0][1:]) or 'single'}")
    for place in PLACES
    for crash in (CRASHES if place[1] in ("worker-0", "chief-0") else ["exit"])
]


@pytest.mark.parametrize(("words", "culprit", "ranks", "crash"), CASES)
@pytest.mark.fault(
    "a rank crashes, and others ignore signals", "reports its exit code; all are gone in 10 s"
)
def test_the_first_failure_is_told_and_everything_ends(
    person: Person, clock: Clock, words: list[str], culprit: str, ranks: int, crash: str
) -> None:
    ending, told, code = CRASHES[crash]
    text = STUBBORN.replace("{culprit}", culprit).replace("{ranks}", str(ranks))
    script = person.write("proj/stubborn.py", text.replace("{crash}", ending))
    run = person.hpctf("submit", "--sbatch", "mem=300", *words, script).stdout.strip()
    folder = next(person.home.glob(f"runs/*/{run}"))
    log = folder / "logs" / f"{culprit}.log"
    wait_until(lambda: log.exists() and "the last words" in log.read_text())
    clock.injected()
    began = time.monotonic()
    wait_until(lambda: not left_of(folder))
    assert time.monotonic() - began < AT_ONCE_S
    done = person.hpctf("wait", run, check=False)
    clock.right()
    assert done.returncode == 1
    assert f"{culprit} on n" in done.stderr and told in done.stderr
    # The exception alone is shown, or else what the process has said.
    said = "RuntimeError: out of coffee" if crash == "exception" else f"the last words of {culprit}"
    assert said in done.stderr
    assert person.status(run)["exit_code"] == code
    why = person.hpctf("why", run).stdout
    assert f"{culprit} on n" in why and told in why and said in why
    wait_until(lambda: person.jobs() == [])


WORDS = [
    ("__import__('no_such_' + 'module')\n", "No module named 'no_such_module'"),
    ("from json import no_such_name\n", "cannot import name 'no_such_name'"),
    ("import ctypes\nctypes.CDLL('libnothere.so.7')\n", "libnothere.so.7: cannot open shared"),
    ("def f(:\n", "SyntaxError"),
]


@pytest.mark.parametrize(("text", "words"), WORDS, ids=["module", "name", "library", "syntax"])
@pytest.mark.fault("the script cannot be imported", "quotes Python's error")
def test_import_errors_are_told(person: Person, clock: Clock, text: str, words: str) -> None:
    script = person.write("proj/train.py", text)
    clock.injected()
    done = person.hpctf("submit", "--wait", script, check=False)
    clock.right()
    assert done.returncode == 1
    assert words in done.stderr
    assert words in person.hpctf("why", "@last").stdout


@pytest.mark.fault(
    "a program built for another kind of machine, or for none", "reports the exec format error"
)
def test_an_exec_format_error_is_told(person: Person, clock: Clock) -> None:
    program = person.write("proj/program", "")
    program.write_bytes(b"\x7fELF\x02\x01\x01" + b"\0" * 60)
    program.chmod(0o755)
    clock.injected()
    done = person.hpctf("submit", "--wait", program, check=False)
    clock.right()
    assert done.returncode == 1
    assert "Exec format error" in done.stderr
    assert person.status()["exit_code"] == 126
    assert "Exec format error" in person.hpctf("why", "@last").stdout


@pytest.mark.fault("the training's Python is not on the nodes", "names it")
def test_a_training_python_that_is_gone(person: Person, clock: Clock) -> None:
    script = person.write("proj/train.py", "print(1)\n")
    python = person.write("env/bin/python", "")
    python.unlink()
    python.symlink_to("/usr/bin/python3")
    run = person.hpctf(
        "submit", "--python", python, "--sbatch", "begin=now+3", script
    ).stdout.strip()
    python.unlink()
    clock.injected()
    done = person.hpctf("wait", run, check=False)
    clock.right()
    assert f"No such file or directory: '{python}'" in done.stderr
    assert f"No such file or directory: '{python}'" in person.hpctf("why", run).stdout
    assert person.status(run)["exit_code"] == 127


@pytest.mark.fault("hpctf's Python is not on the nodes", "names it and the node")
def test_an_hpctf_python_that_is_gone(person: Person, clock: Clock) -> None:
    script = person.write("proj/train.py", "print(1)\n")
    bin_folder = person.home / "hpctf-env" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python").symlink_to(person.bin / "python")
    shutil.copy(person.bin.parent / "pyvenv.cfg", bin_folder.parent)
    (bin_folder.parent / "lib").symlink_to(person.bin.parent / "lib")
    words = [bin_folder / "python", "-m", "hpctf", "submit", "--sbatch", "begin=now+3", script]
    made = person.cluster.run(*words, user=person.user, env=person.env, cwd=person.home)
    (bin_folder / "python").unlink()
    clock.injected()
    done = person.hpctf("wait", made.stdout.strip(), check=False)
    clock.right()
    assert done.returncode == 1
    reason = person.status(made.stdout.strip())["reason"]
    assert f"hpctf's Python, {bin_folder / 'python'}, is not there on node n" in reason
    assert reason in person.hpctf("why", "@last").stdout
    assert person.status(made.stdout.strip())["exit_code"] == 127


@pytest.mark.fault("an environment module does not exist", "fails before training")
def test_a_missing_environment_module(person: Person, clock: Clock) -> None:
    functions = "module() { echo \"Unable to locate a modulefile for '$2'\" >&2; return 1; }"
    site = person.write("site.yaml", "name: modular\nmodules: [openmpi/9]\n")
    bash_env = person.write("module.sh", f"{functions}\nexport -f module\n")
    script = person.write("proj/train.py", "print('trained')\n")
    clock.injected()
    done = person.hpctf(
        "submit", "--site", site, "--wait", script, check=False, BASH_ENV=str(bash_env)
    )
    clock.right()
    assert done.returncode == 1
    assert "module load openmpi/9 failed on node n" in person.status()["reason"]
    assert "Unable to locate a modulefile" in done.stderr
    assert "module load openmpi/9 failed on node n" in person.hpctf("why", "@last").stdout


@pytest.mark.fault("a rank runs out of memory", "says so, with the memory requested and used")
def test_out_of_memory(person: Person, clock: Clock) -> None:
    script = person.write(
        "proj/eat.py", "print('eating', flush=True)\nfood = bytearray(400_000_000)\n"
    )
    words = ["--backend", "collective", "--nodes", "2", "--mem", "150M"]
    clock.injected()
    done = person.hpctf("submit", *words, "--wait", script, check=False)
    clock.right()
    assert done.returncode == 1
    assert "signal 9 (SIGKILL), out of memory" in done.stderr
    failed = next(role for role in person.status()["roles"] if role["oom"])
    assert failed["oom"]["limit"] == 150 * 1024**2
    assert person.status()["exit_code"] == 137
    why = person.hpctf("why", "@last").stdout
    assert "Its limit is 150 MB, and it used 150 MB." in why
    assert "--mem (it was 150M)" in why


def states_of(folder: Path, rank: str) -> list[dict[str, Any]]:
    lines = (folder / f"state/{rank}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.tensorflow
@pytest.mark.fault("a worker of a parameter-server run crashes", "starts it again")
def test_a_crashed_worker_comes_back_while_the_chief_trains_on(
    trainer: Person, clock: Clock
) -> None:
    words = ["--backend", "ps", "--workers", "2", "--max-worker-restarts", "2"]
    words += ["--python", trainer.env["HPCTF_EXAMPLE_PYTHON"]]
    script = trainer.home / "examples/digits/ps.py"
    run = trainer.hpctf("submit", *words, script, "--", "--epochs", "40").stdout.strip()
    folder = next(trainer.home.glob(f"runs/*/{run}"))
    log = folder / "logs/chief-0.log"
    wait_until(lambda: log.exists() and "epoch 3:" in log.read_text())
    (first,) = [one for one in states_of(folder, "worker-1") if one["event"] == "started"]
    os.kill(first["pid"], signal.SIGKILL)
    clock.injected()
    wait_until(lambda: states_of(folder, "worker-1")[-1].get("restart") == 1)
    clock.right()
    done = trainer.hpctf("wait", run, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(trainer.output("metrics.json", run))["accuracy"] >= 0.95
    worker = next(
        r for r in trainer.status(run)["roles"] if (r["role"], r["index"]) == ("worker", 1)
    )
    assert (worker["state"], worker["restarts"]) == ("Completed", 1)
    text = log.read_text()
    assert [f"epoch {n}:" in text for n in range(1, 41)] == [True] * 40


@pytest.mark.fault(
    "a worker crashes more often than allowed", "the run ends with its last exit code"
)
def test_a_worker_that_crashes_too_often_fails_the_run(person: Person, clock: Clock) -> None:
    script = person.write(
        "proj/crash.py",
        "import os, sys, time\n"
        "if os.environ['HPCTF_ROLE'] == 'worker':\n"
        "    print('crashing', flush=True)\n"
        "    sys.exit(5)\n"
        "time.sleep(600)\n",
    )
    words = ["--backend", "ps", "--workers", "1", "--ps-mode", "script"]
    clock.injected()
    done = person.hpctf(
        "submit", *words, "--max-worker-restarts", "2", "--wait", script, check=False
    )
    clock.right()
    assert done.returncode == 1 and "worker-0 on n" in done.stderr
    assert person.status()["exit_code"] == 5
    assert person.hpctf("logs", "@last", "--role", "worker").stdout.count("crashing") == 3


@pytest.mark.tensorflow
@pytest.mark.fault("Keras with BackupAndRestore, requeued twice", "trains every epoch exactly once")
def test_keras_goes_on_from_its_backup(trainer: Person, clock: Clock) -> None:
    words = ["--max-restarts", "3", "--env", "DIGITS_PAUSE=1"]
    words += ["--python", trainer.env["HPCTF_EXAMPLE_PYTHON"]]
    script = trainer.home / "examples/digits/resume.py"
    run = trainer.hpctf("submit", *words, script).stdout.strip()
    folder = next(trainer.home.glob(f"runs/*/{run}"))
    epochs = folder / "outputs/epochs.txt"
    clock.injected()
    for done in (2, 5):
        wait_until(lambda done=done: epochs.exists() and epochs.read_text().count("\n") >= done)
        trainer.cluster.run("scontrol", "requeue", str(trainer.status(run)["job_id"]))
        wait_until(lambda: trainer.status(run)["state"] == "Queued")
    trainer.hpctf("wait", run)
    clock.right()
    rows = [tuple(map(int, line.split())) for line in epochs.read_text().splitlines()]
    assert [epoch for epoch, _ in rows] == list(range(12))
    assert {start for _, start in rows} == {0, 1, 2}
    assert Run(folder).series()["loss"].steps == list(range(12))
    assert json.loads(trainer.output("metrics.json", run))["accuracy"] >= 0.95


@pytest.mark.tensorflow
@pytest.mark.fault(
    "a parameter-server run is warned of its end",
    "its ps tasks serve until the end; the run resumes",
)
def test_a_coordinator_is_warned_and_goes_on(trainer: Person, clock: Clock) -> None:
    words = ["--backend", "ps", "--workers", "1", "--max-restarts", "2"]
    words += ["--python", trainer.env["HPCTF_EXAMPLE_PYTHON"]]
    script = trainer.home / "examples/digits/ps.py"
    run = trainer.hpctf("submit", *words, script, "--", "--epochs", "14").stdout.strip()
    log = next(trainer.home.glob(f"runs/*/{run}")) / "logs/chief-0.log"
    wait_until(lambda: log.exists() and "epoch 6:" in log.read_text())
    # what Slurm sends before the time limit
    trainer.cluster.run("scancel", "--signal=USR2", f"{trainer.status(run)['job_id']}.0")
    clock.injected()
    trainer.hpctf("wait", run)
    clock.right()
    text = log.read_text()
    assert text.count("epoch 4:") == 1, "it went on from the checkpoint of epoch 4"
    assert "epoch 14:" in text
    assert json.loads(trainer.output("metrics.json", run))["accuracy"] >= 0.95


def running_on_n2(person: Person) -> str:
    """Return a run whose step runs on n2 for some seconds more."""
    script = person.write("proj/sleep.py", "import time\nprint('up', flush=True)\ntime.sleep(6)\n")
    run = person.hpctf("submit", "--sbatch", "nodelist=n2", script).stdout.strip()
    wait_until(lambda: person.status(run)["state"] == "Running")
    return run


@pytest.mark.fault("slurmd is killed during a step", "the run continues")
def test_a_killed_slurmd_does_not_end_the_training(
    person: Person, faults: Faults, clock: Clock
) -> None:
    run = running_on_n2(person)
    clock.injected()
    with faults.stopped("slurmd-n2", signal="KILL"):
        time.sleep(3)
    person.hpctf("wait", run)
    clock.right()
    assert person.status(run)["state"] == "Completed"


@pytest.mark.fault("slurmd crashes under a running step and is started again", "the run continues")
def test_a_slurmd_that_crashes_is_started_again(
    person: Person, faults: Faults, clock: Clock
) -> None:
    run = running_on_n2(person)
    pid_file = faults.cluster.directory / "pids/slurmd-n2.pid"
    crashed = pid_file.read_text()
    clock.injected()
    os.kill(int(crashed), signal.SIGABRT)
    person.hpctf("wait", run)
    clock.right()
    assert person.status(run)["state"] == "Completed"
    assert pid_file.read_text() != crashed
    line = crashes(faults.cluster)[-1]
    assert "slurmd of n2 crashed, signal 6" in line
    log = faults.cluster.directory / "logs/slurmd-n2.out"
    log.write_text(log.read_text().replace(f"{line}\n", ""))  # or the summary would report it
