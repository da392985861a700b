"""Runs on another cluster of the same Slurm: a second slurmctld with nodes of its own, for real.

Job ids of the two clusters are numbers of their own, and meet: what forgets to name the cluster
asks for, or ends, somebody else's job.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.fixture import Cluster
from tests.conftest import ROOT, Person
from tests.support.servers import after_servers
from tests.support.waiting import HANGS_S, wait_until

pytestmark = pytest.mark.slurm

SITE = """
name: two
default_target: far
targets:
  near: {partition: normal}
  far: {partition: distant, clusters: far, slots: 8}
"""

ENERGY = "node_energy: pm_counters\nco2_g_per_kwh: 300\n"


def far_script(*words: str) -> None:
    subprocess.run([ROOT / "tests/cluster/far", *words], check=True, timeout=HANGS_S)


@pytest.fixture(scope="module")
def far(cluster: Cluster) -> Iterator[Cluster]:
    """The second cluster, which stands for this module's tests alone."""
    far_script("up")
    yield cluster
    far_script("down")


@pytest.fixture
def someone(far: Cluster, person: Person) -> Iterator[Person]:
    """A person whose site has a target there."""
    person.write("site.yaml", SITE)
    person.env["HPCTF_SITE"] = str(person.home / "site.yaml")
    yield person
    listed = far.run("squeue", "--clusters=far", "--noheader", "--format=%i", check=False).stdout
    ids = [word for word in listed.split() if word.isdigit()]
    if ids:
        far.run("scancel", "--clusters=far", *ids, check=False)


def submit(person: Person, script: str, *words: str) -> str:
    path = person.write("proj/train.py", script)
    return person.hpctf("submit", *words, path).stdout.strip()


def test_a_run_there_is_told_by_its_own_cluster_from_submission_to_result(someone: Person) -> None:
    done = "import os; print('from', os.uname().nodename)"
    path = someone.write("proj/train.py", done)
    words = ["--backend", "mpi", "--nodes", "2", "--wait"]
    said = someone.hpctf("submit", *words, path)
    status = someone.status()
    assert (status["state"], status["cluster"]) == ("Completed", "far")
    assert f"as job {status['job_id']};far of" in said.stderr
    assert {role["host"] for role in status["roles"]} == {"f1", "f2"}
    assert "from f1" in someone.hpctf("logs", status["id"]).stdout
    assert someone.hpctf("result", status["id"]).returncode == 0
    assert f"job {status['job_id']};far of" in someone.hpctf("status", status["id"]).stdout
    assert f"{status['job_id']};far" in someone.hpctf("runs").stdout
    record = json.loads((Path(status["run_folder"]) / "run.json").read_text())
    assert (record["job_id"], record["cluster"]) == (status["job_id"], "far")


PS_ALONE = ("--ps-mode", "script", "--no-chief", "--sbatch", "exclusive")
METERED = """
import time
meter = "/sys/cray/pm_counters/energy"
joules = int(open(meter).read().split()[0])
open(meter, "w").write(f"{joules + 360_000} J")
time.sleep(1.5)  # Slurm takes a meter's value once a second
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--backend", "mpi", "--nodes", "2"), "0.2 kWh by the nodes (0.06 kg of CO2)"),
        (("--backend", "ps", *PS_ALONE), "0.2 kWh by the nodes (0.06 kg of CO2)"),
        ((), "0.1 kWh by the nodes (0.03 kg of CO2)"),
    ],
)
def test_the_energy_of_the_nodes_is_that_of_their_meters(
    someone: Person, words: tuple[str, ...], said: str
) -> None:
    someone.write("site.yaml", f"{SITE}system_metrics_s: 1\n{ENERGY}")
    run = submit(someone, METERED, *words, "--wait")
    wait_until(lambda: someone.status()["used"]["node_energy"] is not None)
    assert said in someone.hpctf("status", run).stdout


def test_het_jobs_and_tf_config_work_there(someone: Person) -> None:
    script = "import os; open(f\"outputs/{os.environ['HPCTF_ROLE']}\", 'w')"
    script += after_servers("outputs/ps")
    words = ["--backend", "ps", "--ps-mode", "script", "--no-chief", "--wait"]
    submit(someone, script, *words)
    assert sorted(p.name for p in (Path(someone.status()["run_folder"]) / "outputs").iterdir()) == [
        "ps",
        "worker",
    ]


def test_a_job_array_there(someone: Person) -> None:
    script = someone.write("proj/train.py", "print('hello')")
    code = (
        "from hpctf import Experiment, TensorFlow\n"
        f"one = TensorFlow({str(script.parent)!r}, entry_script='train.py')\n"
        "runs = Experiment('e').submit_array([one, one])\n"
        "for run in runs:\n"
        "    run.wait_for_completion()\n"
        "    print(run.cluster, run.status, run.results()[0]['exit_code'])\n"
    )
    done = someone.cluster.run(
        someone.bin / "python", "-c", code, user=someone.user, cwd=someone.home, env=someone.env
    )
    assert done.stdout.splitlines() == ["far Completed 0"] * 2


def test_a_waiting_job_there_is_explained_by_that_cluster_and_can_be_cancelled(
    someone: Person,
) -> None:
    run = submit(someone, "print()", "--sbatch", "begin=now+1hour")
    wait_until(lambda: someone.status(run)["reason"] == "BeginTime")
    assert someone.status(run)["state"] == "Queued"
    told = someone.hpctf("why", run).stdout
    assert "It may start" in told and "Slurm says BeginTime" in told
    job = someone.status(run)["job_id"]
    someone.cluster.run("scontrol", "--clusters=far", "uhold", job)
    wait_until(lambda: someone.status(run)["reason"] == "JobHeldUser")
    assert f"scontrol --clusters=far release {job}" in someone.hpctf("why", run).stdout
    someone.hpctf("cancel", run)
    assert someone.hpctf("wait", run, check=False).returncode == 1
    assert someone.status(run)["state"] == "Canceled"


def test_sbatch_clusters_chooses_one_and_an_own_target_stays_here(someone: Person) -> None:
    words = ["--target", "near", "--sbatch", "clusters=far", "--sbatch", "partition=distant"]
    submit(someone, "print()", *words, "--wait")
    assert someone.status()["cluster"] == "far"
    someone.hpctf("submit", "--target", "near", "--wait", someone.home / "proj/train.py")
    assert someone.status()["cluster"] is None
    chosen = {"SLURM_CLUSTERS": "far", "SBATCH_PARTITION": "distant"}
    done = someone.hpctf("status", "@last", "--json", **chosen)  # asks here all the same
    assert json.loads(done.stdout)["state"] == "Completed"


def test_the_shells_own_choice_of_cluster_goes_with_the_run(someone: Person) -> None:
    script = someone.write("proj/train.py", "print()")
    words = ["--target", "near", "--sbatch", "partition=distant", "--wait"]
    someone.env["SBATCH_CLUSTERS"] = "far"
    someone.hpctf("submit", *words, script)
    del someone.env["SBATCH_CLUSTERS"]
    assert (someone.status()["cluster"], someone.status()["state"]) == ("far", "Completed")


def test_a_training_there_requeues_its_own_job_and_no_other(someone: Person) -> None:
    script = (
        "import os, signal, sys, time\n"
        "if os.environ['HPCTF_RESTART_COUNT'] == '1':\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "time.sleep(600)\n"
    )
    words = ["--max-restarts", "1", "--grace", "5"]
    run = submit(someone, script, *words)
    wait_until(lambda: someone.status(run)["roles"][0]["state"] == "Running")
    job = someone.status(run)["job_id"]
    someone.cluster.run("scancel", "--clusters=far", "--signal=USR2", job)
    someone.hpctf("wait", run)
    assert someone.status(run)["roles"][0]["attempt"] == 1


def test_a_submission_that_was_cut_short_is_found_there_by_its_name(someone: Person) -> None:
    run = submit(someone, "import time; time.sleep(600)")
    folder = Path(someone.status(run)["run_folder"])
    record = json.loads((folder / "run.json").read_text())
    wait_until(lambda: someone.status(run)["state"] == "Running")
    (folder / "state/job.jsonl").write_text("")
    cut = {**record, "job_id": None, "submitter": None}
    for clusters in ("far", "hpctf,far"):
        (folder / "run.json").write_text(json.dumps({**cut, "cluster": clusters}))
        found = someone.status(run)
        assert (found["job_id"], found["cluster"]) == (record["job_id"], "far")


def test_while_its_slurmctld_is_away_the_state_says_so_and_nothing_is_settled(
    someone: Person,
) -> None:
    may_end = someone.home / "may-end"
    script = f"import os, time\nwhile not os.path.exists({str(may_end)!r}): time.sleep(0.1)"
    run = submit(someone, script)
    wait_until(lambda: someone.status(run)["state"] == "Running")
    pid = int((someone.cluster.directory / "pids/slurmctld-far.pid").read_text())
    subprocess.run(["kill", str(pid)], check=True)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    try:
        away = someone.status(run)
        assert away["state"] == "Running"
        assert "the scheduler could not be asked" in away["reason"]
        assert not (Path(away["run_folder"]) / "state/final.json").exists()
        done = someone.hpctf("cancel", run, check=False)
        assert done.returncode == 3
    finally:
        far_script("up")
    may_end.touch()
    someone.hpctf("wait", run)
    assert someone.status(run)["state"] == "Completed"


def test_a_job_that_its_cluster_has_forgotten_has_ended_and_not_completed(someone: Person) -> None:
    run = submit(someone, "import time; time.sleep(600)")
    wait_until(lambda: someone.status(run)["state"] == "Running")
    far_script("down")
    far_script("up")  # its slurmctld begins anew, without the job
    folder = Path(someone.status(run)["run_folder"])
    for path in (folder / "run.json", *folder.glob("state/*")):
        os.utime(path, (0, 0))  # no rank has given a sign of life lately
    assert someone.hpctf("wait", run, check=False).returncode == 1
    # slurmdbd notes as cancelled what slurmctld forgets, if the rank's own end is not on record.
    assert someone.status(run)["state"] in ("Failed", "Canceled")


def test_components_on_different_clusters_are_refused_before_anything_is_written(
    someone: Person,
) -> None:
    someone.write("site.yaml", SITE + "ps: {target: near}\n")
    script = someone.write("proj/train.py", "print()")
    done = someone.hpctf("submit", "--backend", "ps", script, check=False)
    assert done.returncode == 2
    assert "a heterogeneous job is of one" in done.stderr
    assert not (someone.home / "runs").exists()
