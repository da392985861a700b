"""Ranks that do not fit together, for real: other versions, another Horovod, worlds of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Person, skip_or_fail
from tests.support.built import OLDER_TENSORFLOW, build_environment

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]

HOROVOD = "import horovod.tensorflow as hvd\nhvd.init()\nprint('size', hvd.size())\n"
MPI4PY = "from mpi4py import MPI\nprint('size', MPI.COMM_WORLD.size)\n"
ALONE = (
    "import os\n"
    "kept = {name: os.environ[name] for name in ('PATH', 'HOME')}\n"
    "os.environ.clear()\n"
    "os.environ.update(kept)\n"
)
"""All that a rank knows of the others is gone, hpctf's own variables, too."""
FALLBACK = (
    "import tensorflow\n"
    "try:\n    import horovod.tensorflow.keras as hvd\nexcept ImportError:\n    hvd = None\n"
    "print('rank', hvd.rank() if hvd else 0)\n"
)
MPICH = Path("/usr/lib/x86_64-linux-gnu/libmpich.so.12")


@pytest.fixture(scope="module")
def older_python() -> str:
    """The interpreter of an environment with an earlier TensorFlow."""
    made = build_environment(OLDER_TENSORFLOW)
    if made.returncode:
        skip_or_fail(f"the environment cannot be made: {made.stderr[-2000:]}")
    return made.stdout.strip()


def refused(person: Person, script: str, *words: str | Path) -> list[str]:
    """Submit a script on two nodes that must be refused, and return what ``hpctf why`` says."""
    path = person.write("proj/train.py", script)
    person.hpctf("submit", "--backend", "mpi", "--nodes", "2", "--wait", *words, path, check=False)
    status = person.status()
    assert status["state"] == "Failed"
    assert status["exit_code"] == 78
    logs = Path(status["run_folder"]).glob("logs/worker-*.log")
    assert "Traceback" not in "".join(log.read_text() for log in logs)
    return person.hpctf("why", "@last").stdout.splitlines()


def test_nodes_with_different_environments_end_at_once(
    person: Person, training_python: str, older_python: str
) -> None:
    """As where a module has another version on the new nodes."""
    choose = f'case $(hostname) in n1) exec {training_python} "$@";; esac\n'
    chooser = person.write("python", f'#!/bin/sh\n{choose}exec {older_python} "$@"\n')
    chooser.chmod(0o755)
    said = refused(person, HOROVOD, "--python", chooser, "--sbatch", "nodelist=n[1-2]")
    assert f"TensorFlow {OLDER_TENSORFLOW}" in said[1] and "TensorFlow 2.21" in said[1]
    assert "worker-0 on n1 has" in said[1].lower() and "worker-1 on n2 has" in said[1].lower()


def test_a_horovod_of_another_tensorflow_is_named(
    person: Person, training_python: str, older_python: str
) -> None:
    [horovod] = Path(older_python).parent.parent.glob("lib/python3*/site-packages/horovod")
    person.write("lib/README", "")
    (person.home / "lib/horovod").symlink_to(horovod)
    words = ["--python", training_python, "--env", f"PYTHONPATH={person.home}/lib"]
    said = refused(person, HOROVOD, *words)
    assert f"was built for TensorFlow {OLDER_TENSORFLOW}" in said[1]
    assert "but TensorFlow 2.21" in said[1]


def test_ranks_whose_horovod_is_each_alone_do_not_train(
    person: Person, training_python: str
) -> None:
    said = refused(person, ALONE + HOROVOD, "--python", training_python)
    assert "is alone in its MPI world, but the run has 2 ranks" in said[1]
    assert "(Open MPI v" in said[1] and "srun --mpi=pmix do not find each other" in said[1]


def test_ranks_of_a_library_that_does_not_know_the_plugin_do_not_train(
    person: Person, training_python: str
) -> None:
    """MPICH knows nothing of PMIx: each of its ranks has a world of its own."""
    if not MPICH.exists():
        skip_or_fail(f"there is no {MPICH} (Debian: libmpich12)")
    person.write("lib/README", "")
    (person.home / "lib/libmpi.so.12").symlink_to(MPICH)
    mpich = ["--env", "MPI4PY_MPIABI=mpich", "--env", f"LD_LIBRARY_PATH={person.home}/lib"]
    said = refused(person, MPI4PY, "--python", training_python, *mpich)
    assert "is alone in its MPI world, but the run has 2 ranks" in said[1]
    assert "(MPICH 4" in said[1]


def test_a_program_that_passes_the_refusal_over_does_not_complete(
    person: Person, training_python: str
) -> None:
    person.write("proj/own.py", ALONE + MPI4PY)
    script = person.write("proj/train.sh", f"#!/bin/sh\n{training_python} own.py || true\n")
    script.chmod(0o755)
    words = ["--backend", "mpi", "--nodes", "2", "--python", training_python, "--wait"]
    done = person.hpctf("submit", *words, "proj/train.sh", check=False)
    status = person.status()
    assert (done.returncode, status["state"], status["exit_code"]) == (1, "Failed", 78)
    assert [role["exit_code"] for role in status["roles"]] == [0, 0]
    assert "is alone in its MPI world, but the run has 2 ranks" in status["reason"]


def test_ranks_that_go_on_without_a_horovod_that_fails_do_not_complete(
    person: Person, training_python: str
) -> None:
    person.write("lib/horovod/__init__.py", "raise ImportError('libmpi.so.40: cannot open')\n")
    person.write("proj/train.py", FALLBACK)
    words = ["--backend", "mpi", "--nodes", "2", "--python", training_python]
    words += ["--env", f"PYTHONPATH={person.home}/lib", "--env", "TF_USE_LEGACY_KERAS=1"]
    done = person.hpctf("submit", *words, "--wait", "proj/train.py", check=False)
    status = person.status()
    assert (done.returncode, status["state"], status["exit_code"]) == (1, "Failed", 78)
    assert "its 2 ranks each trained alone: the script looks for Horovod" in status["reason"]
    assert "each trained alone" in person.hpctf("why", "@last").stdout
    assert person.hpctf("wait", "@last", check=False).returncode == 1


def test_ranks_that_each_do_a_part_complete_and_say_so(
    person: Person, training_python: str
) -> None:
    person.write("proj/train.py", "import os, tensorflow\nprint(os.environ['HPCTF_RANK'])\n")
    words = ["--backend", "mpi", "--nodes", "2", "--python", training_python, "--wait"]
    person.hpctf("submit", *words, "proj/train.py")
    assert person.status()["state"] == "Completed"
    assert "its 2 ranks did not exchange anything" in person.hpctf("why", "@last").stdout
