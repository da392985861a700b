"""Scripts written for Horovod: what is refused, and each piece of advice to the letter."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import Person

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]

IDIOMS = Path(__file__).resolve().parent / "scripts/idioms.py"
TWO = ("--backend", "mpi", "--nodes", "2", "--env", "TF_CPP_MIN_LOG_LEVEL=2")


def submit(trainer: Person, script: str, *words: str, check: bool = True) -> tuple[str, str]:
    """Submit the idioms as a script of one's own, and return the run's id and what was said."""
    trainer.write("proj/train.py", script)
    arguments = words[words.index("--") :] if "--" in words else ("--", "keras")
    options = [word for word in words if word not in arguments]
    python = ("--python", trainer.env["HPCTF_EXAMPLE_PYTHON"])
    done = trainer.hpctf(
        "submit", *python, *TWO, *options, "--wait", "proj/train.py", *arguments, check=check
    )
    return done.stdout.strip(), " ".join(done.stderr.split())


def advice(trainer: Person) -> str:
    """Return how the script is refused that falls back to no Horovod."""
    run, said = submit(trainer, IDIOMS.read_text(), check=False)
    assert run == "" and "train.py" in said
    assert "does not average gradients under Keras 3" in said
    return said


def weights(trainer: Person, run: str, name: str) -> set[bytes]:
    """Return the weights of both ranks: one, if they hold the same to the bit."""
    folder = Path(trainer.status(run)["run_folder"])
    assert trainer.status(run)["state"] == "Completed"
    found = [path.read_bytes() for path in sorted(folder.glob(f"outputs/{name}-[01].f32"))]
    assert len(found) == 2
    log = (folder / "logs/worker-0.log").read_text()
    right = re.search(rf"{name}: rank 0 of 2 is right in (\S+)", log)
    assert right is not None and float(right[1]) > 0.5, log[-4000:]
    return set(found)


def test_the_flag_makes_the_script_train_as_it_is(trainer: Person) -> None:
    flag = re.search(r"Pass (--env \S+?):", advice(trainer))
    assert flag is not None
    run, _ = submit(trainer, IDIOMS.read_text(), *flag[1].split(), "--", "keras", "tape")
    assert len(weights(trainer, run, "keras")) == len(weights(trainer, run, "tape")) == 1


def test_the_changed_import_trains_with_keras_3(trainer: Person) -> None:
    said = advice(trainer)
    line = re.search(r"change the import to: (import [\w.]+ as \w+)", said)
    gone = re.search(r"take (\w+) out of model\.compile", said)
    assert line is not None and gone is not None
    text = IDIOMS.read_text().replace("import horovod.tensorflow.keras as hvd", line[1])
    text = re.sub(rf"{gone[1]}=\w+,", "", text)
    run, _ = submit(trainer, text)
    assert len(weights(trainer, run, "keras")) == 1
