"""The command line: what it refuses and how, and that looking leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from hpctf import Experiment, TensorFlow, UsageError
from hpctf.estimator.parameter import GROUPS
from tests.support.every_command import leaves
from tests.support.projects import hpctf, project

pytestmark = pytest.mark.slow

USAGE, SITE = 2, 3


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a project ``proj/train.py``, and nothing else."""
    project(tmp_path / "proj")
    return tmp_path


def refused(home: Path, *words: str | Path, code: int = USAGE, **env: str) -> str:
    """Run what must be refused without a traceback, and return what was said."""
    done = hpctf(*words, cwd=home, env=env)
    assert "Traceback" not in done.stderr, done.stderr
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert not (home / "runs").exists()
    return done.stderr


def dry(home: Path, *words: str | Path, **env: str) -> dict[str, Any]:
    """Return the plan that a dry run answers."""
    done = hpctf("submit", "--dry-run", "--json", *words, cwd=home, env=env)
    assert done.returncode == 0, done.stderr
    plan: dict[str, Any] = json.loads(done.stdout)["plan"]
    return plan


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sumbit"], "No such command 'sumbit'. Did you mean 'submit'?"),
        (["frobnicate"], "No such command 'frobnicate'."),
        (["submit", "--nodez", "2", "proj/train.py"], "--nodes"),
        (["submit", "proj/train.py", "--epochs", "3"], "own options come after '--'"),
        (["submit"], "Missing argument 'SCRIPT'"),
        (["submit", "--nodes", "two", "proj/train.py"], "'two' is not a valid integer"),
        (["submit", "--backend", "mip", "proj/train.py"], "'mip' is not one of"),
        (["submit", "proj/trian.py"], "Did you mean 'train.py'?"),
        (["submit", "~nobody-here/train.py"], "does not exist"),
        (["submit", "nowhere/train.py"], "nowhere' does not exist"),
        (["submit", "proj"], "entry_script 'proj' is a folder"),
        (["submit", "--source-dir", "nowhere", "proj/train.py"], "nowhere' does not exist"),
        (["submit", "--nodes", "0", "proj/train.py"], "node_count is 0"),
        (["submit", "--nodes", "2", "proj/train.py"], "no distributed_backend is named"),
        (["submit", "--backend", "ps", "--ps-mode", "script", "--workers", "0", "proj/train.py"],
         "worker_count is 0"),
        (["submit", "--backend", "mpi", "--no-pin-gpus", "--procs-per-node", "0", "proj/train.py"],
         "process_count_per_node is 0"),
        (["submit", "--ps-mode", "script", "proj/train.py"], "belong to backend 'ps'"),
        (["submit", "--pin-gpus", "proj/train.py"], "belong to backend 'mpi'"),
        (["submit", "--time", "1h", "proj/train.py"], "Time '1h' is not in Slurm's notation"),
        (["submit", "--env", "NAME", "proj/train.py"], "--env 'NAME' is not of the form"),
        (["submit", "--env", "=x", "proj/train.py"], "not of the form NAME=VALUE"),
        (["submit", "--input", "d=nowhere", "proj/train.py"], "does not exist"),
        (["submit", "--sbatch", "output=x", "proj/train.py"], "the run folder holds"),
        (["submit", "--sbatch", "=x", "proj/train.py"], "is not the long name"),
        (["submit", "--python", "no-python", "proj/train.py"], "there is no such program"),
        (["submit", "--pip", "keras", "--python", "python3", "proj/train.py"],
         "packages make an environment of their own"),
        (["submit", "--experiment", "a/b", "proj/train.py"], "experiment's name is 'a/b'"),
        (["submit", "--experiment", "../x", "proj/train.py"], "must be of letters"),
        (["status", "@last"], "There are no runs under"),
        (["logs", "train_1"], "There is no run 'train_1' under"),
        (["wait", ""], "There is no run ''"),
        (["cancel"], "Missing argument 'RUN...'"),
        (["files", "../../etc"], "There is no run"),
        (["status"], "Missing argument 'RUN'"),
    ],
)  # fmt: skip
def test_wrong_usage_exits_with_2_and_says_what_was_meant(
    home: Path, words: list[str], said: str
) -> None:
    assert said in refused(home, *words, HPCTF_SITE="slurm")


def test_names_that_do_not_exist_are_wrong_usage(home: Path) -> None:
    script = home / "proj/train.py"
    assert "Did you mean 'slurm'?" in refused(home, "submit", "--site", "slrm", script)
    said = refused(home, "submit", "--site", "slurm", "--target", "gpu", script)
    assert "Its targets: default." in said


def test_a_site_file_that_cannot_be_used_exits_with_3(home: Path) -> None:
    script = home / "proj/train.py"
    assert "does not exist" in refused(home, "submit", "--site", "./x.yaml", script, code=SITE)


@pytest.mark.parametrize("root", ["/tmp/back\\slash"])
def test_a_runs_root_that_sbatch_cannot_name_is_refused(home: Path, root: str) -> None:
    said = refused(home, "submit", "proj/train.py", HPCTF_RUNS_ROOT=root, HPCTF_SITE="slurm")
    assert "which sbatch cannot name" in said


@pytest.mark.parametrize("root", ["$NOWHERE/runs", "/scratch/${NOWHERE}/runs"])
def test_a_runs_root_of_a_variable_that_is_not_set_is_refused(home: Path, root: str) -> None:
    said = refused(home, "submit", "proj/train.py", HPCTF_RUNS_ROOT=root, HPCTF_SITE="slurm")
    assert f"The runs root is '{root}', but $NOWHERE is not set here." in said


def test_a_sites_runs_root_lies_where_its_variable_says(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", str(home / "scratch"))
    monkeypatch.delenv("HPCTF_RUNS_ROOT", raising=False)
    assert Experiment("e", site="jean-zay").runs_root == home / "scratch" / "hpctf-runs"


def test_a_site_that_drops_arrays_has_none(home: Path) -> None:
    estimator = TensorFlow(home / "proj", entry_script="train.py")
    with pytest.raises(UsageError, match="Site 'frontera' has no job arrays: it drops 'array'"):
        Experiment("e", site="frontera", runs_root=home / "runs").submit_array([estimator] * 2)
    assert not (home / "runs").exists()


@pytest.mark.parametrize("site", ["slurm", "slurm-mpirun", "local"])
@pytest.mark.parametrize("backend", ["single", "mpi", "ps", "collective"])
def test_a_dry_run_answers_and_leaves_nothing_behind(home: Path, site: str, backend: str) -> None:
    words = ["--dry-run", "--site", site, "--backend", backend]
    done = hpctf("submit", *words, "proj/train.py", cwd=home)
    assert done.returncode == 0, done.stderr
    if site == "local":
        assert json.loads(done.stdout)["backend"] == backend
        assert "no batch script" in done.stderr
    else:
        assert done.stdout.startswith("#!/bin/bash\n#SBATCH --job-name=train_")
        assert subprocess.run(["bash", "-n"], input=done.stdout, text=True).returncode == 0
    assert {path.name for path in home.iterdir()} == {"proj"}
    assert {path.name for path in (home / "proj").iterdir()} == {"train.py"}


def test_azureml_can_be_left_out_by_flag_and_by_site(home: Path) -> None:
    words = ["submit", "--dry-run", "--json", "--site", "local"]
    told = [
        json.loads(hpctf(*words, *more, "proj/train.py", cwd=home).stdout)["plan"]["azureml"]
        for more in ([], ["--no-azureml"], ["--set", "azureml=false"])
    ]
    assert told == [True, False, False]


def test_a_dry_run_in_json_holds_plan_and_script(home: Path) -> None:
    words = ["submit", "--dry-run", "--json", "--site", "slurm", "proj/train.py"]
    answer = json.loads(hpctf(*words, cwd=home).stdout)
    assert answer["plan"]["entry"]["command"][1:] == ["train.py"]
    assert answer["plan"]["run_id"] in answer["script"]


def test_words_after_the_dashes_are_the_scripts_own(home: Path) -> None:
    nasty = ["--nodes", "7", "a b", 'it\'s "x"', "two\nlines", "", "-h", "ü", "caf\udce9"]
    plan = dry(home, "proj/train.py", "--", *nasty)
    assert plan["entry"]["command"][2:] == nasty
    assert plan["components"][0]["nodes"] == 1


@pytest.mark.parametrize("name", ['it\'s "mine".py', "two\nlines.py", "-c.py", "caf\udce9.py"])
def test_scripts_may_have_any_name(home: Path, name: str) -> None:
    project(home / "proj", name)
    plan = dry(home, f"proj/{name}")
    assert plan["entry"]["command"][1].removeprefix("./") == name
    assert plan["experiment"].replace("-", "").isalnum()


def test_a_script_may_lie_deeper_in_the_source_folder(home: Path) -> None:
    project(home / "proj", "sub/fit.py")
    for script in ("sub/fit.py", "proj/sub/fit.py", home / "proj/sub/fit.py"):
        plan = dry(home, "--source-dir", "proj", script)
        assert plan["entry"]["command"][1] == "sub/fit.py"


def test_the_source_folder_may_be_reached_from_below(home: Path) -> None:
    project(home / "elsewhere", "other.py")
    for words in (["../proj/train.py"], ["--source-dir", "../proj", "train.py"]):
        done = hpctf("submit", "--dry-run", "--json", *words, cwd=home / "elsewhere")
        assert json.loads(done.stdout)["plan"]["entry"]["command"][1] == "train.py"


def test_options_reach_the_plan(home: Path) -> None:
    words = ["--site", "slurm", "--env", "A=b=c", "--sbatch", "exclusive", "--sbatch", "nice=7"]
    plan = dry(home, *words, "--mem", "4G", "--cpus-per-task", "2", "--time", "10", "proj/train.py")
    options = dict(plan["components"][0]["directives"])
    assert options["exclusive"] == ""
    assert (options["nice"], options["mem"], options["cpus-per-task"]) == ("7", "4G", "2")
    assert (plan["time_limit_s"], plan["entry"]["environment"]) == (600, {"A": "b=c"})


def job(home: Path, text: str, name: str = "jobs/train.yaml") -> str:
    path = home / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return name


def test_a_job_file_says_what_the_options_say(home: Path) -> None:
    text = """
        script: ../proj/train.py
        args: [--epochs, 3, yes, 007, 1e-3, 0.10]
        script_params: {--augment: , --rate: 0.50}
        site: slurm
        experiment: 2026
        backend: ps
        workers: 2
        ps: 1
        ps-placement: shared
        use-gpu: false
        time: 1:30:00
        env: {DEBUG: true, OMP: 04}
        inputs: {me: train.yaml}
        sbatch: {exclusive: true, nice: 7}
    """
    plan = dry(home, job(home, text))
    words = ["--augment", "--rate", "0.50", "--epochs", "3", "yes", "007", "1e-3", "0.10"]
    assert plan["entry"]["command"][2:] == words
    assert plan["entry"]["environment"] == {
        "DEBUG": "true",
        "OMP": "04",
        "HPCTF_INPUT_ME": str(home / "jobs/train.yaml"),
        "AZUREML_DATAREFERENCE_me": str(home / "jobs/train.yaml"),
    }
    assert (plan["experiment"], plan["backend"], plan["time_limit_s"]) == ("2026", "ps", 5400)
    directives = dict(plan["components"][0]["directives"])
    assert (directives["exclusive"], directives["nice"]) == ("", "7")
    assert "gpus-per-node" not in directives


def test_options_go_before_the_job_file(home: Path) -> None:
    file = job(home, "script: ../proj/train.py\nargs: [a]\nmem: 1G\nsite: slurm\n")
    plan = dry(home, "--mem", "2G", file, "--", "b")
    assert ["mem", "2G"] in plan["components"][0]["directives"]
    assert plan["entry"]["command"][2:] == ["b"]


def test_a_job_files_paths_are_seen_from_its_folder(home: Path) -> None:
    (home / "venv/bin").mkdir(parents=True)
    (home / "venv/bin/python").symlink_to(sys.executable)
    (home / "jobs").mkdir()
    (home / "jobs/mine.yaml").write_text("name: mine\n")
    text = "source-dir: ../proj\nscript: train.py\npython: ../venv/bin/python\nsite: mine.yaml\n"
    plan = dry(home, job(home, text))
    assert Path(plan["entry"]["python"]).samefile(home / "venv/bin/python")
    assert plan["entry"]["python"].endswith("venv/bin/python")
    assert (plan["site"], plan["entry"]["command"][1]) == ("mine", "train.py")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scirpt: train.py\n", "there is no key 'scirpt'. Did you mean 'script'?"),
        ("node_count: 2\n", "there is no key 'node_count'."),
        ("script: x.py\ndry-run: true\n", "there is no key 'dry-run'"),
        ("script: x.py\nnodes: two\n", "nodes: 'two' is not a valid integer"),
        ("script: x.py\nnodes: 1.5\n", "nodes: '1.5' is not a valid integer"),
        ("script: x.py\nnodes: [1]\n", "nodes: ['1'] is not a single value"),
        ("script: x.py\nbackend: mip\n", "backend: 'mip' is not one of"),
        ("script: x.py\nuse-gpu: maybe\n", "use-gpu: 'maybe' is not a valid boolean"),
        ("script: x.py\nargs: --epochs 3\n", "args: it must be a list, not '--epochs 3'"),
        ("script: x.py\nargs: [[a]]\n", "args: ['a'] is not a single value"),
        ("script: x.py\nenv: [A=1]\n", "env: it must be a mapping, not ['A=1']"),
        ("script: x.py\nscript_params: 5\n", "script_params: it must be a mapping"),
        ("script: x.py\npip: keras\n", "pip: it must be a list"),
        ("nodes: 2\n", "No script is named."),
        ("- a\n", "a job file is a mapping"),
        ("", "a job file is a mapping"),
        ("a: [\n", "is not YAML"),
        ("script: !!python/object:os.system x\n", "is not YAML"),
        ("script: gone.py\n", "entry_script 'gone.py' does not exist"),
    ],
)
def test_a_wrong_job_file_is_refused(home: Path, text: str, said: str) -> None:
    assert said in refused(home, "submit", job(home, text))


def test_a_job_file_that_is_not_there_is_refused(home: Path) -> None:
    assert "The job file gone.yaml cannot be read" in refused(home, "submit", "gone.yaml")


def test_looking_at_an_empty_root_is_no_error(home: Path) -> None:
    assert json.loads(hpctf("runs", "--json", cwd=home).stdout) == []
    assert hpctf("runs", cwd=home).stdout.startswith("RUN")
    assert not (home / "runs").exists()


def test_a_prefix_of_several_runs_is_refused_with_their_names(home: Path) -> None:
    for run in ("e_1_a", "e_2_b"):
        (home / "runs/e" / run).mkdir(parents=True)
        (home / "runs/e" / run / "run.json").write_text("{}")
    done = hpctf("status", "e_", cwd=home)
    assert done.returncode == USAGE
    assert "2 runs begin with 'e_': e_2_b, e_1_a" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["site", "list"],
        ["site", "show"],
        ["runs", "--json"],
        ["submit", "--dry-run", "proj/train.py"],
    ],
    ids=" ".join,
)
def test_a_reader_that_leaves_early_gets_no_traceback(home: Path, words: list[str]) -> None:
    command = [sys.executable, "-c", "from hpctf.cli import main; main()", *words]
    with subprocess.Popen(
        command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.close()
        said = child.stderr.read()
    assert "Traceback" not in said and "Exception ignored" not in said


def test_a_refused_submission_takes_away_what_it_made_and_nothing_else(home: Path) -> None:
    refusing = home / "bin" / "sbatch"
    refusing.parent.mkdir()
    refusing.write_text("#!/bin/sh\necho 'sbatch: error: no' >&2\nexit 1\n")
    refusing.chmod(0o755)
    own = home / "own-root"
    own.mkdir()
    path = f"{refusing.parent}:{os.environ['PATH']}"
    for root, stays in ((own, True), (home / "made" / "by" / "it", False)):
        env = {"PATH": path, "HPCTF_RUNS_ROOT": str(root), "HPCTF_SITE": "slurm"}
        done = hpctf("submit", "proj/train.py", cwd=home, env=env)
        assert done.returncode == SITE and "sbatch refused the job" in done.stderr
        assert root.exists() == stays
    assert not (home / "made").exists()
    assert list(own.iterdir()) == []


def test_options_are_listed_in_groups_with_the_usual_ones_first(home: Path) -> None:
    said = hpctf("submit", "--help", cwd=home).stdout

    assert re.findall(r"^(\w[\w ]*):$", said, re.MULTILINE) == [*GROUPS, "Options"]
    assert re.findall(r"^  (-\w), (--[\w-]+)", said, re.MULTILINE) == [
        ("-b", "--backend"),
        ("-n", "--nodes"),
        ("-g", "--gpus-per-node"),
        ("-t", "--time"),
        ("-h", "--help"),
    ]
    assert "\nResources:\n  -n, --nodes" in said


def test_every_long_list_of_options_is_in_groups() -> None:
    for path, command in leaves():
        options = [one for one in command.params if isinstance(one, click.Option)]
        own = [one for one in options if one.name not in ("site", "as_json")]
        said = command.get_help(click.Context(command, info_name=path[-1]))
        in_a_row = re.split(r"^\w[\w ]*:$", said, flags=re.MULTILINE)
        most = max(len(re.findall(r"^  -", part, re.MULTILINE)) for part in in_a_row)
        assert len(own) <= 8 or most < len(own), (path, said)
        assert most <= 13, (path, said)


def test_short_forms_are_the_same_options(home: Path) -> None:
    long = ["--backend", "mpi", "--nodes", "2", "--gpus-per-node", "1", "--time", "30"]
    short = ["-b", "mpi", "-n", "2", "-g", "1", "-t", "30"]

    first, second = (
        dry(home, "--site", "slurm", *words, "proj/train.py")["components"]
        for words in (long, short)
    )

    assert first == second
    assert ["gpus-per-node", "1"] in first[0]["directives"]
