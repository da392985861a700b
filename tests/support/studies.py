"""Studies that have run, without Slurm: what their trials have logged is written for them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpctf import HyperDriveConfig, HyperDriveRun, TensorFlow
from hpctf.estimator.request import request_of
from hpctf.hyperdrive_run import STATUS
from hpctf.run_folder.layout import RunFolder
from hpctf.runs.status.determine import settle
from hpctf.runs.status.state import RunState
from hpctf.tuning.agent.trial_folder import open_trial
from hpctf.tuning.expressions import uniform
from hpctf.tuning.functions import keep_function
from hpctf.tuning.sampling import FunctionSampling, parse_sampling
from hpctf.tuning.study import Study, write_study
from hpctf.tuning.submit import define, for_agents, take_over
from tests.conftest import run_python
from tests.support.projects import CLUSTER_SITE, planned, project, site_of

SPACE = {"x": uniform(0, 1)}
Curves = Sequence[tuple[str, Sequence[float]]]


class Studies:
    """Makes studies, as far as they do not need Slurm."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.source = project(top / "proj")
        self.notes: list[str] = []

    def make(self, name: str, **changes: Any) -> HyperDriveRun:
        estimator = TensorFlow(self.source, entry_script="train.py")
        settings: dict[str, Any] = {
            "hyperparameter_sampling": parse_sampling("random", SPACE),
            "primary_metric_name": "acc",
            "primary_metric_goal": "maximize",
            "max_total_runs": 4,
            **changes,
        }
        config = HyperDriveConfig(estimator=estimator, **settings)
        folder = RunFolder(self.top / "runs/e" / name)
        folder.make([("worker", 0)])
        project(folder.snapshot)
        definition, drawn = define(config, seed=1)
        plan = for_agents(
            planned(self.source, CLUSTER_SITE), site_of(CLUSTER_SITE), definition, jobs=1
        ).plan
        record = {"id": name, "request": request_of(estimator), "parameters": {}}
        folder.write_documents(json.loads(plan.to_json()), record)
        write_study(folder, definition, drawn)
        sampling = config.hyperparameter_sampling
        if isinstance(sampling, FunctionSampling) and sampling.define is not None:
            keep_function(folder.path, sampling.define)
        if config.resume_from:
            take_over(Study(folder), config, self.notes.append)
        return HyperDriveRun(folder)

    def ended(self, name: str, curves: Curves, **changes: Any) -> HyperDriveRun:
        """Make a study that is over; its trials have logged `curves`, and ended so."""
        run = self.make(name, max_total_runs=len(curves), **changes)
        for number, (state, values) in enumerate(curves):
            run.study.ledger.claim(number, 0, "n1", "7_0")
            trial = open_trial(run.study, number, 0, "7_0")
            lines = [
                {"name": "acc", "value": value, "step": step, "time": 1.0}
                for step, value in enumerate(values)
            ]
            journal = trial.metrics / "worker-0.jsonl"
            journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
            run.study.ledger.log(number, 0, list(enumerate(values)))
            run.study.ledger.end(number, 0, state)
            settled(trial, STATUS[state])
        settled(run.folder, "Completed")
        return run


def run_agent(run: HyperDriveRun, script: str) -> HyperDriveRun:
    """Run one agent of a study on this machine, and return the study as it is then."""
    folder = run.folder
    plan = folder.read_plan()
    plan["entry"] |= {"python": sys.executable, "command": [sys.executable, "train.py"]}
    folder.write_documents(plan, folder.read_record())
    (folder.snapshot / "train.py").write_text(script)
    (folder.snapshot / "outputs").symlink_to("../outputs")
    run.study.ledger.append("submitted", submission=0, agents=1)
    words = f"from hpctf.tuning.agent.agent import run_agent; run_agent({str(folder.path)!r}, 0)"
    job = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0"}
    done = run_python("-c", words, **job)
    assert done.returncode == 0, done.stderr
    return HyperDriveRun(folder)


def settled(folder: RunFolder, state: str) -> None:
    settle(folder, folder.read_record(), folder.plan, RunState(state, "", 0, ()))


CURVES: Curves = [
    ("completed", [0.1, 0.9]),
    ("stopped", [0.2]),
    ("failed", [0.3]),
    ("canceled", [0.95, 0.5]),
    ("completed", []),
]
