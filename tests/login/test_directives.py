"""The ``#SBATCH`` options of a component: who has the last word, and what no line can carry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpctf import UsageError
from hpctf.sbatch import NOT_DROPPED, OURS, seconds_of, time_text
from hpctf.site.model import Site, Target

from .helpers import CLUSTER_SITE as RICH
from .helpers import options, planned, project, site_of


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return project(tmp_path / "proj")


def test_what_a_person_asks_goes_before_what_the_target_says(source: Path) -> None:
    asked = {"cpus_per_task": 3, "mem": "9G", "max_run_duration_seconds": 90}
    theirs = planned(source, RICH, compute_target="cpu", **asked).plan
    said = options(theirs)
    assert (said["cpus-per-task"], said["mem"], said["time"]) == ("3", "9G", "0-00:01:30")
    assert (theirs.time_limit_s, theirs.components[0].cpus_per_task) == (90, 3)
    ours = options(planned(source, RICH, compute_target="cpu").plan)
    assert (ours["cpus-per-task"], ours["mem"], ours["time"]) == ("2", "8G", "0-01:30:00")


def test_the_target_over_the_site_over_nothing_each_option_once(source: Path) -> None:
    plan = planned(source, RICH, sbatch={"comment": "mine", "mail_type": "END"}).plan
    assert plan.components[0].directives == (
        ("nodes", "1"),
        ("ntasks-per-node", "1"),
        ("account", "proj-42"),
        ("mail-type", "END"),
        ("cpus-per-task", "8"),
        ("partition", "gpu"),
        ("qos", "normal"),
        ("constraint", "a100&ib"),
        ("exclusive", ""),
        ("comment", "mine"),
        ("time", "1-00:00:00"),
    )


def test_false_takes_an_option_away_and_drop_does_so_for_all(source: Path) -> None:
    said = options(planned(source, RICH, sbatch={"exclusive": False, "mem": "1G"}).plan)
    assert "exclusive" not in said
    assert "mem" not in said  # dropped by the target: the site forbids it


def dropping(*keys: str) -> Site:
    """Return a site that never writes these options."""
    return site_of("slurm", drop=keys)


def test_what_a_person_asks_for_and_the_site_drops_is_told(source: Path) -> None:
    asked: dict[str, Any] = {"mem": "9G", "sbatch": {"exclusive": True}}
    theirs = planned(source, dropping("mem", "time", "exclusive", "qos"), **asked)
    assert theirs.notes == (
        "--sbatch exclusive has no effect: target 'default' never has --exclusive "
        "(drop: [exclusive]).",
        "mem is 9G, which has no effect: target 'default' never has --mem (drop: [mem]).",
    )
    assert planned(source, dropping("mem", "time")).notes == ()


def test_a_time_limit_that_no_script_says_is_no_limit(source: Path) -> None:
    theirs = planned(source, dropping("time"), max_run_duration_seconds=60)
    assert "time" not in options(theirs.plan)
    assert theirs.plan.time_limit_s is None
    assert "max_run_duration_seconds is 60" in theirs.notes[0]


@pytest.mark.parametrize(
    ("key", "asked"),
    [
        ("requeue", {"max_restarts": 2}),
        ("no-requeue", {"max_restarts": 0}),
        ("signal", {"max_restarts": 1}),
        ("signal", {"grace_seconds": 30}),
    ],
)
def test_a_training_that_cannot_do_without_an_option_is_refused_where_it_is_dropped(
    source: Path, key: str, asked: dict[str, int]
) -> None:
    with pytest.raises(UsageError, match=rf"^The site never writes --{key} \(drop: \[{key}\]\)"):
        planned(source, dropping(key), **asked)
    assert key not in options(planned(source, dropping(key)).plan)


@pytest.mark.parametrize("key", sorted(NOT_DROPPED))
def test_a_site_cannot_drop_what_every_job_needs(key: str) -> None:
    with pytest.raises(UsageError, match=f"cannot do without '{key}': {NOT_DROPPED[key]}"):
        dropping(key)
    with pytest.raises(UsageError, match="cannot do without"):
        Target(drop=(key,))


def test_a_gpus_share_of_the_cpus_goes_to_the_tasks_of_the_node(source: Path) -> None:
    site = site_of("marenostrum5-acc")  # 20 CPUs a GPU, or the job waits for ever

    def cpus(**asked: Any) -> str | None:
        return options(planned(source, site, **asked).plan).get("cpus-per-task")

    mpi = {"distributed_backend": "mpi", "node_count": 2, "use_gpu": True}
    assert cpus(use_gpu=True) == "80"
    assert cpus(use_gpu=True, gpus_per_node=1) == "20"
    assert cpus(**mpi, process_count_per_node=4) == "20"
    assert cpus(**mpi, process_count_per_node=3) == "26"
    assert cpus(use_gpu=True, cpus_per_task=7) == "7"
    assert cpus() is None


def test_where_nodes_come_with_their_gpus_none_are_asked_for(source: Path) -> None:
    plan = planned(source, "frontera", use_gpu=True).plan
    assert plan.components[0].gpus_per_node == 4
    assert not any("gpu" in value or "gpu" in key for key, value in options(plan).items())


@pytest.mark.parametrize("key", sorted(OURS))
def test_options_that_hpctf_sets_itself_are_refused_with_what_to_use(
    source: Path, key: str
) -> None:
    for spelling in (key, f"--{key}", key.replace("-", "_")):
        with pytest.raises(UsageError) as caught:
            planned(source, sbatch={spelling: "1"})
        assert str(caught.value) == f"--sbatch {key}: hpctf sets it itself; {OURS[key]}."


@pytest.mark.parametrize(
    "sbatch",
    [
        {"comment": "two\n#SBATCH --uid=0"},
        {"comment": "tab\t"},
        {"comment": "ü"},
        {"comment": "\x7f"},
        {"comment": "x" * 1001},
        {"N 2": ""},
        {"": "x"},
        {"Partition": "x"},
        {"p=1": "x"},
    ],
)
def test_what_no_sbatch_line_can_carry_is_refused(source: Path, sbatch: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        planned(source, sbatch=sbatch)


def test_memory_cannot_smuggle_a_line_in(source: Path) -> None:
    with pytest.raises(UsageError, match="#SBATCH line"):
        planned(source, mem="1G\n#SBATCH --uid=0")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("0", 0),
        ("30:15", 1815),
        ("01:30:00", 5400),
        ("100:00:00", 360000),
        ("2-0", 172800),
        ("2-03", 183600),
        ("1-02:30", 95400),
        ("1-02:30:07", 95407),
        (" 5 ", 300),
    ],
)
def test_every_time_notation_of_sbatch_is_read(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1h", "-5", "1-", "1:2:3:4", "1-2:3:4:5", "1.5", "1 0", ":30", "infinite", "٣x"]
)
def test_other_times_are_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match=r"01:30:00") as caught:
        seconds_of(text)
    assert repr(text) in str(caught.value)


@given(st.integers(0, 10**8))
def test_a_written_time_reads_as_itself(seconds: int) -> None:
    assert seconds_of(time_text(seconds)) == seconds
