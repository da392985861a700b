"""The ``#SBATCH`` options of a component: who has the last word, and what no line can carry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpctf import UsageError
from hpctf.cli.training_options import asked_of
from hpctf.common.units import seconds_of, time_text
from hpctf.scheduler.sbatch_options import FLAGS, NEED_VALUES, NOT_DROPPED, OPTIONAL, OURS
from hpctf.site.model import Site, Target
from tests.support.manual_pages import manual_page
from tests.support.projects import CLUSTER_SITE as RICH
from tests.support.projects import options, planned, project, site_of


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


def test_what_this_machine_cannot_grant_is_told(source: Path) -> None:
    asked: dict[str, Any] = {"mem": "9G", "cpus_per_task": 4, "sbatch": {"exclusive": True}}
    theirs = planned(source, site_of("local"), max_run_duration_seconds=60, **asked)
    assert theirs.notes == tuple(
        f"{what} has no effect: the run is on this machine, not in a Slurm job."
        for what in ("A number of CPUs", "An amount of memory", "--sbatch exclusive")
    )
    assert theirs.plan.time_limit_s == 60


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
    "text", ["", "1h", "-5", "1-", "1:2:3:4", "1-2:3:4:5", "1.5", "1 0", ":30", "infinit", "٣x"]
)
def test_other_times_are_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match=r"01:30:00") as caught:
        seconds_of(text)
    assert repr(text) in str(caught.value)


@given(st.integers(0, 10**8))
def test_a_written_time_reads_as_itself(seconds: int) -> None:
    assert seconds_of(time_text(seconds)) == seconds


def manual() -> dict[str, bool | None]:
    """sbatch's options by sbatch(1): whether each takes a value; None if it may."""
    option = r"^\.TP\n(?:-\w, *)?--([a-z-]+)(\[=|=|,|$| *\n)"
    found = re.findall(option, manual_page("sbatch"), re.MULTILINE)
    return {name: None if sign == "[=" else sign == "=" for name, sign in found}


def test_hpctf_knows_which_options_of_sbatch_take_values() -> None:
    known = manual()
    assert {"requeue", "mem", "exclusive"} <= set(known)
    nobodys = {"help", "usage", "version"}
    for name, takes in known.items():
        if name not in {*OURS, *nobodys}:
            told = {True: NEED_VALUES, False: FLAGS, None: " ".join(OPTIONAL)}[takes].split()
            assert name in told, name


WORDS: list[tuple[str, object, object]] = [
    *(("requeue", word, "") for word in (True, "true", "TRUE", "yes", "on", "1", 1)),
    *(("requeue", word, None) for word in (False, "false", "False", "no", "off", "0", 0)),
    *(("mem", word, None) for word in (False, "false", "FALSE")),
    ("mem", 0, "0"),
    ("nice", "0", "0"),
    ("nice", True, ""),
    ("exclusive", "user", "user"),
    ("exclusive", "true", ""),
    ("exclusive", "false", None),
    ("no-kill", "off", "off"),
    ("kill-on-invalid-dep", "no", "no"),
    ("kill-on-invalid-dep", False, "no"),
    ("kill-on-invalid-dep", "yes", "yes"),
]


@pytest.mark.parametrize(("key", "said", "made"), WORDS)
def test_true_and_false_mean_the_same_wherever_they_stand(
    source: Path, key: str, said: object, made: object
) -> None:
    site = site_of("slurm", directives={key: said})
    assert options(planned(source, site).plan).get(key) == made
    assert options(planned(source, "slurm", sbatch={key: said}).plan).get(key) == made
    if isinstance(said, str):
        asked = asked_of({"sbatch": [f"{key}={said}"]})
        assert options(planned(source, "slurm", **asked).plan).get(key) == made


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("requeue", "maybe", "takes no value, but has 'maybe'"),
        ("mem", True, "has no value"),
        ("mem", "true", "has no value"),
        ("mem-per-c", True, "has no value"),
        ("wait-all-nodes", True, "has no value"),
    ],
)
def test_a_value_that_an_option_has_not_is_refused(
    source: Path, key: str, value: object, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        planned(source, "slurm", sbatch={key: value})


@pytest.mark.parametrize("other", ["mem-per-cpu", "mem-per-gpu", "mem-per-c"])
def test_two_ways_to_ask_for_memory_are_refused_with_the_way_out(source: Path, other: str) -> None:
    with pytest.raises(UsageError, match=f"mem=4G and {other}=1G exclude") as refused:
        planned(source, "slurm", mem="4G", sbatch={other: "1G"})
    assert f"--sbatch mem=false or --sbatch {other}=false" in str(refused.value)
    theirs = site_of("slurm", directives={"mem": "8G"})
    away = planned(source, theirs, sbatch={other: "1G"}).plan
    assert (options(away).get("mem"), options(away)[other]) == (None, "1G")


@pytest.mark.parametrize("word", ["UNLIMITED", "unlimited", "INFINITE", "Infinite", "-1"])
def test_no_time_limit_is_a_time_limit(source: Path, word: str) -> None:
    asked = asked_of({"time": word})
    theirs = planned(source, RICH, compute_target="cpu", **asked).plan
    assert (options(theirs)["time"], theirs.time_limit_s) == ("UNLIMITED", None)
    assert Target(time_limit=word).time_limit == word
    assert planned(source, "local", **asked).plan.time_limit_s is None
