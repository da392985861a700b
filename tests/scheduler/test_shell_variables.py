"""What a shell exports steers neither jobs nor what is told of them, on a real Slurm."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from hpctf.scheduler.programs import HONOURED
from tests.conftest import Person
from tests.scheduler.test_programs import SLURMS, inputs
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slurm

NEEDED = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"}

ODD = {
    "SBATCH_ARRAY_INX": "0-2",
    "SBATCH_CLUSTERS": "",
    "SBATCH_EXPORT": "NONE",
    "SBATCH_GET_USER_ENV": "",
    "SBATCH_JOB_NAME": "another",
    "SBATCH_MEM_PER_NODE": "150",
    "SBATCH_OPEN_MODE": "t",
    "SBATCH_OUTPUT": "/dev/null",
    "SBATCH_PARTITION": "high",
    "SBATCH_SIGNAL": "B:KILL@10",
    "SBATCH_TIMELIMIT": "2",
    "SLURM_CLUSTERS": "",
    "SLURM_TIME_FORMAT": "%s",
    "SQUEUE_FORMAT": "%u",
    "SQUEUE_NAMES": "another",
    "SQUEUE_PARTITION": "high",
    "SQUEUE_STATES": "COMPLETED",
    "SQUEUE_USERS": "nobody",
    "SINFO_FORMAT": "%v",
    "SINFO_PARTITION": "high",
    "SRUN_CPUS_PER_TASK": "4",
}
"""Values that their commands would take; the others' is 1."""


def hostile() -> dict[str, str]:
    """Return every variable that the installed commands read, but for those they need, and those
    by which a person may choose whom a job is charged to (tried apart)."""
    read = {name for command in SLURMS for name in inputs(command)}
    assert {"SBATCH_TIMELIMIT", "SQUEUE_USERS", "SLURM_HINT", "SCANCEL_USER"} <= read
    chosen = HONOURED.keys() - {"SBATCH_PARTITION"}
    return {name: ODD.get(name, "1") for name in read - NEEDED - chosen}


def job_of(person: Person, run: str) -> dict[str, str]:
    """Return what Slurm has of a run's job, without what differs between two jobs."""
    job = person.status(run)["job_id"]
    shown = person.cluster.run("scontrol", "show", "job", "--oneliner", job).stdout
    found = dict(re.findall(r"(\S+?)=(\S*)", shown.replace(run, "RUN")))
    its_own = (
        "Id",
        "Sid",
        "Time",
        "Eligible",
        "Priority",
        "Cookie",
        "Accrue",
        "LastSchedEval",
        "Ident",
    )
    return {key: value for key, value in found.items() if not any(one in key for one in its_own)}


def site_of(told: str) -> tuple[str, dict[str, Any]]:
    """Return the exit code and the site that was printed, without other tests' partitions and
    clusters."""
    code, _, text = told.partition(" ")
    site = yaml.safe_load(text)
    targets = {
        name: one
        for name, one in site["targets"].items()
        if not name.startswith("why") and "clusters" not in one
    }
    return code, {**site, "targets": targets}


def answers(person: Person, run: str, **env: str) -> dict[str, Any]:
    """Return what hpctf tells of a run and of the cluster."""

    def told(*words: str) -> str:
        done = person.hpctf(*words, check=False, **env)
        return f"{done.returncode} {done.stdout}"

    doctor = person.hpctf("doctor", "--json", check=False, **env).stdout
    status = json.loads(told("status", run, "--json").partition(" ")[2])
    return {
        "state": status["state"],
        "why": re.sub(r"\d+", "N", told("why", run).replace(run, "RUN")),
        "runs": [row["state"] for row in json.loads(told("runs", "--json").partition(" ")[2])],
        "site init": site_of(told("site", "init", "--print")),
        "doctor": [check["state"] for check in json.loads(doctor)["checks"]],
    }


def test_no_variable_of_a_manual_page_changes_a_job_or_an_answer(person: Person) -> None:
    script = person.write("proj/train.py", "import os; print('trained', os.environ['HOME'])\n")
    words = ["submit", "--sbatch", "begin=now+1hour", "--sbatch", "partition=normal"]
    words += ["--time", "00:20:00", "--mem", "200M", script]
    shell = hostile()
    plain = person.hpctf(*words).stdout.strip()
    steered = person.hpctf(*words, **shell)
    run = steered.stdout.strip()
    assert job_of(person, run) == job_of(person, plain)
    assert "SBATCH_TIMELIMIT is ignored" in steered.stderr
    assert answers(person, run, **shell) == answers(person, plain)
    job = person.status(run)["job_id"]
    person.cluster.run("scontrol", "update", f"jobid={job}", "starttime=now")
    done = person.hpctf("wait", run, check=False, **shell)
    assert done.returncode == 0, done.stderr
    assert "trained" in person.hpctf("logs", run, **shell).stdout
    assert person.hpctf("cancel", plain, **shell).returncode == 0
    wait_until(lambda: person.status(plain)["state"] == "Canceled")


def test_a_variable_chooses_where_no_option_does(person: Person) -> None:
    script = person.write("proj/train.py", "print(1)\n")
    words = ["submit", "--sbatch", "begin=now+1hour", script]
    done = person.hpctf(*words, SBATCH_PARTITION="high")
    assert "SBATCH_PARTITION=high is used" in done.stderr
    assert job_of(person, done.stdout.strip())["Partition"] == "high"
    told = person.hpctf("submit", "--dry-run", script, SBATCH_PARTITION="high").stdout
    assert "#SBATCH --partition=high" in told


NESTED = """
import json, os, subprocess, sys
inner = os.environ.pop("INNER_SCRIPT")
words = json.loads(os.environ.pop("INNER_WORDS"))
done = subprocess.run(["hpctf", "submit", "--wait", *words, inner], capture_output=True, text=True)
print(done.stderr, file=sys.stderr)
open("outputs/inner", "w").write(done.stdout.strip())
sys.exit(done.returncode)
"""

TELLS = """
import json, os
if os.environ["HPCTF_RANK"] == "0":
    json.dump(dict(os.environ), open("outputs/env.json", "w"))
"""


@pytest.mark.parametrize(
    ("outer", "inner"),
    [("slurm", "slurm"), ("local", "slurm"), ("slurm", "local"), ("local", "local")],
)
def test_a_run_within_a_run_is_its_own(person: Person, outer: str, inner: str) -> None:
    nested = person.write("outer/train.py", NESTED)
    tells = person.write("inner/train.py", TELLS)
    inside = ["--site", inner, "--backend", "collective"]
    inside += ["--nodes", "2"] if inner == "slurm" else ["--workers", "2"]
    words = ["submit", "--site", outer, "--wait", "--no-azureml", "--input", f"data={tells}"]
    words += ["--env", f"INNER_SCRIPT={tells}", "--env", f"INNER_WORDS={json.dumps(inside)}"]
    words += ["--env", f"PATH={person.bin}:/usr/bin:/bin", "--profile", "--experiment", "outer"]
    done = person.hpctf(*words, nested, check=False)
    assert done.returncode == 0, done.stderr + person.hpctf("logs", "@last", check=False).stdout
    run = person.output("inner", done.stdout.strip())
    env = json.loads(person.output("env.json", run))
    assert env["HPCTF_WORLD_SIZE"] == "2" and env["HPCTF_RUN_ID"] == run
    leaks = ("HPCTF_PROFILE", "HPCTF_INPUT_DATA", "HPCTF_WITHOUT_AZUREML", "HPCTF_RESUMED_FROM")
    assert not [name for name in leaks if name in env]
    assert not [value for value in env.values() if done.stdout.strip() in value]
