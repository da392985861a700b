"""Submission scripts written for Azure ML, on Slurm: docs/from-azure-ml.md's own code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Person

pytestmark = pytest.mark.slurm

BEGINNING = """
from hpctf.azureml import ComputeTarget, Experiment, Workspace

ws = Workspace.from_config()
exp = Experiment(workspace=ws, name="my-experiment")
compute_target = ComputeTarget(workspace=ws, name="normal")
"""

WHO = """
import json, os
from azureml.core import Run
run = Run.get_context()
run.log("rank", run.rank)
me = os.environ["HPCTF_ROLE"] + "-" + os.environ["HPCTF_INDEX"]
with open("outputs/" + me + ".json", "w") as stream:
    json.dump({"tf": json.loads(os.environ.get("TF_CONFIG", "null")),
               "host": os.uname().nodename, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}, stream)
"""


def submit(person: Person, backend: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the document's script of a backend; return the run's status and what its ranks said."""
    text = (ROOT / "docs/from-azure-ml.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (block,) = [one for one in blocks if f'distributed_backend="{backend}"' in one]
    person.write("my-tf-proj/train.py", WHO)
    script = person.write("submit.py", f"{BEGINNING}{block}run.wait_for_completion()\n")
    person.cluster.run(
        person.bin / "python",
        script,
        user=person.user,
        cwd=person.home,
        env={**person.env, "HPCTF_SITE": str(ROOT / "tests/cluster/site.yaml")},
    )
    status = person.status()
    outputs = Path(status["run_folder"]) / "outputs"
    return status, {path.stem: json.loads(path.read_text()) for path in outputs.glob("*.json")}


def test_horovods_two_workers_have_a_node_and_its_gpus_each(person: Person) -> None:
    status, said = submit(person, "mpi")
    assert status["state"] == "Completed"
    assert sorted(said) == ["worker-0", "worker-1"]
    assert len({one["host"] for one in said.values()}) == 2
    assert all(one["gpus"] for one in said.values())
    assert all(one["tf"] is None for one in said.values())


def test_workers_and_ps_all_run_the_script(person: Person) -> None:
    status, said = submit(person, "ps")
    assert status["state"] == "Completed"
    assert sorted(said) == ["ps-0", "worker-0", "worker-1"]
    cluster = said["ps-0"]["tf"]["cluster"]
    assert {role: len(tasks) for role, tasks in cluster.items()} == {"worker": 2, "ps": 1}
    assert not said["ps-0"]["gpus"]


TUNED = """
import argparse
from azureml.core import Run
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--batch-size", type=int)
options = parser.parse_args()
for epoch in range(3):
    Run.get_context().log("accuracy", options.lr * (1 + epoch) / options.batch_size)
"""


def test_hyperdrive_tunes_a_script(person: Person) -> None:
    text = (ROOT / "docs/from-azure-ml.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (block,) = [one for one in blocks if "HyperDriveConfig(" in one]
    person.write("my-tf-proj/train.py", TUNED)
    script = person.write("submit.py", BEGINNING + block)
    said = person.cluster.run(
        person.bin / "python",
        script,
        user=person.user,
        cwd=person.home,
        env={**person.env, "HPCTF_SITE": str(ROOT / "tests/cluster/site.yaml")},
    ).stdout
    study = json.loads(person.hpctf("tune", "status", "@last", "--json").stdout)
    best = max(study["trials"], key=lambda row: row["value"])
    assert {row["state"] for row in study["trials"]} <= {"completed", "stopped"}
    assert len(study["trials"]) == 6
    assert said.split()[0] == best["id"]
    assert json.dumps(best["parameters"]) in said
