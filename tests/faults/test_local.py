"""Faults of runs on this machine alone, without Slurm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpctf import Experiment, MultiWorker, Run, TensorFlow
from hpctf.common.processes import is_running, start_time
from hpctf.runs.status.query import queued_again
from tests.faults.conftest import Clock
from tests.support.disks import mounted
from tests.support.projects import project
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

EPOCHS = """
import json, os, signal, sys, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
checkpoint = os.path.join(os.environ["HPCTF_CHECKPOINT_DIR"], os.environ["HPCTF_RANK"])
done = json.load(open(checkpoint)) if os.path.exists(checkpoint) else 0
for epoch in range(done, 12):
    time.sleep(0.5)
    with open("outputs/epochs-" + os.environ["HPCTF_RANK"], "a") as log:
        log.write(f"{epoch}\\n")
    json.dump(epoch + 1, open(checkpoint, "w"))
    if asked:
        sys.exit(0)
"""

DAEMON = """
import subprocess, sys
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
open("outputs/pid", "w").write(str(child.pid))
"""


def epochs_of(run: Run, rank: int = 0) -> list[int]:
    path = run.folder.outputs / f"epochs-{rank}"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.mark.fault("time limit of a run on this machine", "warns, restarts, resumes")
def test_the_time_limit_of_a_local_run(
    experiment: Experiment, tmp_path: Path, clock: Clock
) -> None:
    source = project(tmp_path / "proj", text=EPOCHS)
    estimator = TensorFlow(
        source,
        entry_script="train.py",
        distributed_training=MultiWorker(2),
        max_run_duration_seconds=20,
        grace_seconds=4,
        max_restarts=3,
    )
    estimator.max_run_duration_seconds = 5
    with pytest.raises(ValueError, match="grace_seconds is 4"):
        experiment.submit(estimator)
    estimator.max_run_duration_seconds, estimator.grace_seconds = 5, None
    clock.injected()
    run = experiment.submit(estimator)
    assert run.wait_for_completion().state == "Completed"
    clock.right()
    assert [epochs_of(run, rank) for rank in (0, 1)] == [list(range(12))] * 2


FILL = """
print("filling the disk", flush=True)
with open("outputs/full", "wb", buffering=0) as stream:
    while True:
        stream.write(bytes(65536))
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    with mounted(tmp_path / "small", "size=2m") as place:
        yield place


@pytest.mark.fault("the disk of the runs is full while a run trains", "Failed, and says so")
def test_a_disk_that_a_training_fills(small_disk: Path, tmp_path: Path, clock: Clock) -> None:
    experiment = Experiment("test", site="local", runs_root=small_disk)
    clock.injected()
    run = experiment.submit(
        TensorFlow(project(tmp_path / "proj", text=FILL), entry_script="train.py")
    )
    status = run.wait_for_completion(raise_on_error=False)
    clock.right()
    assert (status.state, status.exit_code) == ("Failed", 1)
    assert "file system being full" in status.reason
    assert "Free some space on the file system" in str(run.why())
    (run.folder.outputs / "full").unlink()
    assert run.status == "Failed"


@pytest.mark.fault("a script leaves a daemon behind", "ends it with the run")
def test_a_daemon_of_the_script_ends_with_the_run(
    experiment: Experiment, tmp_path: Path, clock: Clock
) -> None:
    clock.injected()
    run = experiment.submit(
        TensorFlow(project(tmp_path / "proj", text=DAEMON), entry_script="train.py")
    )
    run.wait_for_completion()
    wait_until(lambda: start_time(int((run.folder.outputs / "pid").read_text())) is None)
    clock.right()


@pytest.mark.fault("the controller of a local run is killed", "Failed; its ranks are ended")
def test_a_killed_controller_takes_its_ranks_along(
    experiment: Experiment, tmp_path: Path, clock: Clock
) -> None:
    text = "import os, time\nopen('outputs/pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    run = experiment.submit(
        TensorFlow(project(tmp_path / "proj", text=text), entry_script="train.py")
    )
    noted = run.folder.outputs / "pid"
    wait_until(lambda: noted.exists() and noted.read_text() != "")
    assert run.job_id is not None
    os.kill(int(run.job_id), signal.SIGKILL)
    clock.injected()
    wait_until(lambda: start_time(int(noted.read_text())) is None)
    status = run.wait_for_completion(raise_on_error=False)
    clock.right()
    assert status.state == "Failed"


@pytest.mark.fault("hpctf is killed as a local run begins", "finds the run by its record")
def test_a_local_run_whose_submission_was_cut_is_found_again(
    experiment: Experiment, tmp_path: Path, clock: Clock
) -> None:
    run = experiment.submit(
        TensorFlow(
            project(tmp_path / "proj", text="import time\ntime.sleep(2)\n"), entry_script="train.py"
        )
    )
    record = json.loads(run.folder.record_file.read_text())
    wait_until(lambda: (run.folder.state / "job.jsonl").read_text() != "")
    cut = {**record, "job_id": None, "job_host": None, "job_start_time": None}
    cut["submitter"] = {**record["submitter"], "start_time": "0"}  # a process that is no more
    run.folder.record_file.write_text(json.dumps(cut))
    clock.injected()
    assert run.wait_for_completion().state == "Completed"
    clock.right()
    assert run.job_id == record["job_id"]


@pytest.mark.fault(
    "hpctf is killed while a local launcher starts", "waits for it, then reports the run as lost"
)
def test_a_local_run_is_not_lost_while_its_launcher_may_start(
    experiment: Experiment, tmp_path: Path, clock: Clock
) -> None:
    run = experiment.submit(TensorFlow(project(tmp_path / "proj"), entry_script="train.py"))
    run.wait_for_completion()
    record = json.loads(run.folder.record_file.read_text())
    cut = {**record, "job_id": None, "job_host": None, "job_start_time": None}
    cut["submitter"] = {**record["submitter"], "start_time": "0"}  # a process that is no more
    run.folder.record_file.write_text(json.dumps(cut))
    (run.folder.state / "job.jsonl").write_text("")
    run.folder.final.unlink()
    clock.injected()
    assert run.look().state == "NotStarted", "its launcher began just now"
    for path in (run.folder.record_file, run.folder.path):
        os.utime(path, (time.time() - 3600,) * 2)
    words = [sys.executable, "-c", "import time; time.sleep(600)", "local", str(run.folder.path)]
    launcher = subprocess.Popen(words)  # its modules take their time
    try:
        wait_until(lambda: is_running("local", str(run.folder.path)))
        assert run.look().state == "NotStarted"
        assert "it is being submitted" in queued_again([run.folder])[run.id]
    finally:
        launcher.kill()
        launcher.wait()
    assert "cut short" in run.look().reason and run.look().state == "Failed"
    clock.right()
    assert queued_again([run.folder]) == {}

    away = {**cut, "host": "login2", "submitter": {**cut["submitter"], "host": "login2"}}
    run.folder.record_file.write_text(json.dumps(away))
    for silent_s, state in ((600, "NotStarted"), (7200, "Failed")):  # cannot be seen from here
        for path in (run.folder.record_file, run.folder.path):
            os.utime(path, (time.time() - silent_s,) * 2)
        assert run.look().state == state


def test_a_local_run_that_somebody_ends_is_not_started_again(
    experiment: Experiment, tmp_path: Path
) -> None:
    source = project(tmp_path / "proj", text=EPOCHS)
    run = experiment.submit(TensorFlow(source, entry_script="train.py", max_restarts=3))
    wait_until(lambda: bool(epochs_of(run)))
    assert run.job_id is not None
    os.kill(int(run.job_id), signal.SIGTERM)
    status = run.wait_for_completion(raise_on_error=False)
    assert status.state == "Failed" and "SIGTERM from outside" in status.reason
    time.sleep(0.5)
    assert len(epochs_of(run)) < 12
