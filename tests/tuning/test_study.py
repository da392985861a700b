"""A study's documents, its batch script, and what it refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, HyperDriveConfig, TensorFlow
from hpctf.agents.peers import LOST_S, Peers
from hpctf.agents.supervisor import cpus_of_slot, gpus_of_slot
from hpctf.errors import UnreadableRun, UsageError
from hpctf.run_folder.layout import STUDY, TRIALS, RunFolder, find_run
from hpctf.submission.script import render_agents
from hpctf.tuning.expressions import choice, uniform
from hpctf.tuning.policies import BanditPolicy
from hpctf.tuning.sampling import (
    BayesianParameterSampling,
    GridParameterSampling,
    RandomParameterSampling,
    SearchSampling,
    parse_sampling,
    sampling_from_record,
)
from hpctf.tuning.study import Study, arguments_of, write_study
from hpctf.tuning.submit import (
    ONE_A_JOB,
    Packing,
    adapted,
    define,
    estimator_of,
    for_agents,
    gpus_of,
    jobs_of,
    runner_of,
)
from tests.conftest import ROOT, skip_or_fail
from tests.support.projects import CLUSTER_SITE, PACKAGED, hpctf, planned, project, site_of

SPACE = {"lr": uniform(0, 1), "optimizer": choice("adam", "sgd")}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return project(tmp_path / "proj")


def config(source: Path, **more: Any) -> HyperDriveConfig:
    estimator = more.pop("estimator", None) or TensorFlow(source, entry_script="train.py")
    settings = {
        "hyperparameter_sampling": RandomParameterSampling(SPACE),
        "primary_metric_name": "acc",
        "primary_metric_goal": "maximize",
        "max_total_runs": 6,
        **more,
    }
    return HyperDriveConfig(estimator=estimator, **settings)


def study_in(folder: Path, source: Path, **more: Any) -> Study:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    definition, drawn = define(config(source, **more), seed=7)
    write_study(RunFolder(folder), definition, drawn)
    return Study(RunFolder(folder))


def test_a_study_is_read_as_it_was_written(tmp_path: Path, source: Path) -> None:
    policy = BanditPolicy(2, slack_factor=0.1)
    study = study_in(tmp_path / "e/s_1_ab", source, policy=policy, trial_timeout=60)
    definition = study.definition
    assert (definition.metric, definition.total, definition.trial_timeout_s) == ("acc", 6, 60)
    assert definition.early_termination == policy
    assert definition.parameter_sampling == RandomParameterSampling(SPACE)
    assert len(study.drawn) == 6
    assert study.parameters_of(3) == RandomParameterSampling(SPACE).first_trials(7, 4)[3]


def test_the_same_seed_gives_the_same_trials(source: Path) -> None:
    first, again = define(config(source), 7)[1], define(config(source), 7)[1]
    assert first == again != define(config(source), 8)[1]
    longer = define(config(source, max_total_runs=9), 7)[1]
    assert first is not None and longer is not None and longer[:6] == first


def test_a_grid_ends_with_its_combinations(source: Path) -> None:
    space = {"a": choice(1, 2), "b": choice("x", "y")}
    definition, drawn = define(
        config(source, hyperparameter_sampling=GridParameterSampling(space)), 0
    )
    assert drawn is not None and len(drawn) == definition.total == definition.parallel == 4


def test_a_search_draws_nothing_ahead(source: Path) -> None:
    definition, drawn = define(
        config(source, hyperparameter_sampling=parse_sampling("tpe:n_startup_trials=3", SPACE)), 0
    )
    assert drawn is None
    again = sampling_from_record(asdict(definition)["sampling"])
    assert again == SearchSampling(SPACE, {"sampler": "tpe:n_startup_trials=3"})
    assert again.search_sampler == "tpe:n_startup_trials=3"


def test_samplers_have_words() -> None:
    assert parse_sampling("random", SPACE) == RandomParameterSampling(SPACE)
    assert parse_sampling("sobol", SPACE) == RandomParameterSampling(SPACE, {"rule": "sobol"})
    assert parse_sampling("Bayesian", SPACE) == BayesianParameterSampling(SPACE)
    assert BayesianParameterSampling(SPACE).search_sampler == "tpe"
    with pytest.raises(UsageError, match="--sampler 'tpo' is unknown"):
        parse_sampling("tpo", SPACE)


def test_parameters_become_options() -> None:
    parameters = {"lr": 0.1, "--units": [64, 32], "flag": True, "name": "a b"}
    words = ["--lr", "0.1", "--units", "[64, 32]", "--flag", "True", "--name", "a b"]
    assert arguments_of(parameters) == words


def test_a_damaged_definition_is_told(tmp_path: Path, source: Path) -> None:
    study = study_in(tmp_path / "e/s_1_ab", source)
    path = study.folder.path / STUDY
    path.write_text(path.read_text().replace('"total": 6', '"total": "six"'))
    with pytest.raises(UnreadableRun, match=r"study\.json.*total"):
        Study(study.folder)
    path.write_text("{")
    with pytest.raises(UnreadableRun, match=r"study\.json"):
        Study(study.folder)
    path.unlink()
    with pytest.raises(UsageError, match="is not a study"):
        Study(study.folder)


def test_a_trial_is_found_by_its_id_and_knows_its_study(tmp_path: Path, source: Path) -> None:
    study = study_in(tmp_path / "runs/e/s_1_ab", source)
    trial = study.trial(3)
    trial.path.mkdir(parents=True)
    trial.record_file.write_text("{}")
    found = find_run(tmp_path / "runs", "s_1_ab_3")
    assert found == trial
    assert found.study == study.folder
    assert (found.experiment, found.root) == ("e", tmp_path / "runs")
    assert find_run(tmp_path / "runs", "s_1_ab") == study.folder


def test_an_experiment_may_be_called_trials(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / TRIALS / "r_1_ab")
    assert (folder.study, folder.experiment, folder.root) == (None, TRIALS, tmp_path)


MPI = {"node_count": 2, "distributed_backend": "mpi"}


@pytest.mark.parametrize(
    ("asked", "packing", "job_per_trial", "runner"),
    [
        ({}, ONE_A_JOB, None, "agents"),
        ({}, Packing(4), None, "agents"),
        ({}, ONE_A_JOB, True, "driver"),
        (MPI, ONE_A_JOB, None, "driver"),
        ({"distributed_backend": "ps", "node_count": 2}, ONE_A_JOB, None, "driver"),
        ({"distributed_backend": "collective", "node_count": 2}, ONE_A_JOB, None, "driver"),
    ],
)
def test_trials_of_several_processes_are_jobs(
    source: Path, asked: Any, packing: Packing, job_per_trial: bool | None, runner: str
) -> None:
    estimator = TensorFlow(source, entry_script="train.py", **asked)
    assert runner_of(estimator, site_of(CLUSTER_SITE), packing, job_per_trial) == runner


@pytest.mark.parametrize(
    ("asked", "packing", "job_per_trial", "drop", "words"),
    [
        (MPI, ONE_A_JOB, False, (), "of one process"),
        (MPI, Packing(2), None, (), "per_node=2 asks for several"),
        ({}, Packing(per_gpu=1), True, (), "per_gpu=1 asks for several"),
        ({}, ONE_A_JOB, None, ("array",), "no job arrays"),
    ],
)
def test_who_runs_trials_must_be_able_to(
    source: Path, asked: Any, packing: Packing, job_per_trial: Any, drop: Any, words: str
) -> None:
    estimator = TensorFlow(source, entry_script="train.py", **asked)
    with pytest.raises(UsageError, match=words):
        runner_of(estimator, replace(site_of(CLUSTER_SITE), drop=drop), packing, job_per_trial)


def test_trials_share_the_gpus_of_a_job(source: Path) -> None:
    gpus = gpus_of(planned(source, CLUSTER_SITE, use_gpu=True))
    count = Packing(per_gpu=3).per_job(gpus)
    assert (gpus, count) == (4, 12)
    env = {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    shown = [gpus_of_slot(env, slot, count)["CUDA_VISIBLE_DEVICES"] for slot in range(count)]
    assert shown == [device for device in "0123" for _ in range(3)]


@pytest.mark.parametrize(
    ("per_node", "per_gpu", "gpus", "words"),
    [
        (1, 2, 0, "has no GPUs"),
        (2, 2, 4, "each says how many"),
        (0, None, 4, "per_node is 0, but must be"),
        (1, 129, 4, "per_gpu is 129, but must be"),
        (1, "2", 4, "per_gpu is '2', but must be"),
    ],
)
def test_trials_that_cannot_share_a_job_are_refused(
    per_node: Any, per_gpu: Any, gpus: int, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        Packing(per_node, per_gpu).per_job(gpus)


def test_a_driver_is_a_small_job_that_slurm_may_start_again(source: Path) -> None:
    definition, _ = define(config(source), 0, runner="driver")
    options = {"account": "mine", "begin": "now+1hour", "licenses": "matlab:1"}
    asked = {**MPI, "use_gpu": True, "mem": "60G", "max_restarts": 0, "sbatch": options}
    estimator = TensorFlow(source, entry_script="train.py", **asked)
    found = planned(source, CLUSTER_SITE, **asked)
    made, of_trial = adapted(found, site_of(CLUSTER_SITE), estimator, definition)
    lines = set(render_agents(made.plan, jobs_of(definition)).splitlines())
    wanted = {"nodes=1", "ntasks-per-node=1", "cpus-per-task=1", "requeue"}
    wanted |= {"account=mine", "begin=now+1hour"}
    assert {f"#SBATCH --{option}" for option in wanted} <= lines
    for absent in ("gres", "array", "licenses", "60G", "exclusive"):
        assert not [line for line in lines if line.startswith("#SBATCH") and absent in line]
    assert made.plan.ranks() == [("worker", 0)]

    assert of_trial is not None
    kept = dict(of_trial.components[0].directives)
    assert kept["licenses"] == "matlab:1" and kept["nodes"] == "2" and "no-requeue" in kept
    assert "begin" not in kept, "it would hold each trial back for an hour"


def test_a_function_is_refused(source: Path) -> None:
    with pytest.raises(UsageError, match="function"):
        estimator_of(config(source, estimator=TensorFlow(function=len)), site_of(CLUSTER_SITE))


def test_a_study_needs_slurm(source: Path, tmp_path: Path) -> None:
    experiment = Experiment("e", site="local", runs_root=tmp_path / "runs")
    with pytest.raises(UsageError, match="has no Slurm"):
        experiment.submit(config(source))
    assert not (tmp_path / "runs").exists()


def test_agents_are_one_array_of_jobs_that_slurm_may_start_again(source: Path) -> None:
    definition, _ = define(config(source, max_concurrent_runs=5), 0, per_job=2)
    site = site_of(CLUSTER_SITE)
    jobs = jobs_of(definition)
    plan = for_agents(planned(source, CLUSTER_SITE), site, definition, jobs).plan
    script = render_agents(plan, jobs)
    assert "#SBATCH --array=0-2\n" in script
    assert "#SBATCH --requeue\n" in script
    assert "#SBATCH --signal=B:USR2@" in script
    assert "srun" not in script
    assert plan.tasks == 6


@pytest.mark.parametrize("site", [*(name for name in PACKAGED if name != "local"), CLUSTER_SITE])
def test_bash_and_shellcheck_find_nothing_in_the_agents_script(
    source: Path, tmp_path: Path, site: str | Path
) -> None:
    definition, _ = define(config(source), 0)
    found = planned(source, site, use_gpu=site not in ("slurm", "slurm-mpirun"))
    path = tmp_path / "job.sbatch"
    path.write_text(render_agents(for_agents(found, site_of(site), definition, 6).plan, 6))
    subprocess.run(["bash", "-n", path], check=True)
    if shutil.which("shellcheck") is None:
        skip_or_fail("shellcheck is not installed")
    done = subprocess.run(["shellcheck", "-s", "bash", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("cpus", "count", "shares"),
    [
        ([0, 1, 2, 3], 2, [[0, 1], [2, 3]]),
        ([4, 5, 6], 2, [[4], [5]]),
        ([4], 2, [[4], [4]]),
        ([4, 5], 1, [[4, 5]]),
    ],
)
def test_slots_share_cpus(cpus: list[int], count: int, shares: list[list[int]]) -> None:
    assert [cpus_of_slot(cpus, slot, count) for slot in range(count)] == shares


@pytest.mark.parametrize(
    ("devices", "count", "shares"),
    [
        ("0,1,2,3", 2, ["0,1", "2,3"]),
        ("0,1", 4, ["0", "0", "1", "1"]),
        ("3", 3, ["3", "3", "3"]),
    ],
)
def test_slots_share_gpus(devices: str, count: int, shares: list[str]) -> None:
    env = {"CUDA_VISIBLE_DEVICES": devices}
    found = [gpus_of_slot(env, slot, count) for slot in range(count)]
    assert found == [{"CUDA_VISIBLE_DEVICES": share} for share in shares]


def test_without_gpus_slots_see_what_there_is() -> None:
    assert gpus_of_slot({}, 0, 2) == {}
    assert gpus_of_slot({"CUDA_VISIBLE_DEVICES": "0,1"}, 0, 1) == {}


@pytest.fixture
def study(tmp_path: Path, source: Path) -> Study:
    made = study_in(tmp_path / "e/s_1_ab", source)
    made.folder.state.mkdir()
    return made


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_agent_is_lost_once_its_stamp_stands_still(study: Study) -> None:
    stamp, clock = study.heartbeat_file(1), Clock()
    stamp.touch()
    peers = Peers(study.heartbeat_file, clock)
    assert not peers.is_lost(1), "nobody has looked yet"
    for _ in range(5):
        clock.now += LOST_S / 5
        assert not peers.is_lost(1)
    clock.now += 0.1
    assert peers.is_lost(1)
    os.utime(stamp, (7, 7))
    assert not peers.is_lost(1)


def test_who_could_not_look_calls_nobody_lost(study: Study) -> None:
    """What held this agent up, a file server or the ledger's lock, held up the others, too."""
    clock = Clock()
    study.heartbeat_file(1).touch()
    peers = Peers(study.heartbeat_file, clock)
    peers.look([1])
    clock.now += 10 * LOST_S
    assert not peers.is_lost(1)


def test_an_agent_whose_file_was_never_made_is_lost_as_well(study: Study) -> None:
    clock = Clock()
    peers = Peers(study.heartbeat_file, clock)
    for _ in range(5):
        assert not peers.is_lost(1)
        clock.now += LOST_S / 4
    assert peers.is_lost(1)


def test_the_examples_study_can_be_submitted(tmp_path: Path) -> None:
    digits = ROOT / "examples/digits"
    done = hpctf(
        *("tune", "--site", "slurm", "--python", sys.executable, "--space", digits / "space.yaml"),
        *("--metric", "held_out_accuracy", "--trials", "16", "--parallel", "4", "--dry-run"),
        *("--env", "HPCTF_ALLOW_MISSING_MODULES=1"),
        digits / "single.py",
        cwd=tmp_path,
        env={"HPCTF_RUNS_ROOT": str(tmp_path / "runs")},
    )
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --array=0-3\n" in done.stdout
