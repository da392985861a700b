"""Studies on a real Slurm: trials run, stop early, fail, and outlive whoever runs them."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Person
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slurm

SCRIPT = """
import argparse, math, os, time
from hpctf import Run

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.5)
parser.add_argument("--kind", default="well")
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--wait-for", default="/")
parser.add_argument("--waits-below", type=float, default=1e9)
options = parser.parse_args()
waits = options.lr < options.waits_below
if options.kind == "crash":
    raise ValueError("no such data")
run = Run.get_context()
open("gpus", "w").write(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
kept = os.path.join(os.environ["HPCTF_CHECKPOINT_DIR"], "step" + os.environ["HPCTF_RANK"])
first = int(open(kept).read()) if os.path.exists(kept) else 0
for step in range(first, options.steps):
    if options.kind == "silent":
        run.log("loss", 1.0)
        break
    run.log("acc", math.nan if options.kind == "nan" else options.lr + step, step=step)
    with open(os.environ["HPCTF_CHECKPOINT_DIR"] + "/done", "a") as done:
        done.write(f"{step}\\n")
    with open(kept, "w") as file:
        file.write(str(step + 1))
    while waits and step + 2 == options.steps and not os.path.exists(options.wait_for):
        time.sleep(0.05)
open("beside", "w").write("the script writes beside itself")
"""


def study(person: Person, *words: str, script: tuple[str, ...] = ()) -> str:
    """Submit a study and return its id."""
    person.write("train.py", SCRIPT)
    options = ("--site", "slurm", "--metric", "acc", "--time", "10")
    done = person.hpctf("tune", "train.py", *options, *words, "--", *script)
    return done.stdout.strip()


def look(person: Person, name: str) -> dict[str, Any]:
    """Return ``hpctf tune status --json``."""
    found: dict[str, Any] = json.loads(person.hpctf("tune", "status", name, "--json").stdout)
    return found


def ended(person: Person, name: str) -> dict[str, Any]:
    """Wait for a study's end, and return what is known of it then."""
    person.hpctf("wait", name, check=False)
    return look(person, name)


def ledger(person: Person, name: str) -> list[dict[str, Any]]:
    """Return the records of a study's ledger."""
    path = Path(look(person, name)["run_folder"]) / "ledger.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def claims_of(person: Person, name: str) -> list[dict[str, Any]]:
    """Return the ledger's records of who took a trial."""
    return [record for record in ledger(person, name) if record["event"] == "claimed"]


def until_running(person: Person, name: str, count: int = 1) -> dict[str, Any]:
    """Wait until so many trials have logged something, and return the study."""

    def ready() -> bool:
        return sum(bool(row["values"]) for row in look(person, name)["trials"]) >= count

    wait_until(ready)
    return look(person, name)


def test_two_agents_run_ten_trials_in_one_sbatch(person: Person) -> None:
    name = study(
        person,
        *("--param", "lr=uniform(0, 1)", "--trials", "10", "--parallel", "2", "--seed", "3"),
    )
    folder = Path(look(person, name)["run_folder"])
    found = ended(person, name)
    assert (found["state"], found["counts"]) == ("Completed", {"completed": 10, "not started": 0})
    assert len(found["job_id"].split("_")) == 1
    claims = claims_of(person, name)
    assert sorted(claim["trial"] for claim in claims) == list(range(10))
    assert {claim["job_id"] for claim in claims} <= {f"{found['job_id']}_{n}" for n in (0, 1)}

    drawn = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    best = max(drawn, key=lambda trial: trial["parameters"]["lr"])
    told = json.loads(person.hpctf("tune", "best", name, "--json").stdout)
    assert (told["trial"], told["parameters"]) == (best["trial"], best["parameters"])
    assert told["value"] == best["parameters"]["lr"] + 2

    # a trial is a run: what works on runs works on it
    assert person.status(told["id"])["state"] == "Completed"
    assert "acc" in person.hpctf("metrics", told["id"]).stdout
    assert (Path(person.status(told["id"])["run_folder"]) / "snapshot/beside").exists()
    assert not (folder / "snapshot/beside").exists()
    assert person.status(name)["state"] == "Completed"
    listed = person.hpctf("runs").stdout
    assert name in listed and told["id"] not in listed


def test_several_trials_share_each_gpu_of_a_job(person: Person) -> None:
    gate = person.home / "gate"
    name = study(
        person,
        *("--param", "lr=uniform(0, 1)", "--trials", "4"),
        *("--use-gpu", "--gpus-per-node", "2", "--per-gpu", "2"),
        script=("--wait-for", str(gate)),
    )
    trials = until_running(person, name, 4)["trials"]
    folders = [Path(person.status(trial["id"])["run_folder"]) for trial in trials]
    seen = Counter((folder / "snapshot/gpus").read_text() for folder in folders)
    gate.touch()
    assert seen == {"0": 2, "1": 2}
    assert ended(person, name)["counts"] == {"completed": 4, "not started": 0}
    assert len(jobs := {record["job_id"] for record in claims_of(person, name)}) == 1, jobs


def test_trials_that_have_not_begun_cost_no_file(person: Person) -> None:
    sizes = []
    for trials in ("20", "400"):
        name = study(
            person,
            *("--param", "lr=uniform(0, 1)", "--trials", trials, "--parallel", "1"),
            *("--sbatch", "begin=now+1hour"),
        )
        folder = Path(look(person, name)["run_folder"])
        sizes.append(sum(len(names) for _, *both in os.walk(folder) for names in both))
        assert look(person, name)["counts"] == {"not started": int(trials)}
        person.hpctf("tune", "stop", name)
    assert sizes[0] == sizes[1]


def test_what_went_wrong_with_a_trial_is_said(person: Person) -> None:
    name = study(
        person,
        *("--param", "kind=choice('well', 'crash', 'nan', 'silent')", "--sampler", "grid"),
        *("--parallel", "1"),
        script=("--lr", "0.5"),
    )
    found = ended(person, name)
    rows = {row["parameters"]["kind"]: row for row in found["trials"]}
    assert {kind: row["state"] for kind, row in rows.items()} == {
        "well": "completed",
        "crash": "failed",
        "nan": "failed",
        "silent": "completed",
    }
    assert rows["crash"]["reason"].endswith("ValueError: no such data")
    assert rows["nan"]["reason"] == "acc was nan at its last value"
    assert rows["silent"]["reason"] == "it never logged 'acc'; it logged loss"
    assert person.status(rows["nan"]["id"])["state"] == "Failed"
    assert found["best"]["trial"] == rows["well"]["trial"]


def test_a_study_of_which_nothing_works_ends(person: Person) -> None:
    name = study(
        person,
        *("--param", "lr=uniform(0, 1)", "--trials", "30", "--parallel", "1"),
        script=("--kind", "crash"),
    )
    found = ended(person, name)
    assert (found["state"], found["counts"]) == ("Failed", {"failed": 5, "not started": 25})
    assert "the first 5 trials all failed before they logged the metric" in found["reason"]
    assert "ValueError: no such data" in found["reason"]
    assert person.hpctf("wait", name, check=False).returncode == 1


def test_a_bad_trial_is_stopped_and_one_that_hangs_ends_too(person: Person) -> None:
    """All but the first wait for a file that never comes: they do not end by themselves."""
    name = study(
        person,
        *("--param", "lr=choice(9, 1, 8.9)", "--sampler", "grid", "--parallel", "1"),
        *("--policy", "bandit:amount=0.5", "--trial-timeout", "25"),
        script=("--wait-for", str(person.home / "never"), "--waits-below", "9"),
    )
    found = ended(person, name)
    good, bad, hanging = found["trials"]
    assert [row["state"] for row in (good, bad, hanging)] == ["completed", "stopped", "canceled"]
    assert bad["reason"].startswith("stopped early at value 1: bandit: best 1 < 8.5 = 9 - 0.5")
    assert hanging["reason"] == "it reached the trial's time limit of 25 s"
    for row in (bad, hanging):
        status = person.status(row["id"])
        assert (status["state"], status["reason"]) == ("Canceled", row["reason"])


def agent_pid(found: dict[str, Any], agent: int) -> str:
    """Return the process id of a study's agent, which all nodes of the test cluster share."""
    lines = (Path(found["run_folder"]) / f"state/worker-{agent}.jsonl").read_text().splitlines()
    last = [record for record in map(json.loads, lines) if record["event"] == "started"][-1]
    return str(last["pid"])


def steps_of(person: Person, row: dict[str, Any]) -> list[int]:
    """Return the steps that a trial has done, in all of its starts."""
    folder = Path(person.status(row["id"])["run_folder"])
    return [int(line) for line in (folder / "checkpoints/done").read_text().split()]


def test_a_trial_goes_on_after_its_agent_was_killed(person: Person) -> None:
    gate = person.home / "gate"
    name = study(
        person,
        *("--param", "lr=choice(1)", "--sampler", "grid", "--parallel", "1"),
        script=("--steps", "8", "--wait-for", str(gate)),
    )
    found = until_running(person, name)
    person.cluster.run("kill", "-9", agent_pid(found, 0))
    wait_until(lambda: look(person, name)["trials"][0]["attempt"] == 1)
    gate.touch()
    found = ended(person, name)
    row = found["trials"][0]
    assert (row["state"], row["attempt"], row["values"]) == ("completed", 1, 8)
    assert steps_of(person, row) == list(range(8))


def test_a_requeued_job_goes_on_with_its_own_trial(person: Person) -> None:
    gate = person.home / "gate"
    name = study(
        person,
        *("--param", "lr=choice(1)", "--sampler", "grid", "--parallel", "1"),
        script=("--steps", "8", "--wait-for", str(gate)),
    )
    found = until_running(person, name)
    person.cluster.run("scontrol", "requeue", f"{found['job_id']}_0")
    wait_until(lambda: look(person, name)["trials"][0]["state"] == "waiting")
    gate.touch()
    found = ended(person, name)
    row = found["trials"][0]
    assert (row["state"], row["attempt"]) == ("completed", 1)
    assert steps_of(person, row) == list(range(8))


def test_a_stopped_study_can_be_resumed(person: Person) -> None:
    gate = person.home / "gate"
    name = study(
        person,
        *("--param", "lr=uniform(0, 1)", "--trials", "5", "--parallel", "2"),
        script=("--steps", "4", "--wait-for", str(gate)),
    )
    found = until_running(person, name, 2)
    # the job of a trial is an agent's, and takes the next one
    person.hpctf("cancel", found["trials"][0]["id"])
    until_running(person, name, 3)
    person.hpctf("tune", "set", name, "--parallel", "1")
    person.hpctf("tune", "stop", name)
    found = ended(person, name)
    assert found["state"] == "Canceled"
    assert found["counts"] == {"canceled": 3, "not started": 2}
    assert found["trials"][0]["reason"] == "it was cancelled"
    assert "the study was stopped by user" in found["trials"][1]["reason"]
    gate.touch()
    person.hpctf("tune", "resume", name)
    found = ended(person, name)
    assert found["state"] == "Completed"
    assert found["counts"] == {"canceled": 3, "completed": 2, "not started": 0}
    refused = person.hpctf("tune", "resume", name, check=False)
    assert refused.returncode == 2 and "All 5 trials" in refused.stderr


def test_cancelled_trials_go_on_in_a_study_that_knows_the_earlier_one(person: Person) -> None:
    gate = person.home / "gate"
    script = ("--steps", "8", "--wait-for", str(gate))
    first = study(
        person,
        *("--param", "lr=choice(9, 8)", "--sampler", "grid", "--parallel", "2"),
        script=script,
    )
    until_running(person, first, 2)
    wait_until(lambda: all(row["values"] == 7 for row in look(person, first)["trials"]))
    person.hpctf("tune", "stop", first)
    assert ended(person, first)["counts"] == {"canceled": 2, "not started": 0}

    second = study(
        person,
        *("--param", "lr=choice(9, 1)", "--sampler", "grid", "--parallel", "1"),
        *("--resume-from", first, "--resume-child-runs", f"{first}_0"),
        *("--policy", "bandit:amount=0.5"),
        script=("--steps", "8", "--wait-for", str(person.home / "never"), "--waits-below", "5"),
    )
    found = ended(person, second)
    goes_on, fresh = found["trials"]
    assert [row["parameters"] for row in (goes_on, fresh)] == [{"lr": 9}, {"lr": 1}]
    assert (goes_on["state"], goes_on["values"], goes_on["value"]) == ("completed", 8, 16)
    assert steps_of(person, goes_on) == list(range(8))
    assert fresh["state"] == "stopped"
    assert f"9 - 0.5, where trial {first}_0 is the best of all" in fresh["reason"]
    refused = person.hpctf(
        *("tune", "train.py", "--site", "slurm", "--metric", "loss", "--param", "lr=choice(1)"),
        *("--resume-from", first),
        check=False,
    )
    assert refused.returncode == 2
    assert f"primary_metric_name of {first} is acc" in refused.stderr


def test_a_search_draws_trials_for_two_agents(person: Person) -> None:
    name = study(
        person,
        *("--param", "lr=uniform(0, 1)", "--sampler", "tpe:n_startup_trials=2", "--seed", "5"),
        *("--trials", "6", "--parallel", "2", "--enqueue", '{"lr": 1}'),
    )
    found = ended(person, name)
    assert (found["state"], found["counts"]) == ("Completed", {"completed": 6, "not started": 0})
    assert (found["best"]["trial"], found["best"]["parameters"]) == (0, {"lr": 1})
    claims = claims_of(person, name)
    drawn = [claim["parameters"]["lr"] for claim in claims if "drawn_as" in claim]
    assert len(drawn) == len(set(drawn)) == 5 and all(0 <= lr <= 1 for lr in drawn)
    person.hpctf("tune", "export", name, "--to", "study.log")
    assert "best acc so far 3" in person.hpctf("tune", "plot", name).stdout


def test_agents_that_a_more_important_job_takes_off_their_node_go_on_elsewhere(
    person: Person,
) -> None:
    """Each agent has a node to itself, so that nobody else's job goes with it."""
    gate = person.home / "gate"
    name = study(
        person,
        *("--param", "lr=choice(1)", "--sampler", "grid", "--sbatch", "exclusive"),
        script=("--steps", "8", "--wait-for", str(gate)),
    )
    node = until_running(person, name)["trials"][0]["host"]
    person.cluster.run("srun", "-p", "high", "-w", node, "--mem=10M", "true", user=person.user)
    wait_until(lambda: look(person, name)["trials"][0]["state"] == "waiting")
    assert "taken off its node (SIGTERM)" in look(person, name)["trials"][0]["reason"]
    gate.touch()
    found = ended(person, name)
    row = found["trials"][0]
    assert (row["state"], row["attempt"], row["values"]) == ("completed", 1, 8)
    assert steps_of(person, row) == list(range(8))


def test_fewer_and_then_more_trials_run_at_a_time_than_before(person: Person) -> None:
    gate, later = person.home / "gate", person.home / "later"
    name = study(
        person,
        *("--param", f"wait-for=choice('{gate}', '{later}')", "--sampler", "grid"),
        *("--param", "lr=choice(1, 2, 3)", "--parallel", "2"),
    )
    until_running(person, name, 2)
    person.hpctf("tune", "set", name, "--parallel", "1")
    gate.touch()
    # the one agent that is left has come to trials that do not end
    wait_until(lambda: look(person, name)["counts"].get("completed") == 3)
    until_running(person, name, 4)
    wait_until(lambda: _ended_agents(look(person, name)) == 1)
    person.hpctf("tune", "set", name, "--parallel", "3")
    found = until_running(person, name, 6)
    assert found["counts"] == {"completed": 3, "running": 3, "not started": 0}
    assert len({row["job_id"].partition("_")[0] for row in found["trials"]}) == 2
    later.touch()
    found = ended(person, name)
    assert (found["state"], found["counts"]["completed"]) == ("Completed", 6)
    refused = person.hpctf("tune", "set", name, "--parallel", "2", check=False)
    assert refused.returncode == 2 and "tune resume" in refused.stderr


def _ended_agents(found: dict[str, Any]) -> int:
    states = Path(found["run_folder"]).glob("state/worker-*.jsonl")
    return sum('"ended"' in path.read_text() for path in states)


def test_more_agents_than_an_array_has_tasks_are_several_arrays(person: Person) -> None:
    name = study(
        person,
        *("--param", "lr=uniform(0, 1)", "--trials", "1200", "--sbatch", "begin=now+1hour"),
    )
    record = json.loads((Path(look(person, name)["run_folder"]) / "run.json").read_text())
    ids = [record["job_id"], *record["more_jobs"]]
    listed = person.cluster.run("squeue", "--array", "--noheader", "--format=%F").stdout.split()
    assert [listed.count(job_id) for job_id in ids] == [1001, 199]
    assert look(person, name)["state"] == "Queued"
    person.hpctf("tune", "stop", name)
    assert look(person, name)["state"] == "Canceled"
    listed = person.cluster.run("squeue", "--array", "--noheader", "--format=%F").stdout.split()
    assert not set(ids) & set(listed)
