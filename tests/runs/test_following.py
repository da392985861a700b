"""Runs that follow other runs, as far as that shows without a queue: which are meant, what has
ended already, what cannot be, and what is on record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, Run, TensorFlow, UsageError
from hpctf.errors import SchedulerError, SiteError
from hpctf.plan import Plan
from hpctf.runs import following
from hpctf.runs.resubmission import resubmission
from hpctf.runs.status.state import RunState
from hpctf.submission.script import render
from hpctf.tuning.config import HyperDriveConfig
from hpctf.tuning.expressions import uniform
from hpctf.tuning.goals import PrimaryMetricGoal
from hpctf.tuning.sampling import RandomParameterSampling
from tests.support.projects import hpctf, project

WRITES = """
import os, sys
if len(sys.argv) > 1:
    sys.exit(int(sys.argv[1]))
open("outputs/model.txt", "w").write(os.environ.get("HPCTF_INPUT_MODEL", ""))
"""


class Ended:
    """Runs that are over, of one experiment: one completed, one failed."""

    def __init__(self, folder: Path) -> None:
        self.source = project(folder / "proj", text=WRITES)
        self.experiment = Experiment("test", site="local", runs_root=folder / "runs")
        self.completed, self.failed = (self.submit(arguments=words) for words in ([], ["3"]))
        for run in (self.completed, self.failed):
            run.wait_for_completion(raise_on_error=False)

    def estimator(self, **asked: Any) -> TensorFlow:
        return TensorFlow(self.source, entry_script="train.py", **asked)

    def submit(self, **asked: Any) -> Run:
        return self.experiment.submit(self.estimator(**asked))

    def plan(self, **asked: Any) -> Plan:
        return self.experiment.plan(self.estimator(**asked)).plan

    def on_slurm(self, **asked: Any) -> Plan:
        slurm = Experiment("test", site="slurm", runs_root=self.experiment.runs_root)
        return slurm.plan(self.estimator(**asked)).plan


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return Ended(tmp_path_factory.mktemp("following"))


@pytest.fixture
def going(ended: Ended, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A run whose job Slurm has, as far as its record and Slurm's answer go: both are stand-ins."""
    run, before = ended.completed, ended.completed.folder.record_file.read_text()
    plan_before = run.folder.plan_file.read_text()
    run.folder.update_record(job_id="77_1", cluster=None)
    run.folder.plan_file.write_text(plan_before.replace('"local"', '"slurm"', 2))
    monkeypatch.setattr(following, "look", lambda _: RunState("Running", "", None, ()))
    yield Run(run.folder.path)
    run.folder.record_file.write_text(before)
    run.folder.plan_file.write_text(plan_before)


def waits(plan: Plan) -> str:
    return dict(plan.components[0].directives).get("dependency", "")


def test_a_run_that_ended_as_it_had_to_is_not_waited_for(ended: Ended) -> None:
    good, bad = ended.completed, ended.failed
    plan = ended.on_slurm(after=[good, good.folder.path])
    assert waits(plan) == ""
    assert [(one.run, one.when, one.job_id) for one in plan.after] == [(good.id, "ok", "")]
    plan = ended.plan(after=[good.id, f"{bad.id}:failed"])
    assert [(one.run, one.when) for one in plan.after] == [(good.id, "ok"), (bad.id, "failed")]
    assert [one.run for one in ended.plan(after="@last:any").after] != []


REFUSED = {
    "{failed}": "failed, but this run is to start only once it has completed: worker-0 on",
    "{completed}:failed": "completed, but this run is to start only if it fails",
    "{completed}:okay": "ends in 'okay', but a run is waited for until it has ended as ok, any",
    "nothing": "after: There is no run 'nothing'",
    ":any": "':any' names no run",
}


@pytest.mark.parametrize("after", REFUSED)
def test_what_can_no_longer_be_is_refused_at_once(ended: Ended, after: str) -> None:
    name = after.format(completed=ended.completed.id, failed=ended.failed.id)
    with pytest.raises(UsageError) as refused:
        ended.plan(after=name)
    assert REFUSED[after] in refused.value.message


def test_the_job_waits_and_goes_if_it_never_can_start(ended: Ended, going: Run) -> None:
    plan = ended.on_slurm(after=f"{going.id}:any", sbatch={"dependency": "singleton"})
    script = render(plan, keep=False)
    assert "#SBATCH --dependency=singleton,afterany:77_1\n" in script
    assert "#SBATCH --kill-on-invalid-dep=yes\n" in script
    assert Plan.from_json(plan.to_json()) == plan
    with pytest.raises(SiteError, match=r"any of several jobs.*it follows"):
        ended.on_slurm(after=going, sbatch={"dependency": "afterok:1?afterok:2"})


def test_an_input_of_a_run_waits_until_that_has_written_it(ended: Ended, going: Run) -> None:
    asked: dict[str, Any] = {"inputs": {"model": f"@{going.id[:-1]}/outputs/later.h5"}}
    plan = ended.on_slurm(**asked)
    file = f"{going.folder.path}/outputs/later.h5"
    assert waits(plan) == "afterok:77_1"
    assert plan.entry.environment["HPCTF_INPUT_MODEL"] == file
    script = render(plan, keep=False)
    assert f"[ -e {file} ]" in script
    assert f"input model is not there: run {going.id} has ended without outputs/later.h5" in script
    assert waits(ended.on_slurm(after=f"{going.id}:any", **asked)) == "afterany:77_1"


def test_what_slurm_cannot_wait_for_is_refused_with_what_to_do(
    ended: Ended, going: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(error: type[Exception], **asked: Any) -> str:
        with pytest.raises(error) as refused:
            ended.on_slurm(after=going, **asked)
        return str(refused.value)

    with pytest.raises(UsageError, match="has no queue, and would start this run at once") as local:
        ended.plan(after=going)
    assert f"hpctf wait {going.id}" in str(local.value)
    other = refusal(UsageError, sbatch={"clusters": "far"})
    assert "on this machine's cluster, and this run's would be on cluster 'far'" in other

    for name, kind in {"study.json": "study", "score.json": "scoring run"}.items():
        (going.folder.path / name).write_text("{}")
        assert f"it is a {kind}, whose jobs come and go" in refusal(UsageError)
        (going.folder.path / name).unlink()

    monkeypatch.setattr(following, "ask_for", lambda *_: None)
    finalizing = RunState("Finalizing", "", None, ())
    monkeypatch.setattr(following, "look", lambda _: finalizing)
    assert "Slurm no longer knows its job, 77_1" in refusal(UsageError)
    monkeypatch.setattr(following, "look", lambda _: finalizing._replace(away="it is down"))
    assert "as far as is known" in refusal(SchedulerError)
    going.folder.update_record(job_id=None)
    monkeypatch.setattr(following, "look", lambda _: RunState("NotStarted", "so", None, ()))
    assert "it has no job (so)" in refusal(UsageError)


@pytest.mark.parametrize("how", ["after", "inputs"])
def test_a_study_does_not_wait(ended: Ended, going: Run, how: str) -> None:
    asked = {"after": going, "inputs": {"model": f"@{going.id}/outputs/later.h5"}}
    config = HyperDriveConfig(
        estimator=ended.estimator(**{how: asked[how]}),
        hyperparameter_sampling=RandomParameterSampling({"x": uniform(0, 1)}),
        primary_metric_name="loss",
        primary_metric_goal=PrimaryMetricGoal.MINIMIZE,
        max_total_runs=2,
    )
    slurm = Experiment("test", site="slurm", runs_root=ended.experiment.runs_root)
    with pytest.raises(UsageError, match="A study cannot wait for another run"):
        slurm.submit_study(config)


def test_files_of_an_ended_run_are_named_by_it(ended: Ended) -> None:
    good = ended.completed
    run = good.then(
        ended.estimator(inputs={"model": f"@{good.id}/outputs/model.txt"}), name="second"
    )
    assert run.wait_for_completion().state == "Completed"
    assert (run.experiment, run.id.split("_")[0]) == ("test", "second")
    text = (run.folder.outputs / "model.txt").read_text()
    assert text == str(good.folder.outputs / "model.txt")
    record = run.folder.read_record()
    assert record["request"]["after"] == [f"{good.id}:ok"]
    assert record["request"]["inputs"] == {"model": f"@{good.id}/outputs/model.txt"}

    again = resubmission(run.folder)
    assert again.estimator.after == []
    assert again.plan().plan.entry.environment["HPCTF_INPUT_MODEL"] == text

    with pytest.raises(UsageError, match="completed, and has no outputs/nothing"):
        ended.plan(inputs={"model": f"@{good.id}/outputs/nothing"})
    for wrong in ("@", "@last", f"@{good.id}/../x", "@/outputs"):
        with pytest.raises(UsageError, match="does not name a file of a run"):
            ended.estimator(inputs={"model": wrong})


def test_the_command_line_and_job_files_say_the_same(ended: Ended, tmp_path: Path) -> None:
    good, bad = ended.completed.id, ended.failed.id
    job = tmp_path / "job.yaml"
    job.write_text(
        f"script: {ended.source}/train.py\nsite: local\nafter: ['{good}', '{bad}:any']\n"
        f"input: {{model: '@{good}/outputs/model.txt'}}\n"
    )
    words = ["--site", "local", "--after", good, "--after", f"{bad}:any"]
    words += ["--input", f"model=@{good}/outputs/model.txt"]
    env = {"HPCTF_RUNS_ROOT": str(ended.experiment.runs_root)}
    plans = []
    for given in ([str(job)], [*words, f"{ended.source}/train.py"]):
        done = hpctf("submit", "--dry-run", "--json", *given, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        plans.append(json.loads(done.stdout)["plan"])
    assert plans[0]["after"] == plans[1]["after"] != []
    assert plans[0]["handovers"] == plans[1]["handovers"] != []
