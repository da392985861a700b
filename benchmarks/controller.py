"""A controller of 5,000 nodes and 16,000 jobs

Slurm's own slurmctld with 5,000 nodes that are all down, so that nothing runs and every job waits:
16,000 of them, as tasks of 16 arrays. Commands as whole processes; `hpctf runs` lists runs of which
each has a waiting job of its own, with the calls that the controller has answered meanwhile: one
`squeue` is 3.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.bench import HPCTF, Bench, CannotMeasure, run, timed
from benchmarks.figures import Figure, Goal, value
from benchmarks.listing import FIRST_MS
from benchmarks.queue import calls

NEEDS = ("slurm",)
NODES_DOWN = 5_000
RACK = 250
ARRAYS, TASKS = 16, 1_000
RUNS = (10, 100, 1_000)
LIST, CALLS = "`hpctf runs`, all waiting", "calls of the controller"
WHY = "Of a run that is not over, its record, its plan and its ranks' states are read: 1 ms a run."
GOALS = (
    Goal("`hpctf runs` of 1,000 waiting runs ≤ 1 s", value(LIST, 1_000), most=1.0, why=WHY),
    Goal(
        "`hpctf runs` of 1,000 waiting runs ≤ 3 calls, those of one `squeue`",
        value(CALLS, 1_000),
        most=3,
    ),
)
CONF = """
ClusterName=large
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={munge}
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
MaxJobCount=30000
MaxArraySize=10001
MpiDefault=pmix
"""


def measure(bench: Bench) -> Iterator[Figure]:
    folder = bench.folder
    script = bench.script("train.py", "print(1)\n")
    with controller(folder) as conf:
        os.environ["SLURM_CONF"] = str(conf)
        variables = {"HPCTF_RUNS_ROOT": str(folder / "runs"), "HPCTF_SITE": "slurm"}
        sbatch = ["sbatch", "--parsable", "--wrap=true", "--output=/dev/null"]
        arrays = [run(*sbatch, f"--array=0-{TASKS - 1}").strip() for _ in range(ARRAYS)]
        jobs = [f"{arrays[0]}_{task}" for task in range(TASKS)]
        count = len(run("squeue", "--noheader", "--array").splitlines())
        yield Figure("jobs in the queue", "jobs", (float(count),))

        mpi = ("submit", "--backend", "mpi", "--nodes")
        cases = {
            "sbatch by hand": partial(timed, *sbatch, **variables),
            "squeue of all jobs": partial(timed, "squeue", "--array", **variables),
            "`hpctf submit`, 2 nodes": partial(timed, HPCTF, *mpi, "2", script, **variables),
            "`hpctf submit`, 5,000 nodes": partial(
                timed, HPCTF, *mpi, str(NODES_DOWN), script, **variables
            ),
            "`hpctf status`": partial(timed, HPCTF, "status", "@last", **variables),
            "`hpctf why`": partial(timed, HPCTF, "why", "@last", **variables),
            "`hpctf cancel`": partial(cancelled, script, variables),
            "`hpctf site init --print`": partial(
                timed, HPCTF, "site", "init", "--print", **variables
            ),
            "`hpctf doctor`": partial(examined, variables),
        }
        yield from bench.in_turn(cases, rounds=5)
        shutil.rmtree(folder / "runs")
        yield from listed(bench, folder, script, jobs, variables)


@contextmanager
def controller(folder: Path) -> Iterator[Path]:
    """Start a controller of many nodes, beside the test cluster's, whose munged it uses; yield its
    configuration."""
    (folder / "state").mkdir()
    conf = folder / "slurm.conf"
    munge = Path(os.environ["SLURM_CONF"]).parent.parent / "munge/munge.socket"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    words: dict[str, object] = {
        "port": port,
        "host": os.uname().nodename,
        "user": getpass.getuser(),
        "munge": munge,
    }
    lines = [CONF.format(folder=folder, **words)]
    for rack in range(NODES_DOWN // RACK):
        first = rack * RACK + 1
        name = f"NodeName=d[{first:04}-{first + RACK - 1:04}] NodeAddr=127.1.{rack}.[1-{RACK}]"
        lines.append(f"{name} CPUs=16 RealMemory=64000 State=DOWN\n")
    nodes = f"Nodes=d[0001-{NODES_DOWN}]"
    lines.append(f"PartitionName=normal {nodes} Default=YES MaxTime=INFINITE State=UP\n")
    conf.write_text("".join(lines))
    log = folder / "slurmctld.out"
    with log.open("w") as output:
        daemon = subprocess.Popen(
            ["/usr/sbin/slurmctld", "-D", "-f", conf],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        while "Running as primary controller" not in log.read_text():
            if daemon.poll() is not None:
                lines = log.read_text().splitlines()
                raise CannotMeasure(f"slurmctld ended: {lines[-1] if lines else ''}")
            time.sleep(0.2)
        yield conf
    finally:
        daemon.terminate()
        daemon.wait()


def cancelled(script: Path, variables: dict[str, str]) -> float:
    """Submit a run, and return the seconds that it takes to cancel it."""
    name = run(HPCTF, "submit", script, **variables).strip()
    return timed(HPCTF, "cancel", name, **variables)


def examined(variables: dict[str, str]) -> float:
    """Return the seconds that the doctor takes, whatever it finds."""
    began = time.perf_counter()
    subprocess.run(
        [HPCTF, "doctor"],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    return time.perf_counter() - began


def listed(
    bench: Bench, folder: Path, script: Path, jobs: list[str], variables: dict[str, str]
) -> Iterator[Figure]:
    """Measure listings of runs that wait, each with a job of its own."""
    name = run(HPCTF, "submit", "--experiment", "poll", script, **variables).strip()
    source = folder / "runs/poll" / name
    record = json.loads((source / "run.json").read_text())
    for size in RUNS:
        for number in range(size):
            copy = f"poll_{FIRST_MS + number}_{number:06x}"
            target = folder / f"many-{size}/poll" / copy
            shutil.copytree(source, target, symlinks=True)
            changed = {**record, "id": copy, "job_id": jobs[number], "job_name": "wrap"}
            changed.pop("job_submitted", None)
            (target / "run.json").write_text(json.dumps(changed))
        there = {**variables, "HPCTF_RUNS_ROOT": str(folder / f"many-{size}")}
        seconds, counts = [], []
        for _ in range(5):
            before = calls()
            began = time.perf_counter()
            rows = json.loads(run(HPCTF, "runs", "--limit", "0", "--json", **there))
            seconds.append(time.perf_counter() - began)
            counts.append(float(calls() - before - 1))
            states = {row["state"] for row in rows}
            assert len(rows) == size and states == {"Queued"}, (len(rows), states)
        yield Figure(LIST, "s", tuple(seconds), size, "waiting runs")
        yield Figure(CALLS, "calls", tuple(counts), size, "waiting runs")
