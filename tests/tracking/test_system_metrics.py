"""CPU and memory of real runs, sampled meanwhile and told afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hpctf import Experiment, ParameterServer, Run, TensorFlow
from tests.support.projects import hpctf, project

BUSY = """
import os, time
content = b"x" * (100 << 20)
while time.process_time() < 1.5: pass
with open("outputs/cpu-%s" % os.environ["HPCTF_INDEX"], "w") as stream:
    stream.write(str(time.process_time()))
"""
"""Says at its end what it has used: a loaded machine takes more."""

CRASHES_ONCE = """
import os, time
again = os.path.exists("outputs/crashed")
if os.environ["HPCTF_ROLE"] == "worker" and not again:
    open("outputs/crashed", "w").close()
    os.abort()
if os.environ["HPCTF_ROLE"] == "worker":
    open("outputs/again", "w").close()
while not os.path.exists("outputs/again"):
    time.sleep(0.05)
"""


def submit(experiment: Experiment, tmp_path: Path, text: str = BUSY, **asked: Any) -> Run:
    source = project(tmp_path / "proj", text=text)
    run = experiment.submit(TensorFlow(source, entry_script="train.py", **asked))
    run.wait_for_completion()
    return run


def test_each_rank_tells_what_its_processes_used(experiment: Experiment, tmp_path: Path) -> None:
    run = submit(experiment, tmp_path, worker_count=2, distributed_backend="collective")
    found = run.get_system_metrics()
    assert list(found) == ["worker-0", "worker-1"]
    for name, columns in found.items():
        pairs = zip(columns["cpu"], columns["seconds"], strict=True)
        sampled = sum(cores * seconds for cores, seconds in pairs if cores)
        said = float((run.folder.outputs / name.replace("worker", "cpu")).read_text())
        # Less the shortest last interval, which is not told; more by the end of the interpreter.
        assert 0.7 * said < sampled < 1.3 * said
        assert max(filter(None, columns["memory_peak"])) > 100 << 20
        assert {len(column) for column in columns.values()} == {len(columns["time"])}


def test_what_was_used_is_told_against_what_was_asked(
    experiment: Experiment, tmp_path: Path
) -> None:
    run = submit(experiment, tmp_path)
    used = run.get_efficiency()
    assert used is not None
    (node,) = used.nodes
    assert node.ranks == ("worker-0",)
    assert 100 << 20 < (node.memory_peak or 0) < 200 << 20
    assert (node.cpu_asked, node.memory_asked) == (None, None)
    told = hpctf("status", "@last", cwd=tmp_path)
    assert f"used {used}\n" in told.stdout
    assert "MB of memory (not requested)" in told.stdout
    parsed = json.loads(hpctf("status", "@last", "--json", cwd=tmp_path).stdout)
    assert parsed["used"]["nodes"][0]["memory_peak"] == node.memory_peak


def test_samples_go_on_in_the_same_file_when_a_worker_starts_again(
    experiment: Experiment, tmp_path: Path
) -> None:
    training = ParameterServer(1, 1, coordinator=False, max_worker_restarts=1)
    run = submit(experiment, tmp_path, CRASHES_ONCE, distributed_training=training)
    path = run.folder.metrics / "system" / "worker-0.jsonl"
    opened = [line for line in path.read_text().splitlines() if "opened" in line]
    assert len(opened) == 2
    assert len(run.get_system_metrics()["worker-0"]["time"]) >= 2


def test_a_site_can_switch_samples_off(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("name: here\nextends: local\nsystem_metrics_s: 0\n")
    run = submit(Experiment("test", site=str(site), runs_root=tmp_path / "runs"), tmp_path)
    assert not (run.folder.metrics / "system").exists()
    assert run.get_system_metrics() == {}
    assert run.get_efficiency() is None
