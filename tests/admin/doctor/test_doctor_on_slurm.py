"""``hpctf doctor`` on the real cluster: what is well is proven, and a wrong site is named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Person, skip_or_fail
from tests.support.priority import first_on_cpu

pytestmark = pytest.mark.slurm

SITE = ROOT / "tests/cluster/site.yaml"


def examined(person: Person, *words: str | Path, code: int | None = None) -> dict[str, Any]:
    """Run the doctor, and return its report with the checks by name."""
    done = person.hpctf("doctor", "--json", *words, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    if code is not None:
        unwell = [check for check in report["checks"] if check["state"] != "ok"]
        assert done.returncode == code, f"{unwell}\n{done.stderr}"
    report["checks"] = {check["name"]: check for check in report["checks"]}
    return report


def left_by(person: Person) -> list[str]:
    """Return the jobs and files that this person's doctor has left."""
    queue = person.cluster.run("squeue", "--noheader", "--format=%i %j %T %Z").stdout.splitlines()
    jobs = [line for line in queue if f"{person.home}/" in line and " COMPLETING " not in line]
    return jobs + [str(path) for path in person.home.glob("runs/**/*")]


def site_with(person: Person, **changes: str) -> Path:
    """Return a site file of the person's own: the test cluster's with other lines."""
    text = SITE.read_text()
    for before, after in changes.values() and [one.split(" → ") for one in changes.values()]:
        assert before in text
        text = text.replace(before, after)
    return person.write("site.yaml", text)


def test_a_healthy_cluster_passes_and_every_pair_is_measured(
    person: Person, training_python: str
) -> None:
    words = ["--site", SITE, "--job", "--nodes", "3", "--python", training_python]
    with first_on_cpu("mpi_probe.py"):
        report = examined(person, *words, code=0)
    states = {name: check["state"] for name, check in report["checks"].items()}
    skipped = {name for name, state in states.items() if state == "skipped"}
    assert skipped == {"account and QOS", "modules"}, report["checks"]
    assert set(states.values()) == {"ok", "skipped"}
    for name in ("MPI", "ports", "runs root shared", "het jobs", "GPUs", "slow nodes"):
        assert states[name] == "ok"
    pairs = report["measured"]["pairs"]
    assert len(pairs) == 3
    assert len({node for pair in pairs for node in pair["nodes"]}) == 3
    assert all(pair["latency_us"] > 0 and pair["bandwidth_mb_s"] > 1 for pair in pairs)
    assert report["measured"]["allreduce_1mib_ms"] > 0
    assert left_by(person) == []


def test_the_table_names_each_check_and_tensorflow_if_asked(
    person: Person, training_python: str
) -> None:
    words = ["--job", "--python", training_python, "--tensorflow"]
    done = person.hpctf("doctor", "--site", SITE, *words)
    assert re.search(r"^✓ +MPI +srun --mpi=pmix: one world of 2 ranks", done.stdout, re.MULTILINE)
    assert re.search(r"^✓ +tensorflow +TensorFlow 2\.", done.stdout, re.MULTILINE)
    assert re.search(r"^– +slow nodes +two nodes cannot tell", done.stdout, re.MULTILINE)
    assert "Nothing wrong was found." in done.stdout
    assert "Submitted job" in done.stderr


@pytest.mark.parametrize("plugin", ["none", "pmi2", "nosuch"])
def test_a_wrong_mpi_plugin_is_named_with_the_one_that_works(
    person: Person, training_python: str, plugin: str
) -> None:
    site = site_with(person, plugin=f"plugin: pmix → plugin: {plugin} # or another")
    words = ["--site", site, "--job", "--python", training_python]
    report = examined(person, *words, "--write", site, code=1)
    check = report["checks"]["MPI"]
    assert check["state"] == "failed"
    assert f"srun --mpi={plugin}" in check["detail"]
    assert "mpi.plugin: pmix" in check["remedy"]
    assert report["proposals"]["mpi.plugin"] == "pmix"
    assert report["written"] == str(site)
    assert "plugin: pmix # or another" in site.read_text()
    if plugin == "none":
        # Open MPI 4 refuses to start; from 5 on each of its ranks has a world of its own.
        assert re.search("PMI support|each alone in a world of size 1", check["detail"])
        assert examined(person, *words, code=0)["checks"]["MPI"]["state"] == "ok"
    if plugin == "nosuch":
        assert report["checks"]["MPI launcher"]["state"] == "failed"
    assert left_by(person) == []


MPICH = Path("/usr/lib/x86_64-linux-gnu/libmpich.so.12")


def test_ranks_that_are_each_alone_are_told_by_their_sign(
    person: Person, training_python: str
) -> None:
    """MPICH knows nothing of PMIx: each of its ranks then has a world of its own."""
    if not MPICH.exists():
        skip_or_fail(f"there is no {MPICH} (Debian: libmpich12)")
    (person.home / "lib").mkdir()
    (person.home / "lib/libmpi.so.12").symlink_to(MPICH)
    choose = f"export MPI4PY_MPIABI=mpich LD_LIBRARY_PATH={person.home}/lib"
    site = site_with(person, plugin=f"plugin: pmix → plugin: pmix\nprologue: ['{choose}']")
    words = ["--site", site, "--job", "--python", training_python]
    check = examined(person, *words, "--write", site, code=1)["checks"]["MPI"]
    assert "2 ranks, each alone in a world of size 1" in check["detail"]
    assert "mpi.plugin: pmi2" in check["remedy"]
    assert "MPICH" in examined(person, *words, code=0)["checks"]["MPI"]["detail"]


def test_mpirun_is_examined_as_the_site_says(person: Person, training_python: str) -> None:
    site = site_with(person, launcher="launcher: srun → launcher: mpirun")
    report = examined(person, "--site", site, "--job", "--python", training_python, code=0)
    assert report["checks"]["MPI"]["detail"].startswith("mpirun: one world of 2 ranks")


def test_gpus_that_are_not_there_are_told_and_the_number_that_is(person: Person) -> None:
    site = site_with(person, gpus="gpus: 2 → gpus: 4")
    report = examined(person, "--site", site, code=1)
    check = report["checks"]["target normal"]
    assert check["state"] == "failed"
    assert check["remedy"] == "targets.normal.gpus: 2"
    assert report["proposals"]["targets.normal.gpus"] == 2
    refused = examined(person, "--site", site, "--job", code=1)["checks"]["job"]
    assert refused["state"] == "failed"
    assert "sbatch refused the job" in refused["detail"]


def test_a_runs_root_that_nodes_do_not_see_is_named(person: Person) -> None:
    """/tmp is each node's own here, as on most clusters."""
    root = Path("/tmp") / f"hpctf-{person.home.name}"
    done = person.hpctf(
        "doctor", "--site", SITE, "--job", "--json", check=False, HPCTF_RUNS_ROOT=str(root)
    )
    assert done.returncode == 1
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["runs root shared"]["state"] == "failed"
    assert f"do not see {root}" in checks["runs root shared"]["detail"]
    assert "runs_root" in checks["runs root shared"]["remedy"]
    assert checks["job"]["state"] == "failed"
    assert not root.exists()


def test_modules_that_cannot_be_loaded_are_told_before_any_job(person: Person) -> None:
    site = site_with(person, modules="mpi:\n → modules: [nosuch/1.0]\nmpi:\n")
    report = examined(person, "--site", site, code=1)
    assert report["checks"]["modules"]["state"] == "failed"


def test_a_python_without_mpi4py_still_proves_all_the_rest(person: Person) -> None:
    own = person.bin / "python"  # /usr/bin/python3 may have it
    report = examined(person, "--site", SITE, "--job", "--python", own, code=0)
    assert report["checks"]["MPI"]["state"] == "skipped"
    assert report["checks"]["ports"]["state"] == "ok"
    assert str(own) in report["checks"]["training python"]["detail"]


@pytest.mark.index
def test_where_there_is_no_mpi4py_an_environment_with_it_is_built_once(person: Person) -> None:
    store = person.home / "environments"
    words = ["--set", f"environments.store={store}", "--site", SITE, "--job"]
    report = examined(person, *words, code=0)
    assert report["checks"]["MPI"]["state"] == "ok"
    assert str(store) in report["checks"]["training python"]["detail"]
    again = person.hpctf("doctor", *words)
    assert "Building" not in again.stderr
    assert left_by(person) == []


def test_a_node_whose_clock_is_off_is_named(person: Person) -> None:
    """The nodes share this machine's clock: what Python reads of n2's is put back by a minute."""
    code = "import time\nnow = time.time\ntime.time = lambda: now() - 60\n"
    late = person.write("late/sitecustomize.py", code).parent
    python = person.write(
        "python",
        f'#!/bin/sh\n[ "$SLURMD_NODENAME" != n2 ] || export PYTHONPATH={late}\n'
        'exec /usr/bin/python3 "$@"\n',
    )
    python.chmod(0o755)
    words = ["--job", "--python", python, "--nodes", "4"]
    check = examined(person, "--site", SITE, *words, code=1)["checks"]["node clocks"]
    assert check["state"] == "failed"
    # On a busy machine the job's answer comes later than the login node asks the time.
    assert re.search(r"n2 is 6\d s behind the login node", check["detail"])
    assert "n3 is" not in re.sub(r"n3 is \d+ s ahead of n2", "", check["detail"])
    assert "NTP" in check["remedy"]
