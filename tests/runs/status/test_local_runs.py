"""Runs on this machine alone, without Slurm: the same call, the same truth."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpctf import Experiment, ParameterServer, Run, TensorFlow, TrainingFailed
from hpctf.common.processes import start_time
from tests.conftest import run_python, skip_or_fail
from tests.support.projects import project

pytestmark = pytest.mark.slow

CLI = "import sys; from hpctf.cli import main; main()"

WHO_AM_I = """
import json, os
name = os.environ["HPCTF_ROLE"] + "-" + os.environ["HPCTF_INDEX"]
with open(f"outputs/{name}.json", "w") as stream:
    json.dump({"tf": os.environ.get("TF_CONFIG"), "rank": os.environ["HPCTF_RANK"],
               "pid": os.getpid()}, stream)
"""


def said(run: Run) -> dict[str, dict]:
    """Return what each rank wrote of itself."""
    files = [name for name in run.get_file_names() if name.endswith(".json")]
    return {Path(name).stem: json.loads((run.folder.path / name).read_text()) for name in files}


def test_one_process_and_its_outputs(experiment: Experiment, tmp_path: Path) -> None:
    run = experiment.submit(
        TensorFlow(project(tmp_path / "proj", text=WHO_AM_I), entry_script="train.py")
    )
    assert run.wait_for_completion().state == run.status == "Completed"
    assert said(run)["worker-0"]["tf"] is None
    copied = run.download_files(output_directory=tmp_path / "here")
    assert [path.name for path in copied] == ["worker-0.json"]


def test_ps_runs_chief_workers_and_servers_side_by_side(
    experiment: Experiment, tmp_path: Path
) -> None:
    training = ParameterServer(2, 1, coordinator=False)
    estimator = TensorFlow(
        project(tmp_path / "proj", text=WHO_AM_I),
        entry_script="train.py",
        distributed_training=training,
    )
    run = experiment.submit(estimator)
    run.wait_for_completion()
    ranks = said(run)
    assert sorted(ranks) == ["chief-0", "ps-0", "worker-0", "worker-1"]
    spec = json.loads(ranks["chief-0"]["tf"])["cluster"]
    addresses = [address for role in spec.values() for address in role]
    assert len(set(addresses)) == 4
    assert {address.split(":")[0] for address in addresses} == {"localhost"}


def test_mpi_ranks_are_started_by_mpirun(experiment: Experiment, tmp_path: Path) -> None:
    if not shutil.which("mpirun"):
        skip_or_fail("mpirun is not installed")
    estimator = TensorFlow(
        project(tmp_path / "proj", text=WHO_AM_I),
        entry_script="train.py",
        process_count_per_node=2,
        distributed_backend="mpi",
    )
    run = experiment.submit(estimator)
    results = run.results()
    assert [result["rank"] for result in results] == [0, 1]
    assert [said(run)[f"worker-{index}"]["rank"] for index in (0, 1)] == ["0", "1"]


def test_the_first_failure_ends_all_ranks_and_is_the_runs(
    experiment: Experiment, tmp_path: Path
) -> None:
    script = (
        "import os, sys, time\n"
        "if os.environ['HPCTF_RANK'] == '1':\n"
        "    print('no luck')\n"
        "    sys.exit(7)\n"
        "time.sleep(600)\n"
    )
    estimator = TensorFlow(
        project(tmp_path / "proj", text=script),
        entry_script="train.py",
        worker_count=3,
        distributed_backend="collective",
    )
    run = experiment.submit(estimator)
    began = time.monotonic()
    with pytest.raises(TrainingFailed, match=r"worker-1 .* exit code 7(.|\n)*no luck"):
        run.wait_for_completion()
    assert time.monotonic() - began < 30
    details = run.get_details()
    assert (details["state"], details["exit_code"]) == ("Failed", 7)


def test_a_function_comes_back_with_its_value(experiment: Experiment) -> None:
    def train(rate: float) -> float:
        return rate * 2

    run = experiment.submit(TensorFlow(function=train, arguments={"rate": 0.5}))
    assert run.result() == 1.0


def test_cancel_ends_every_process(experiment: Experiment, tmp_path: Path) -> None:
    script = WHO_AM_I + "\nimport time; time.sleep(600)\n"
    run = experiment.submit(
        TensorFlow(project(tmp_path / "proj", text=script), entry_script="train.py")
    )
    while not said_whole(run):
        time.sleep(0.05)
    pid = said(run)["worker-0"]["pid"]
    run.cancel()
    status = run.wait_for_completion(raise_on_error=False)
    assert status.state == "Canceled"
    assert start_time(pid) is None


def said_whole(run: Run) -> bool:
    """Whether the first rank has written all of what it says."""
    try:
        return bool(said(run))
    except ValueError:
        return False


def test_a_time_limit_ends_the_run(experiment: Experiment, tmp_path: Path) -> None:
    estimator = TensorFlow(
        project(tmp_path / "proj", text="import time; time.sleep(600)"),
        entry_script="train.py",
        max_run_duration_seconds=1,
    )
    status = experiment.submit(estimator).wait_for_completion(raise_on_error=False)
    assert status.state == "Failed"


def test_a_controller_that_was_killed_makes_the_run_failed(
    experiment: Experiment, tmp_path: Path
) -> None:
    script = WHO_AM_I + "\nimport time; time.sleep(5)\n"
    run = experiment.submit(
        TensorFlow(project(tmp_path / "proj", text=script), entry_script="train.py")
    )
    while not said_whole(run):
        time.sleep(0.05)
    assert run.job_id is not None
    os.kill(int(run.job_id), 9)
    long_ago = time.time() - 3600
    os.utime(run.folder.record_file, (long_ago, long_ago))
    status = run.wait_for_completion(raise_on_error=False)
    assert status.state == "Failed"
    assert "left no record" in status.reason


def test_submit_returns_at_once_though_its_output_is_a_pipe(tmp_path: Path) -> None:
    go = tmp_path / "go"
    text = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)\n"
    folder = project(tmp_path / "proj", text=text)
    env = {"HPCTF_RUNS_ROOT": str(tmp_path / "runs"), "HPCTF_SITE": "local"}
    run = run_python("-c", CLI, "submit", str(folder / "train.py"), **env).stdout.strip()
    go.touch()  # the training goes on until now, and submit has returned
    assert run_python("-c", CLI, "wait", run, **env).returncode == 0


def test_follow_prints_the_first_ranks_log(tmp_path: Path) -> None:
    folder = project(tmp_path / "proj", text="print('epoch 1')\nprint('epoch 2')\n")
    env = {"HPCTF_RUNS_ROOT": str(tmp_path / "runs"), "HPCTF_SITE": "local"}
    done = run_python("-c", CLI, "submit", "--follow", str(folder / "train.py"), **env)
    assert len(done.stdout.splitlines()) == 1  # the run's id alone
    told = [line for line in done.stderr.splitlines() if line.startswith("epoch")]
    assert told == ["epoch 1", "epoch 2"]
    assert "Completed" in done.stderr


def test_a_run_inside_a_slurm_job_does_not_take_its_ranks_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    experiment = Experiment("test", site="local", runs_root=tmp_path / "runs")
    run = experiment.submit(
        TensorFlow(project(tmp_path / "proj", text=WHO_AM_I), entry_script="train.py")
    )
    run.wait_for_completion()
    assert said(run)["worker-0"]["rank"] == "0"


def test_wait_shows_the_state_on_a_terminal(tmp_path: Path) -> None:
    folder = project(tmp_path / "proj", text="import time; time.sleep(1)")
    command = [sys.executable, "-c", CLI, "submit", "--wait", str(folder / "train.py")]
    env = {**os.environ, "HPCTF_RUNS_ROOT": str(tmp_path / "runs"), "HPCTF_SITE": "local"}
    words = " ".join(f"'{word}'" for word in command)
    shown = subprocess.run(
        ["script", "-qec", words, "/dev/null"], capture_output=True, text=True, env=env
    )
    assert "Running: 1 worker running" in shown.stdout
    assert shown.returncode == 0


def test_a_run_may_have_a_name_of_its_own(tmp_path: Path) -> None:
    folder = project(tmp_path / "proj", text="print(1)")
    env = {"HPCTF_RUNS_ROOT": str(tmp_path / "runs"), "HPCTF_SITE": "local"}
    words = ["--experiment", "digits", "--name", "wide", "--wait", str(folder / "train.py")]
    run = run_python("-c", CLI, "submit", *words, **env).stdout.strip()
    assert run.startswith("wide_")
    assert (tmp_path / "runs/digits" / run).is_dir()
