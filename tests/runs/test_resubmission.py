"""A run is submitted again from what is in its folder, whatever has become of all else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, ParameterServer, Run, TensorFlow
from hpctf.errors import RunFolderError, RunNotFound, UnreadableRun, UsageError
from hpctf.runs.housekeeping.archives import archive
from hpctf.runs.resubmission import resubmission
from tests.support.projects import hpctf, project

SAY = """
import json, os, sys
name = os.environ["HPCTF_ROLE"] + "-" + os.environ["HPCTF_INDEX"]
checkpoint = os.path.join(os.environ["HPCTF_CHECKPOINT_DIR"], "steps")
steps = int(open(checkpoint).read()) if os.path.exists(checkpoint) else 0
there = sorted(os.listdir("."))
open("written.txt", "w").write("by the training")
with open(f"outputs/{name}.json", "w") as stream:
    json.dump({"arguments": sys.argv[1:], "variable": os.environ.get("VARIABLE"), "from": steps,
               "there": there, "tf": os.environ.get("TF_CONFIG")}, stream)
if name in ("worker-0", "chief-0"):
    open(checkpoint + ".new", "w").write(str(steps + 1))
    os.replace(checkpoint + ".new", checkpoint)  # another rank may read it at this moment
"""
WORDS = ["--name", 'it\'s "q"', "a  b", "$HOME", "", "é", "--"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return project(tmp_path / "proj", text=SAY)


def submitted(experiment: Experiment, source: Path, **asked: Any) -> Run:
    run = experiment.submit(TensorFlow(source, entry_script="train.py", **asked))
    run.wait_for_completion()
    return run


def again(run: Run, **changes: Any) -> Run:
    new = run.resubmit(**changes)
    new.wait_for_completion()
    return new


def said(run: Run, rank: str = "worker-0") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.folder.outputs / f"{rank}.json").read_text())
    return found


def test_the_code_is_that_of_then_and_the_words_are_the_same(
    experiment: Experiment, source: Path
) -> None:
    first = submitted(experiment, source, arguments=WORDS, environment_variables={"VARIABLE": "v"})
    shutil.rmtree(source)
    second = again(first)
    assert said(second) == said(first)
    assert said(second)["arguments"] == WORDS
    assert "written.txt" not in said(second)["there"]  # the first training wrote it
    one, other = first.folder.read_record(), second.folder.read_record()
    assert (other["resubmitted_from"], one["resubmitted_from"]) == (first.id, None)
    assert other["request"] == one["request"]
    assert (second.folder.root, second.experiment) == (first.folder.root, first.experiment)


def test_a_resubmitted_run_can_be_submitted_again(experiment: Experiment, source: Path) -> None:
    first = submitted(experiment, source, arguments=["x"])
    second = again(first, arguments=["y"])
    first.delete()
    third = again(second)
    assert said(third)["arguments"] == ["y"]
    assert third.folder.read_record()["resubmitted_from"] == second.id


def test_what_is_asked_for_otherwise_alone_changes(experiment: Experiment, source: Path) -> None:
    first = submitted(
        experiment,
        source,
        script_params={"--lr": 0.1},
        environment_variables={"VARIABLE": "v", "OTHER": "o"},
    )
    second = again(
        first,
        arguments=["--lr", "0.2"],
        environment_variables={"VARIABLE": "w"},
        experiment="elsewhere",
        name="named",
    )
    assert (said(second)["arguments"], said(second)["variable"]) == (["--lr", "0.2"], "w")
    assert second.plan["entry"]["environment"]["OTHER"] == "o"
    assert (second.experiment, second.id.rsplit("_", 2)[0]) == ("elsewhere", "named")


def test_it_goes_on_from_checkpoints_or_begins_as_the_run_did(
    experiment: Experiment, source: Path
) -> None:
    first = submitted(experiment, source)
    second = again(first, resume_from=first)
    assert (said(first)["from"], said(second)["from"]) == (0, 1)
    assert said(again(second))["from"] == 1  # a copy of the first one's, as the second began
    assert said(again(second, resume_from=None))["from"] == 0
    first.delete()
    with pytest.raises(UsageError, match=f"resume_from: There is no run '{first.id}'"):
        second.resubmit()


def test_a_ps_run_keeps_its_roles(experiment: Experiment, source: Path) -> None:
    training = ParameterServer(2, 1, coordinator=False)
    first = submitted(experiment, source, distributed_training=training)
    second = again(first, worker_count=1)
    roles = {role["name"]: role["count"] for role in second.plan["roles"]}
    assert roles == {"chief": 1, "worker": 1, "ps": 1}
    assert said(second, "ps-0")["tf"] is not None


def test_a_function_is_called_again_with_its_arguments(experiment: Experiment) -> None:
    def train(factor: int) -> int:
        return factor * 7

    first = experiment.submit(TensorFlow(function=train, arguments={"factor": 6}))
    assert first.result() == 42
    second = again(first)
    assert second.result() == 42
    assert again(second).result() == 42
    with pytest.raises(UsageError, match="of a function, whose arguments are pickled"):
        first.resubmit(arguments={"factor": 1})
    (first.folder.submitit / "payload.pkl").chmod(0o666)
    with pytest.raises(RunFolderError, match="may be written by others"):
        first.resubmit()


def test_a_changed_snapshot_is_told(
    experiment: Experiment, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = submitted(experiment, source)
    (run.folder.snapshot / "train.py").write_text(f"{SAY}\n# by somebody\n")
    again(run)
    assert "has changed its snapshot: train.py" in caplog.text


def test_what_cannot_be_submitted_again_says_so(
    experiment: Experiment, source: Path, tmp_path: Path
) -> None:
    run = submitted(experiment, source)
    root = run.folder.root
    count = len(list(root.glob("*/*/run.json")))
    with pytest.raises(UsageError, match="pip_packages cannot be changed"):
        run.resubmit(pip_packages=["x"])
    record = run.folder.read_record()
    run.folder.update_record(request=None)
    with pytest.raises(UnreadableRun, match="it holds no request"):
        run.resubmit()
    run.folder.update_record(request=record["request"])
    run.folder.snapshot.rename(tmp_path / "away")
    with pytest.raises(UsageError, match=r"its snapshot .* is gone"):
        run.resubmit()
    assert len(list(root.glob("*/*/run.json"))) == count
    (tmp_path / "away").rename(run.folder.snapshot)
    archive(root, [run.folder])
    done = hpctf("resubmit", run.id, "--site", "local", cwd=tmp_path)
    assert done.returncode == RunNotFound.exit_code
    assert f"It is archived: hpctf archive --restore {run.id}" in done.stderr


def test_a_run_that_is_removed_meanwhile_leaves_no_half_of_a_new_one(
    experiment: Experiment, source: Path
) -> None:
    run = submitted(experiment, source)
    ready = resubmission(run.folder)
    run.delete()
    with pytest.raises(RunFolderError, match="snapshot"):
        ready.submit()
    assert list(run.folder.root.glob("*/*/run.json")) == []


def test_git_is_that_of_the_first_submission(
    experiment: Experiment, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = {"user.name": "a", "user.email": "a@example.org"}
    options = [word for name, value in who.items() for word in ("-c", f"{name}={value}")]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *options, *words], cwd=source, check=True)
    (source / "train.py").write_text(f"{SAY}\n# changed\n")
    first = submitted(experiment, source)
    shutil.rmtree(source / ".git")
    second = again(first)
    record = second.folder.read_record()
    assert record["git"] == first.folder.read_record()["git"]
    assert (record["git"]["dirty"], len(record["git_commit"])) == (True, 40)
    assert "+# changed" in (second.folder.path / "code.diff").read_text()


def test_the_command_line_does_the_same(source: Path, tmp_path: Path) -> None:
    there = tmp_path / "site.yaml"
    there.write_text("name: mine\nextends: local\n")
    first = hpctf(
        *("submit", "--site", there, "--set", "pin_gpus=false", "--tag", "stage=first", "--wait"),
        *("--env", "VARIABLE=v", source / "train.py", "--", *WORDS),
        cwd=tmp_path,
    )
    assert first.returncode == 0, first.stderr
    old = tmp_path / "runs/train" / first.stdout.strip()
    shown = hpctf("resubmit", "@last", "--dry-run", cwd=tmp_path)
    assert (shown.returncode, json.loads(shown.stdout)["site"]) == (0, "mine")
    assert len(list(old.parent.iterdir())) == 1
    named = os.path.relpath(old, tmp_path)
    second = hpctf("resubmit", named, "--wait", "--set", "system_metrics_s=5", cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    new = Run(tmp_path / "runs/train" / second.stdout.strip())
    assert said(new)["arguments"] == WORDS
    assert (new.plan["pin_gpus"], new.plan["system_metrics_s"]) == (False, 5)
    third = hpctf(
        *("resubmit", new.id, "--wait", "--env", "VARIABLE=w", "--tag", "more=1", "--", "z"),
        cwd=tmp_path,
    )
    assert third.returncode == 0, third.stderr
    last = Run(tmp_path / "runs/train" / third.stdout.strip())
    assert (said(last)["arguments"], said(last)["variable"]) == (["z"], "w")
    assert last.plan["system_metrics_s"] == 5
    assert new.get_tags() == {"stage": "first"}
    assert last.get_tags() == {"stage": "first", "more": "1"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--from-scratch", "--resume-from", "@last"], "contradict each other"),
        (["--nodes", "3"], "node_count is 3"),
        (["--backend", "mpi"], "No such option '--backend'"),
        (["--set", "nonsense=1"], "a site has no key"),
        (["--target", "nowhere"], "has no compute target"),
    ],
)
def test_wrong_usage_writes_nothing(
    experiment: Experiment, source: Path, tmp_path: Path, words: list[str], told: str
) -> None:
    run = submitted(experiment, source)
    done = hpctf("resubmit", run.id, *words, cwd=tmp_path)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr
    assert len(list(run.folder.path.parent.iterdir())) == 1
