"""Environments on a real Slurm: modules, containers, and those that a job builds before the run.

TensorFlow is a stand-in of the same name (tests/support/stand_in_wheels.py), so that building takes
seconds; uv, the store, the jobs and the training are real. So is all of the container but its
runtime (tests/support/standins/apptainer).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Person, need_environment_modules
from tests.support.stand_in_wheels import make_wheels
from tests.support.waiting import HANGS_S, wait_until

pytestmark = pytest.mark.slurm

TELL = """
import json, os, sys
import tiny, tensorflow
from hpctf import Run
run = Run.get_context()
with open("outputs/told.json", "w") as stream:
    json.dump({"tiny": tiny.__version__, "tf": tensorflow.__version__, "prefix": sys.prefix,
               "id": run.id}, stream)
"""


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_wheels(Path("/var/cache/hpctf") / f"wheels-{os.getpid()}")
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    return folder


@pytest.fixture
def builder(person: Person, wheels: Path) -> Person:
    """A person at a site that builds environments in jobs."""
    return at_site(person, wheels)


def at_site(person: Person, wheels: Path, **environments: Any) -> Person:
    """Write the person's site file, and let all of their commands use it."""
    settings = {
        "store": str(person.home / "store"),
        "find_links": [str(wheels)],
        "offline": True,
        "build_on": "job",
        "build_time": "5",
        **environments,
    }
    site = {"name": "building", "targets": {"normal": {"partition": "normal", "slots": 16}}}
    content = {**site, "default_target": "normal", "environments": settings}
    person.env["HPCTF_SITE"] = str(person.write("site.yaml", json.dumps(content)))
    person.write("train.py", TELL)
    return person


def submit(person: Person, *words: str, **env: str) -> str:
    """Submit a training that needs the package tiny, and return its run's id."""
    command = ["submit", *words, "--pip", "tiny", "train.py"]
    return person.hpctf(*command, **env).stdout.strip()


def record(person: Person, run: str) -> dict[str, Any]:
    path = Path(person.status(run)["run_folder"])
    found: dict[str, Any] = json.loads((path / "run.json").read_text())
    return {**found, "folder": path}


def queued(person: Person, *job_ids: str) -> list[str]:
    """Return which of these jobs are still in the queue."""
    listed = person.cluster.run("squeue", "--noheader", "--format=%A").stdout.split()
    return [job for job in job_ids if job in listed]


@pytest.fixture
def gate(builder: Person) -> Path:
    """A file that builds wait for, once they are nearly done."""
    path = builder.home / "gate"
    builder.env["TEST_GATE"] = str(path)
    return path


@pytest.mark.parametrize("kind", ["squashfs", "tar"])
def test_each_node_runs_its_own_copy_of_the_environment(
    person: Person, wheels: Path, kind: str
) -> None:
    """Built in a job with its image, or here, where the image is made when it is first staged."""
    at_site(person, wheels, stage=kind, build_on="job" if kind == "squashfs" else "login")
    two = ("--backend", "collective", "--nodes", "2", "--wait")
    run = submit(person, *two)
    shared = submit(person, *two, "--no-stage-env")
    told, of_shared = (json.loads(person.output("told.json", one)) for one in (run, shared))
    assert told["prefix"].startswith("/tmp/hpctf-") and told["tiny"] == of_shared["tiny"]
    assert of_shared["prefix"].startswith(str(person.home / "store"))
    log = person.hpctf("logs", run, "--role", "job").stdout
    assert len(re.findall(r"n\d: staged the environment in /tmp/hpctf-", log)) == 2
    step = ("srun", "--nodes=4", "--mem=50", "sh", "-c")
    left = 'ls -A "/tmp/hpctf-$(id -u)/jobs" 2>/dev/null; true'
    assert person.cluster.run(*step, left, user=person.user).stdout == ""


def test_a_job_builds_the_environment_and_the_run_waits_for_it(builder: Person) -> None:
    gate = builder.home / "gate"
    run = submit(builder, TEST_GATE=str(gate))
    kept = record(builder, run)
    build = kept["build"]["job_id"]
    status = builder.status(run)
    assert (status["state"], status["reason"]) == (
        "Preparing",
        f"its environment is built by job {build}",
    )
    wait_until(Path(f"{gate}.reached").exists)
    why = builder.hpctf("why", run).stdout
    assert f"its environment is built by job {build}" in why
    assert "Checking it" in why  # the build's own last lines
    gate.touch()
    builder.hpctf("wait", run)
    folder = kept["folder"]
    told = json.loads((folder / "outputs/told.json").read_text())
    assert (told["tiny"], told["tf"], told["id"]) == ("1.1", "2.21.0", run)
    assert told["prefix"].startswith(f"{builder.home}/store/{kept['environment']}/")
    assert "tiny==1.1" in (folder / "environment.lock").read_text()
    assert json.loads((folder / "environment.json").read_text())["pip"] == ["tiny", "tensorboard"]
    assert "is ready" in (folder / "logs/build.log").read_text()
    assert "logs/build.log" in builder.hpctf("files", run).stdout

    second = record(builder, submit(builder))
    assert second["build"] is None
    assert "tiny==1.1" in (second["folder"] / "environment.lock").read_text()
    assert "dependency" not in (second["folder"] / "job.sbatch").read_text()
    builder.hpctf("wait", second["id"])


def test_two_submissions_at_once_share_one_job(builder: Person, gate: Path) -> None:
    environment = {**builder.env, "PATH": "/usr/local/bin:/usr/bin:/bin"}
    words = [builder.bin / "hpctf", "submit", "--pip", "tiny", "train.py"]
    assert builder.user is not None
    both = [
        subprocess.Popen(
            ["/usr/sbin/runuser", "-u", builder.user, "--", *words],
            cwd=builder.home,
            env={**environment, **builder.cluster.env, "HOME": str(builder.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=HANGS_S) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    records = [record(builder, answer[0].strip()) for answer in answers]
    assert records[0]["build"]["job_id"] == records[1]["build"]["job_id"]
    assert records[0]["build"]["folder"] == records[1]["build"]["folder"] != ""
    gate.touch()
    for one in records:
        builder.hpctf("wait", one["id"])


def test_cancelling_cancels_a_build_that_nobody_else_waits_for(builder: Person, gate: Path) -> None:
    first, second = submit(builder), submit(builder)
    build = record(builder, first)["build"]["job_id"]
    assert record(builder, second)["build"]["job_id"] == build
    builder.hpctf("cancel", first)
    assert builder.status(first)["state"] == "Canceled"
    assert queued(builder, build) == [build]
    assert builder.status(second)["state"] == "Preparing"
    builder.hpctf("cancel", second)
    assert builder.status(second)["state"] == "Canceled"
    wait_until(lambda: not queued(builder, build))
    assert not list((builder.home / "store").glob("*/current"))


def test_a_build_that_fails_fails_its_run_and_says_why(builder: Person) -> None:
    words = ["submit", "--pip", "tiny", "--pip", "no-such-package", "train.py"]
    run = builder.hpctf(*words).stdout.strip()
    done = builder.hpctf("wait", run, check=False)
    assert done.returncode == 1
    assert "its environment was not built by job" in done.stderr
    assert "no-such-package" in done.stderr
    status = builder.status(run)
    assert (status["state"], status["exit_code"]) == ("Failed", None)
    why = builder.hpctf("why", run).stdout
    assert "no-such-package" in why
    assert not list((builder.home / "store").glob("*/current"))


def test_a_build_that_is_cancelled_by_hand_fails_its_run(builder: Person, gate: Path) -> None:
    run = submit(builder)
    build = record(builder, run)["build"]["job_id"]
    wait_until(Path(f"{gate}.reached").exists)
    builder.cluster.run("scancel", build)
    done = builder.hpctf("wait", run, check=False)
    assert f"its environment was not built by job {build}: it was cancelled" in done.stderr
    assert builder.status(run)["state"] == "Failed"


def test_a_run_that_is_cancelled_by_hand_is_not_a_failed_build(builder: Person, gate: Path) -> None:
    run = submit(builder)
    builder.cluster.run("scancel", str(builder.status(run)["job_id"]), user=builder.user)
    builder.hpctf("wait", run, check=False)
    assert builder.status(run)["state"] == "Canceled"


def test_a_persons_own_dependency_holds_as_well(builder: Person) -> None:
    other = builder.cluster.run(
        "sbatch", "--parsable", "--hold", "--wrap=true", user=builder.user, cwd=builder.home
    ).stdout.strip()
    run = submit(builder, "--sbatch", f"dependency=afterok:{other}")
    build = record(builder, run)["build"]["job_id"]
    script = (record(builder, run)["folder"] / "job.sbatch").read_text()
    assert f"#SBATCH --dependency=afterok:{other},afterok:{build}\n" in script
    wait_until(lambda: not queued(builder, build))
    status = builder.status(run)
    assert (status["state"], status["reason"]) == ("Queued", "Dependency")
    builder.cluster.run("scontrol", "release", other, user=builder.user)
    builder.hpctf("wait", run)


def test_a_submission_that_is_refused_takes_its_build_along(builder: Person, gate: Path) -> None:
    words = ["submit", "--pip", "tiny", "--sbatch", "licenses=none:1", "train.py"]
    done = builder.hpctf(*words, check=False)
    assert done.returncode == 3, done.stderr
    build = re.search(r"job (\d+) builds environment", done.stderr)
    assert build is not None
    wait_until(lambda: not queued(builder, build.group(1)))
    assert not list((builder.home / "runs").glob("*/*"))


def test_a_submission_that_is_killed_before_its_run_leaves_a_build_and_nothing_else(
    builder: Person, gate: Path
) -> None:
    """Killed between the two jobs: the build ends by itself, and the next submission uses it."""
    sbatch = builder.write(
        "bin/sbatch", '#!/bin/bash\n/usr/bin/sbatch "$@"\ntouch $0.called\nkill -9 $PPID\n'
    )
    sbatch.chmod(0o755)
    sbatch.parent.chmod(0o777)
    words = ["submit", "--pip", "tiny", "train.py"]
    path = f"{sbatch.parent}:/usr/local/bin:/usr/bin:/bin"
    assert builder.hpctf(*words, check=False, PATH=path).returncode != 0
    assert Path(f"{sbatch}.called").exists()
    assert not list((builder.home / "runs").glob("*/*"))
    run = submit(builder)
    (build,) = [
        line.split()[0]
        for line in builder.cluster.queue()
        if f"hpctf-env-{record(builder, run)['environment']}" in line
    ]
    assert record(builder, run)["build"]["job_id"] == build
    gate.touch()
    builder.hpctf("wait", run)


def test_a_het_job_waits_for_its_environment_as_a_whole(builder: Person) -> None:
    builder.write("train.py", TELL.replace("told.json", "{run.role}.json").replace('"out', 'f"out'))
    words = ["--backend", "ps", "--workers", "1", "--ps-mode", "script", "--no-chief"]
    run = submit(builder, *words)
    assert record(builder, run)["build"]
    builder.hpctf("wait", run)
    assert json.loads(builder.output("worker.json", run))["tiny"] == "1.1"


def test_a_dry_run_builds_nothing_and_names_the_interpreter(builder: Person) -> None:
    done = builder.hpctf("submit", "--dry-run", "--pip", "tiny", "train.py")
    assert "does not exist yet: hpctf builds it in a job before the run" in done.stderr
    assert f"training_python={builder.home}/store/tf2.21-py3." in done.stdout
    assert not (builder.home / "store").exists()


def test_the_login_node_builds_where_it_may(person: Person, wheels: Path) -> None:
    at_site(person, wheels, build_on="login")
    done = person.hpctf("submit", "--wait", "--pip", "tiny", "train.py")
    assert "is ready" in done.stderr
    assert json.loads(person.output("told.json"))["tiny"] == "1.1"
    again = person.hpctf("submit", "--wait", "--pip", "tiny", "train.py")
    assert "is ready" not in again.stderr


def test_a_build_that_fails_on_the_login_node_leaves_no_run(person: Person, wheels: Path) -> None:
    at_site(person, wheels, build_on="login")
    done = person.hpctf("submit", "--pip", "no-such-package", "train.py", check=False)
    assert done.returncode == 3
    assert "no-such-package" in done.stderr
    assert not (person.home / "runs").exists()


MPI = """
from mpi4py import MPI
from hpctf import Run
import os
run = Run.get_context()
total = MPI.COMM_WORLD.allreduce(run.rank + 1)
with open(f"outputs/{run.rank}.txt", "w") as stream:
    print(os.environ["CONTAINER"], total, MPI.COMM_WORLD.Get_size(), file=stream)
"""


def test_mpi_ranks_meet_inside_of_a_container(person: Person, training_python: str) -> None:
    """Through pmix, whose folders lie in slurmd's own, where nobody binds them by hand."""
    # On the shared file system: a checkout need not be there.
    runtime = person.write("bin/apptainer", (ROOT / "tests/support/standins/apptainer").read_text())
    runtime.chmod(0o755)
    person.env["PATH"] = f"{runtime.parent}:/usr/local/bin:/usr/bin:/bin"
    image = person.write("image.sif", "SLURM_PROCID=of the image\n")
    containers = {"binds": [str(Path(training_python).parents[2])], "options": ["--cleanenv"]}
    site = {"name": "contained", "containers": containers}
    person.env["HPCTF_SITE"] = str(person.write("site.yaml", json.dumps(site)))
    person.write("train.py", MPI)
    words = ["--backend", "mpi", "--nodes", "2", "--python", training_python]
    person.hpctf("submit", "--wait", *words, "--container", image, "train.py")
    assert [person.output(f"{rank}.txt") for rank in (0, 1)] == [f"{image} 3 2\n"] * 2


def test_modules_are_loaded_on_the_nodes(person: Person) -> None:
    need_environment_modules()
    person.write("modules/greeting/1", "#%Module1.0\nsetenv GREETING {hello there}\n")
    person.env["MODULEPATH"] = str(person.home / "modules")
    person.write(
        "train.py", "import os; print(os.environ['GREETING'], file=open('outputs/a', 'w'))"
    )
    person.hpctf("submit", "--wait", "--module", "greeting/1", "train.py")
    assert person.output("a") == "hello there\n"
    done = person.hpctf("submit", "--wait", "--module", "greeting/2", "train.py", check=False)
    assert done.returncode == 1
    assert "module load greeting/2 failed on node n" in done.stderr
