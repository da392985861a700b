"""Runs on copies of their data: how they are asked for, what their scripts see, what is said."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpctf import ParameterServer, Stage, TensorFlow, UsageError
from hpctf.agents.plans import for_agents
from hpctf.common.files import append_record
from hpctf.estimator.request import changed, estimator_from, request_of
from hpctf.node.container import contained
from hpctf.plan import Plan, Staging
from hpctf.run_folder.node_states import first_failed, node_file, staging_words
from hpctf.site.model import StagingSettings
from hpctf.submission.script import render
from tests.conftest import skip_or_fail
from tests.support.projects import hpctf, planned, project, site_of

TELL = """
import os
path = os.environ["HPCTF_INPUT_DATA"]
print(path, open(os.path.join(path, "x")).read(), os.environ["HPCTF_INPUT_OTHER"])
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return project(tmp_path / "proj", text=TELL)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "x").write_text("of the shared folder")
    return folder


def test_stage_is_an_input_of_which_nodes_get_copies(source: Path, data: Path) -> None:
    train = source / "train.py"
    ways: list[dict[str, Any]] = [
        {"inputs": {"data": Stage(data), "one": train}},
        {"inputs": {"one": str(train)}, "stage": {"data": str(data)}},
        {"inputs": [Stage(data), train], "stage": None},
        {"inputs": {"data": str(data), "one": train}, "stage": [str(data)]},
    ]
    for asked in ways:
        made = TensorFlow(source, entry_script="train.py", **asked)
        assert made.stage == {"data": str(data)}
        assert set(made.inputs.values()) == {str(data), str(train)}
        request = json.loads(json.dumps(request_of(made)))
        again = estimator_from(request, source)
        assert (again.inputs, again.stage) == (made.inputs, made.stage)

        unstaged = estimator_from(changed(request, {"inputs": {"data": str(train)}}), source)
        assert unstaged.stage == {} and unstaged.inputs["data"] == str(train)
        staged = estimator_from(changed(request, {"stage": {"data": str(train)}}), source)
        assert staged.stage == {"data": str(train)} == {"data": staged.inputs["data"]}
    plan = planned(source, **ways[0]).plan
    assert plan.staging == Staging({"data": str(data)}, folder="$TMPDIR")
    assert Plan.from_json(plan.to_json()) == plan
    assert planned(source, inputs={"data": data}).plan.staging is None


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"stage": "data"}, "stage must be"),
        ({"stage": {"data": "nowhere"}}, "stage['data']: "),
        ({"inputs": {"data": Stage("nowhere")}}, "nowhere' does not exist"),
        ({"inputs": {"a": "."}, "stage": {"a": "proj"}}, "HPCTF_INPUT_A holds one"),
        ({"inputs": {"A": "."}, "stage": {"a": "."}}, "HPCTF_INPUT_A holds one"),
    ],
)
def test_what_cannot_be_staged(
    source: Path, asked: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    with pytest.raises(UsageError) as refused:
        TensorFlow(source, entry_script="train.py", **asked)
    assert words in str(refused.value)


def test_a_container_sees_the_copies(source: Path, data: Path) -> None:
    asked: dict[str, Any] = {"container": "docker://tf", "stage": {"data": data}}
    site = site_of()
    pyxis = replace(site, containers=replace(site.containers, runtime="pyxis"))
    with pytest.raises(UsageError, match="name is known only once the job runs"):
        planned(source, pyxis, **asked)
    local = replace(pyxis, staging=StagingSettings(folder="/local"))
    assert "/local:/local" in " ".join(planned(source, local, **asked).plan.launch.step_options)


def test_a_container_of_a_rank_s_gets_the_folder_with_the_copies(tmp_path: Path) -> None:
    runtime = {"command": ["apptainer", "exec"], "gpu_options": (), "image": "x.sif"}
    for folder, bound in (("/usr", True), ("/tmp", False)):  # every runtime shows /tmp
        env = {"HPCTF_RUN_FOLDER": str(tmp_path), "HPCTF_STAGING_DIR": folder}
        words, _ = contained(runtime, ["python"], env, {}, str(tmp_path / "rank"), False)
        assert (folder in words) == bound


def test_agents_stage_nothing(source: Path, data: Path) -> None:
    asked: dict[str, Any] = {"jobs": 2, "per_job": 1, "start": "/start.py", "hint": ""}
    made = planned(source, stage={"data": data})
    with pytest.raises(UsageError, match="stage no data"):
        for_agents(made, site_of(), **asked)
    of_site = Staging({}, folder="/x", environment="/store/e", environment_kind="tar")
    made = replace(made, plan=replace(made.plan, staging=of_site))
    assert for_agents(made, site_of(), **asked).plan.staging is None


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"distributed_backend": "mpi", "node_count": 3},
        {"distributed_training": ParameterServer(2, 1, placement="hetjob")},
    ],
    ids=["single", "mpi", "hetjob"],
)
def test_the_script_stages_on_each_node_before_the_ranks_and_clears_after_them(
    source: Path, data: Path, asked: dict[str, Any]
) -> None:
    plan = planned(source, stage={"data": data}, **asked).plan
    text = render(plan)
    steps = [line for line in text.splitlines() if line.startswith("srun --nodes")]
    each = [line for line in steps if "--ntasks-per-node=1" in line]
    nodes = 1 if plan.backend == "single" else sum(one.nodes for one in plan.components)
    assert len(each) == 2 * len(plan.components)
    assert sum(int(line.split("--nodes=")[1].split()[0]) for line in each) == 2 * nodes
    order = [text.index(f' {action} "$run"') for action in ("stage", "rank", "unstage")]
    assert order == sorted(order)
    assert render(replace(plan, staging=None)) not in text
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    if shutil.which("shellcheck") is None:
        skip_or_fail("shellcheck is not installed")
    done = subprocess.run(
        ["shellcheck", "-s", "bash", "-"], input=text, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stdout


def test_a_run_on_this_machine_reads_its_copy(source: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    env = {"HPCTF_STAGING__FOLDER": str(tmp_path / "disk"), "HPCTF_SITE": "local"}
    words = ["--stage", f"data={data}", "--input", f"other={data}", "proj/train.py"]
    done = hpctf("submit", "--wait", *words, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    read, _, rest = hpctf("logs", "@last", cwd=tmp_path, env=env).stdout.strip().partition(" ")
    assert read.startswith(f"{tmp_path}/disk/hpctf-{os.geteuid()}/jobs/")
    assert rest == f"of the shared folder {data}"
    assert not os.path.exists(read)
    assert not list((tmp_path / "disk").glob("*/jobs/*"))
    assert "staged data in" in hpctf("logs", "@last", "--role", "job", cwd=tmp_path, env=env).stdout

    env["HPCTF_STAGING__FOLDER"] = "/nowhere"
    done = hpctf("submit", "--wait", *words, cwd=tmp_path, env=env)
    assert done.returncode == 1
    assert "staging.folder is '/nowhere', but on node" in done.stderr
    why = hpctf("why", "@last", cwd=tmp_path, env=env).stdout
    assert "Name a folder that every node has" in why
    assert "hpctf docs troubleshooting/staging" in why


def test_the_nodes_say_how_far_they_are(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    for host, copied in (("n1", 10**9), ("n2", None)):
        file = node_file(tmp_path, host)
        append_record(file, {"event": "staging", "attempt": 0, "time": 1.0})
        if copied:
            figures = {"needed": 4 * 10**9, "copied": copied}
            append_record(file, {"event": "copied", "attempt": 0, **figures})
    assert staging_words(tmp_path, 0) == "staging data on 2 nodes (1.0 of 4.0 GB)"
    assert staging_words(tmp_path, 1) == ""
    failed = {"event": "failed", "attempt": 0, "reason": "full", "hint": "Make room."}
    append_record(node_file(tmp_path, "n2"), failed)
    assert staging_words(tmp_path, 0) == "staging data on 1 node (1.0 of 4.0 GB)"
    node = first_failed(tmp_path, 0)
    assert node is not None and (node.host, node.hint) == ("n2", "Make room.")
