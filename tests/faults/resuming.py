"""A training that counts its epochs into a checkpoint, submitted in every way there is.

Before its last epoch it waits to be interrupted, however long a loaded machine takes for that.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from tests.conftest import Person
from tests.support.waiting import wait_until

TRAIN = """
import json, os, signal, sys, time


def train():
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    me = f"{os.environ['HPCTF_ROLE']}-{os.environ['HPCTF_INDEX']}"
    if me.startswith("ps"):
        time.sleep(600)
    checkpoint = os.path.join(os.environ["HPCTF_CHECKPOINT_DIR"], me + ".json")
    done = json.load(open(checkpoint)) if os.path.exists(checkpoint) else 0
    print("start", os.environ["HPCTF_RESTART_COUNT"], "at epoch", done, flush=True)
    epochs = int(os.environ["EPOCHS"])
    never_interrupted = not done and os.environ["HPCTF_RESTART_COUNT"] == "0"
    for epoch in range(done, epochs):
        time.sleep(0.5)
        while never_interrupted and epoch == epochs - 1 and not asked:
            time.sleep(0.1)
        with open(os.path.join(os.environ["HPCTF_OUTPUTS_DIR"], me + ".epochs"), "a") as log:
            log.write(f"{epoch}\\n")
        with open(checkpoint + ".new", "w") as new:
            json.dump(epoch + 1, new)
        os.replace(checkpoint + ".new", checkpoint)
        if asked:
            print("asked to end: leaving after epoch", epoch, flush=True)
            sys.exit(0)
    return done
"""
SCRIPT = TRAIN + "\n\ntrain()\n"
CALL = """
import sys
sys.path.insert(0, ".")
from hpctf import Experiment, TensorFlow
import training
run = Experiment("function").submit(
    TensorFlow(
        function=training.train,
        node_count=2,
        distributed_backend="collective",
        environment_variables={"EPOCHS": sys.argv[2]},
        max_restarts=9,
        grace_seconds=10,
        max_run_duration_seconds=int(sys.argv[1]),
        sbatch={"mem": 200},
    )
)
print(run.id)
"""
KINDS = {
    "single": [],
    "mpi": ["--backend", "mpi", "--nodes", "2"],
    "mpirun": ["--backend", "mpi", "--nodes", "2", "--site", "slurm-mpirun"],
    "collective": ["--backend", "collective", "--nodes", "2"],
    "ps-hetjob": ["--backend", "ps", "--workers", "1", "--ps-mode", "script"],
    "ps-shared": [
        *["--backend", "ps", "--workers", "1", "--ps-mode", "script"],
        *["--ps-placement", "shared"],
    ],
}
EPOCHS = 10


def begin(person: Person, *words: str, restarts: int | None = 9) -> str:
    """Submit the script and return its run's id."""
    script = person.write("proj/train.py", SCRIPT)
    options = ["--sbatch", "mem=200", "--env", f"EPOCHS={EPOCHS}"]
    if restarts is not None:
        options += ["--max-restarts", str(restarts)]
    if restarts:
        options += ["--grace", "10"]
    return person.hpctf("submit", *options, *words, script).stdout.strip()


def begin_all(person: Person, minutes: int = 60) -> dict[str, str]:
    """Submit a training of every kind and wait until each has begun; return ids by kind."""
    time = ["--time", str(minutes)]
    runs = {kind: begin(person, *time, *words) for kind, words in KINDS.items()}
    person.write("training.py", TRAIN)
    call = [person.bin / "python", person.write("call.py", CALL), str(minutes * 60), str(EPOCHS)]
    made = person.cluster.run(*call, user=person.user, env=person.env, cwd=person.home)
    runs["function"] = made.stdout.strip()
    wait_until(lambda: all(epochs_of(person, run) for run in runs.values()))
    return runs


def epochs_of(person: Person, run: str) -> dict[str, list[int]]:
    """Return the epochs that each rank of a run has done, by rank."""
    files = sorted(person.folder(run).glob("outputs/*.epochs"))
    return {path.stem: [int(line) for line in path.read_text().split()] for path in files}


def record_of(person: Person, run: str) -> list[dict[str, Any]]:
    """Return the job's own record."""
    lines = (person.folder(run) / "state/job.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def starts(person: Person, run: str) -> int:
    """Return how often the run's job has started."""
    return sum(one["event"] == "started" for one in record_of(person, run))


def check_all_resumed(person: Person, runs: dict[str, str]) -> None:
    """Wait for the runs: each has been started again, and each rank has done every epoch once."""
    for kind, run in runs.items():
        done = person.hpctf("wait", run, check=False)
        assert done.returncode == 0, f"{kind}: {done.stderr}"
        assert starts(person, run) > 1, f"{kind} was never interrupted"
        for rank, numbers in epochs_of(person, run).items():
            counted = Counter(numbers)
            assert counted == Counter(range(EPOCHS)), f"{kind}, {rank}: {counted}"
