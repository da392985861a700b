"""Notebooks and scripts in the shape of Azure ML's published ones: `hpctf migrate` changes their
import lines, and they train on the cluster."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest

from tests.conftest import ROOT, Person
from tests.support.waiting import HANGS_S

pytestmark = pytest.mark.slurm

FOLDER = ROOT / "tests/azureml/notebooks"

SITE = (ROOT / "tests/cluster/site.yaml").read_text()
SITE = SITE.replace("default_target: normal", "default_target: gpu-cluster")
SITE = SITE.replace("  normal:\n", "  gpu-cluster:\n")

DATA = """
import numpy as np
from sklearn.datasets import load_digits

images, labels = load_digits(return_X_y=True)
np.save("data/images.npy", (images / 16).astype("float32"))
np.save("data/labels.npy", labels.astype("int64"))
"""

EXECUTE = f"""
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, timeout={HANGS_S}, kernel_name="python3").execute()
"""


@pytest.fixture
def researcher(trainer: Person) -> Person:
    """Somebody with the notebooks' scripts and data, whose site has a target gpu-cluster."""
    python = trainer.env["HPCTF_EXAMPLE_PYTHON"]
    trainer.env |= {
        "HPCTF_SITE": str(trainer.write("site.yaml", SITE)),
        "TRAINING_PYTHON": python,
        "PATH": f"{Path(python).parent}:{trainer.bin}:/usr/local/bin:/usr/bin:/bin",
    }
    for script in FOLDER.glob("*_train.py"):
        for folder in ("", "digits-project/"):
            trainer.write(f"{folder}{script.name}", script.read_text())
    for folder in (trainer.home / "data", trainer.home / "digits-project"):
        folder.mkdir(exist_ok=True)
    own(trainer)
    run(trainer, python, trainer.write("data.py", DATA))
    return trainer


def own(person: Person) -> None:
    """Give all that lies in the home to its person."""
    for path in [person.home, *person.home.rglob("*")]:
        shutil.chown(path, person.user)


def run(person: Person, *command: str | Path) -> str:
    done = person.cluster.run(
        *command, user=person.user, cwd=person.home, env=person.env, timeout=HANGS_S
    )
    return str(done.stdout)


def notebook(text: str) -> str:
    """Return a notebook whose cells begin with ``# %%`` in a script."""
    cells = []
    for part in text.split("# %%")[1:]:
        kind, _, content = part.partition("\n")
        make = nbformat.v4.new_markdown_cell if "markdown" in kind else nbformat.v4.new_code_cell
        cells.append(make(content.strip()))
    return str(nbformat.writes(nbformat.v4.new_notebook(cells=cells)))


def migrated(person: Person, path: Path) -> Path:
    """Let hpctf change a file's import lines, which must be all that needs changing."""
    new = path.with_name(f"migrated-{path.name}")
    done = person.hpctf("migrate", path, "--to", new)
    assert "need" not in done.stderr
    return new


def test_migrated_notebooks_and_scripts_train(researcher: Person) -> None:
    """All at once: what takes time is TensorFlow's start."""
    execute = researcher.write("execute.py", EXECUTE)
    commands: list[tuple[Path, ...]] = []
    for source in sorted(FOLDER.glob("*.ipy")):
        path = researcher.write(f"{source.stem}.ipynb", notebook(source.read_text()))
        new = migrated(researcher, path)
        nbformat.validate(nbformat.read(new, 4))
        commands.append((execute, new))
    script = researcher.write("submit.py", (FOLDER / "keras.py").read_text())
    commands.append((migrated(researcher, script),))
    with ThreadPoolExecutor(len(commands)) as pool:
        said = list(
            pool.map(lambda words: run(researcher, researcher.bin / "python", *words), commands)
        )
    assert "metrics: {'loss': [" in said[-1]
    assert len(list(researcher.home.glob("runs/*/*/run.json"))) == 8
