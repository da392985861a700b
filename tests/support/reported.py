"""Runs to make reports of: real ones, on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from hpctf import Experiment, Run, TensorFlow
from tests.support.projects import project

LOGS = """
import math, os, sys
from hpctf import Run

run = Run.get_context()
rate = float(sys.argv[sys.argv.index("--rate") + 1])
for step in range(3000):
    run.log("loss", math.exp(-step * rate) + (5.0 if step == 1234 else 0.0), step=step)
for step in range(40):
    run.log("with gaps", math.nan if step in (7, 8) else math.inf if step == 30 else 1.5, step=step)
for name in ("</script><script>alert(1)</script>", "<img src=x onerror=alert(2)>"):
    for step in range(3):
        run.log(name, step, step=step)
    run.log("single " + name, name)
    run.tag(name, name)
    open("outputs/" + name.replace("/", "") + ".txt", "w").close()
    print(name)
run.log("accuracy", 0.9731)
run.log_row("speed", batch=32, images=1200.5)
run.log_table("table", {"x": [1, 2], "y": [math.nan, 4]})
run.log_confusion_matrix("digits", [[50, 2], [1, 47]], labels=["zero", "one"])
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8"
    "cfc0000003010100c9fe92ef0000000049454e44ae426082")
with open("pixel.png", "wb") as stream:
    stream.write(PIXEL)
run.log_image("pixel", path="pixel.png", step=1)
for fold in range(2):
    with run.child_run(f"fold-{fold}") as child:
        for step in range(5):
            child.log("fold loss", 1 / (step + 1) + fold, step=step)
print("the password is", os.environ.get("DB_PASSWORD"), "and", sys.argv[-1])
sys.exit(3 if "--fail" in sys.argv else 0)
"""

SECRETS = ("hunter22-of-the-database", "sesame-of-the-api")


def submit(root: Path, folder: Path, *, rate: float = 0.002, fail: bool = False) -> Run:
    """Return a run that has ended, of a script that logs one of each kind."""
    folder.mkdir(exist_ok=True)
    words = ["--rate", rate, *(["--fail"] if fail else []), "--api-key", SECRETS[1]]
    estimator = TensorFlow(
        project(folder / f"project-{os.urandom(3).hex()}", text=LOGS),
        entry_script="train.py",
        arguments=words,
        environment_variables={"DB_PASSWORD": SECRETS[0], "COLOUR": "blue"},
    )
    run = Experiment("logs", site="local", runs_root=root).submit(estimator)
    run.wait_for_completion(raise_on_error=not fail)
    return run
