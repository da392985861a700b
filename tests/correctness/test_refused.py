"""What would not train right is refused: before the queue, else in the run, else by its makers."""

from __future__ import annotations

import re

import pytest

from tests.correctness.cells import COLLECTIVE, LEGACY, MPI, PS, RANKS, Job, nodes, servers
from tests.correctness.conftest import Trainings
from tests.support.measured import note
from tests.support.waiting import HANGS_S

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]

WITH_A_STRATEGY = r"keras,?\D*? is Keras 3\.[\d.]+ [^:]*? does not train with \w+Strategy"
NOT_AVERAGED = (
    r"horovod\.[\w.]*keras(, which)? does not average gradients under Keras 3 \(here [\d.]+\)"
)

BEFORE = {
    "collective": (Job("on_collective_keras3.py", nodes("collective", 2)), WITH_A_STRATEGY),
    "ps": (Job("on_ps_keras3.py", servers(2)), WITH_A_STRATEGY),
    "keras": (Job("on_collective_keras3.py", nodes("collective", 2, *LEGACY)), WITH_A_STRATEGY),
    "horovod.tensorflow.keras": (Job("on_mpi_legacy.py", nodes("mpi", 2)), NOT_AVERAGED),
    "horovod.keras": (Job("horovods_keras.py", nodes("mpi", 2, *LEGACY)), NOT_AVERAGED),
}
"""Scripts that name what is refused, in their text."""

WHAT = {
    "collective": ("collective", "Keras 3", "`fit` or a loop"),
    "ps": ("ps", "Keras 3", "`fit` or a loop"),
    "keras": ("collective", "tf-keras", "`import keras`, with `TF_USE_LEGACY_KERAS=1`"),
    "horovod.tensorflow.keras": ("mpi", "Keras 3", "`import horovod.tensorflow.keras`"),
    "horovod.keras": ("mpi", "Keras 3", "`import horovod.keras`"),
}


@pytest.mark.parametrize("name", BEFORE)
def test_a_script_that_says_so_is_refused_before_the_queue(
    name: str, trainings: Trainings, request: pytest.FixtureRequest
) -> None:
    job, words = BEFORE[name]
    runs = sorted(trainings.person.home.glob("runs/*/*"))
    done = trainings.submit(job)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert sorted(trainings.person.home.glob("runs/*/*")) == runs
    note(request.node, *WHAT[name], "before the queue", said(r"imports " + words, done.stderr))


@pytest.mark.parametrize("name", [name for name in BEFORE if "horovod" not in name])
def test_a_script_that_hides_it_is_refused_in_its_run(
    name: str, trainings: Trainings, request: pytest.FixtureRequest
) -> None:
    job, words = BEFORE[name]
    run = trainings.ended(Job("hidden.py", job.words), job.script.removesuffix(".py"))
    assert run.state == "Failed", run.log
    words = said("ImportError: " + words, run.log)
    note(request.node, *WHAT[name], "in the run", words)


def test_a_function_that_imports_keras_is_refused_in_its_run(
    trainings: Trainings, request: pytest.FixtureRequest
) -> None:
    person = trainings.person
    done = person.cluster.run(
        person.bin / "python",
        "scripts/function.py",
        user=person.user,
        cwd=person.home,
        env=person.env,
        timeout=HANGS_S,
    )
    run = trainings.run(done.stdout.split()[-1])
    assert run.state == "Failed", run.log
    words = said("ImportError: " + WITH_A_STRATEGY, run.log)
    note(request.node, "collective", "Keras 3", "a function's import", "in the run", words)


OPTIMIZER_OF_KERAS_3 = r"this SGD is of Keras 3\.\S+, but TF_USE_LEGACY_KERAS=1 chooses tf-keras"

BEHIND_A_FALLBACK = {
    "`try: import horovod.tensorflow.keras`": (
        ("horovods_module", "horovod.tensorflow.keras"),
        (),
        NOT_AVERAGED,
    ),
    "`horovod.tensorflow.DistributedOptimizer(optimizer)`": (
        ("horovods_optimizer", "horovod.tensorflow"),
        (),
        NOT_AVERAGED,
    ),
    "an optimizer of the package keras": (
        ("horovods_optimizer", "horovod.tensorflow.keras"),
        LEGACY,
        "DistributedOptimizer: " + OPTIMIZER_OF_KERAS_3,
    ),
}
"""What hpctf refuses while a run of Horovod goes on: the script's arguments, the job's, words."""


@pytest.mark.parametrize("how", BEHIND_A_FALLBACK)
def test_what_horovod_would_do_wrong_is_refused_whatever_the_script_catches(
    how: str, trainings: Trainings, request: pytest.FixtureRequest
) -> None:
    arguments, words, pattern = BEHIND_A_FALLBACK[how]
    run = trainings.ended(Job("fallback.py", nodes("mpi", 2, *words)), *arguments)
    assert run.state == "Failed", run.log
    assert trainings.person.status(run.folder.name)["exit_code"] == 78
    assert "each rank trains alone" not in run.log
    assert "Traceback" not in run.log
    found = said("hpctf: refused: " + pattern, run.log)
    said(pattern, trainings.person.hpctf("why", run.folder.name).stdout)
    library = "tf-keras" if words else "Keras 3"
    note(request.node, "mpi", library, how, "in the run", found)


BY_HOROVOD = {
    "DistributedGradientTape": (
        "`DistributedGradientTape`, for Keras's variables",
        "AttributeError: 'Variable' object has no attribute 'ref'",
    ),
    "broadcast_variables": (
        "`broadcast_variables` of Keras's variables",
        "AttributeError: 'SymbolicTensor' object has no attribute 'assign'",
    ),
}


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("name", BY_HOROVOD)
def test_horovod_itself_refuses_variables_of_keras_3(
    name: str, ranks: int, trainings: Trainings, request: pytest.FixtureRequest
) -> None:
    how, words = BY_HOROVOD[name]
    answers = trainings.of(MPI[ranks]).said("refused")
    assert len(answers) == ranks
    [found] = {said(words, answer[name]) for answer in answers}
    note(request.node, "mpi", "Keras 3", how, "in the run, by Horovod itself", found)


@pytest.mark.parametrize("job", [COLLECTIVE[2], PS[2]], ids=["collective", "ps"])
def test_that_tf_keras_is_chosen_is_said(job: Job, trainings: Trainings) -> None:
    assert "hpctf: tf.keras is tf-keras 2." in trainings.of(job).log


def said(pattern: str, text: str) -> str:
    """Return the words that say so in a text, made one line."""
    found = re.search(pattern, " ".join(text.split()))
    assert found is not None, f"nothing says {pattern!r}:\n{text[-4000:]}"
    return re.sub(r" in /\S+/python\b", " in EXE", found[0])
