"""A trial's folder is a whole run folder, made when the trial starts, by whoever has it then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from hpctf import HyperDriveConfig, TensorFlow
from hpctf.common.paths import NODE_START
from hpctf.estimator.request import request_of
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.rank_states import read_job
from hpctf.tuning.agent.trial_folder import end_leftover, open_trial
from hpctf.tuning.expressions import uniform
from hpctf.tuning.sampling import RandomParameterSampling
from hpctf.tuning.study import Study, write_study
from hpctf.tuning.submit import define, for_agents
from tests.support.projects import CLUSTER_SITE, planned, project, site_of


@pytest.fixture
def study(tmp_path: Path) -> Study:
    source = project(tmp_path / "proj")
    estimator = TensorFlow(source, entry_script="train.py", arguments=["--epochs", 3])
    sampling = RandomParameterSampling({"lr": uniform(0, 1)})
    config = HyperDriveConfig(sampling, "acc", "maximize", 4, estimator=estimator)
    definition, drawn = define(config, seed=1)
    folder = RunFolder(tmp_path / "runs/e/s_1_ab")
    folder.make([("worker", 0), ("worker", 1)])
    project(folder.snapshot)
    (folder.snapshot / "outputs").symlink_to("../outputs")
    site = site_of(CLUSTER_SITE)
    plan = for_agents(planned(source, CLUSTER_SITE), site, definition, jobs=2).plan
    record = {"id": folder.id, "request": request_of(estimator), "parameters": {"epochs": 3}}
    folder.write_documents(json.loads(plan.to_json()), record)
    write_study(folder, definition, drawn)
    assert asdict(plan)["roles"][0]["count"] == 2
    return Study(folder)


def test_a_trial_is_a_run_with_its_own_arguments_and_snapshot(study: Study) -> None:
    trial = open_trial(study, 2, 0, "7_1")
    lr = study.drawn[2]["lr"]
    plan, record = trial.read_plan(), trial.read_record()
    assert plan["entry"]["command"] == [*study.folder.plan["entry"]["command"], "--lr", str(lr)]
    assert (plan["run_id"], plan["run_folder"]) == ("s_1_ab_2", str(trial.path))
    assert [role["count"] for role in plan["roles"]] == [1]
    assert plan["launch"]["start"] == NODE_START
    assert (record["kind"], record["study"], record["trial"]) == ("trial", "s_1_ab", 2)
    assert record["job_id"] == "7_1"
    assert record["parameters"] == {"epochs": 3, "lr": lr}
    assert record["request"]["arguments"] == ["--epochs", "3", "--lr", str(lr)]
    (trial.snapshot / "train.py").write_text("changed")
    assert (study.folder.snapshot / "train.py").read_text() != "changed"
    (trial.snapshot / "outputs/file").write_text("")
    assert (trial.outputs / "file").exists()


def test_a_later_start_goes_on_in_the_same_folder(study: Study) -> None:
    trial = open_trial(study, 0, 0, "7_1")
    (trial.checkpoints / "step").write_text("5")
    trial.final.write_text("{}")
    assert open_trial(study, 0, 1, "7_3") == trial
    assert (trial.checkpoints / "step").read_text() == "5"
    assert not trial.final.exists()
    assert trial.read_record()["job_id"] == "7_3"
    assert read_job(trial.path).attempt == 1


def test_a_folder_whose_maker_died_is_made_anew(study: Study) -> None:
    half = study.trial(0).path
    (half / "snapshot").mkdir(parents=True)
    (half / "snapshot/half").write_text("")
    trial = open_trial(study, 0, 1, "7_1")
    assert trial.record_file.exists()
    assert not (trial.snapshot / "half").exists()


def test_a_process_whose_rank_was_killed_is_ended_and_no_other(study: Study) -> None:
    trial, other = open_trial(study, 0, 0, "7_1"), open_trial(study, 1, 0, "7_1")

    def begin(of: RunFolder) -> subprocess.Popen[bytes]:
        env = {**os.environ, "HPCTF_RUN_FOLDER": str(of.path)}
        code = "import time; print(flush=True); time.sleep(600)"
        command = [sys.executable, "-c", code]
        made = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, start_new_session=True)
        assert made.stdout is not None and made.stdout.readline()
        return made

    mine, foreign = begin(trial), begin(other)
    try:
        state = trial.state / "worker-0.jsonl"
        for process in (foreign, mine):
            record = {"event": "started", "pid": process.pid, "host": os.uname().nodename}
            state.write_text(json.dumps(record) + "\n")
            end_leftover(trial)
        assert mine.wait() < 0
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()
