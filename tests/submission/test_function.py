"""A function in place of a script: sent to every rank, its values brought back in rank order."""

from __future__ import annotations

import subprocess
import textwrap

import pytest

from tests.conftest import Person

pytestmark = pytest.mark.slurm


def python(person: Person, program: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program of the person's own with the Python that has hpctf."""
    path = person.write("program.py", textwrap.dedent(program))
    return person.cluster.run(
        person.bin / "python", path, user=person.user, cwd=person.home, env=person.env, check=check
    )


def test_every_ranks_value_comes_back_in_rank_order(person: Person) -> None:
    done = python(
        person,
        """
        from hpctf import Experiment, TensorFlow

        def train(rate, steps=1):
            import os
            return int(os.environ["HPCTF_RANK"]), rate * steps

        run = Experiment("fn").submit(TensorFlow(
            function=train, arguments={"rate": 0.5, "steps": 4}, node_count=2,
            process_count_per_node=2, distributed_backend="mpi"))
        print(run.result(), run.results())
        """,
    )
    assert done.stdout.strip() == "(0, 2.0) [(0, 2.0), (1, 2.0), (2, 2.0), (3, 2.0)]"
    listed = person.hpctf("result", "@last").stdout.splitlines()
    assert listed[3] == "worker-3: (3, 2.0)"


def test_helper_modules_beside_the_program_go_along(person: Person) -> None:
    person.write("helper.py", "def double(x):\n    return 2 * x\n")
    done = python(
        person,
        """
        import helper
        from hpctf import Experiment, TensorFlow

        def train(x):
            return helper.double(x)

        print(Experiment("fn").submit(TensorFlow(function=train, arguments={"x": 21})).result())
        """,
    )
    assert done.stdout.strip() == "42"


def test_modules_of_the_source_directory_are_imported_from_the_snapshot(person: Person) -> None:
    person.write("proj/model.py", "import os\nHERE = os.path.dirname(os.path.abspath(__file__))\n")
    done = python(
        person,
        """
        import sys
        sys.path.insert(0, "proj")
        import model
        from hpctf import Experiment, TensorFlow

        def train():
            return model.HERE

        print(Experiment("fn").submit(TensorFlow("proj", function=train)).result())
        """,
    )
    assert done.stdout.strip().endswith("/snapshot")


def test_an_exception_is_told_with_its_traceback_once(person: Person) -> None:
    done = python(
        person,
        """
        from hpctf import Experiment, TensorFlow, TrainingFailed

        def train():
            raise ValueError("bad rate")

        run = Experiment("fn").submit(TensorFlow(function=train))
        try:
            run.result()
        except TrainingFailed as error:
            print(error)
        """,
    )
    assert "worker-0 on n" in done.stdout
    assert done.stdout.count("ValueError: bad rate") == 1
    assert person.status()["exit_code"] == 1


def test_a_value_that_cannot_be_pickled_fails_and_says_so(person: Person) -> None:
    done = python(
        person,
        """
        from hpctf import Experiment, TensorFlow

        def train():
            import threading
            return threading.Lock()

        Experiment("fn").submit(TensorFlow(function=train)).result()
        """,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot pickle" in done.stderr


def test_arguments_that_cannot_be_pickled_are_refused_and_nothing_is_left(person: Person) -> None:
    done = python(
        person,
        """
        from hpctf import Experiment, TensorFlow

        def train(lock):
            return 1

        import threading
        Experiment("fn").submit(TensorFlow(function=train, arguments={"lock": threading.Lock()}))
        """,
        check=False,
    )
    assert "UsageError" in done.stderr and "cannot be pickled" in done.stderr
    assert list(person.home.glob("runs/*/*")) == []


def test_results_of_somebody_else_are_not_unpickled(person: Person) -> None:
    python(
        person,
        """
        from hpctf import Experiment, TensorFlow
        Experiment("fn").submit(TensorFlow(function=int)).result()
        """,
    )
    as_root = Person(person.cluster, person.bin, person.home, user=None)
    done = as_root.hpctf("result", "@last", check=False)
    assert done.returncode == 3
    assert "belongs to somebody else" in done.stderr
