"""Host lists: against `scontrol show hostnames` wherever Slurm has an opinion."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hpctf.errors import ClusterSpecError, HostlistError
from hpctf.placement.hostlist import (
    MAX_HOSTS,
    Host,
    Task,
    expand_counts,
    expand_hostlist,
    placement,
    tasks_from_placement,
)

SLURM_CONF = """\
ClusterName=hostnames
SlurmctldHost=localhost
NodeName=localhost
PartitionName=all Nodes=localhost
"""


class Scontrol:
    """The oracle; it needs a slurm.conf, but no running cluster."""

    def __init__(self, folder: Path) -> None:
        conf = folder / "slurm.conf"
        conf.write_text(SLURM_CONF)
        self.env = {"PATH": os.environ["PATH"], "SLURM_CONF": str(conf)}

    def __call__(self, hostlist: str) -> list[str] | None:
        """Return Slurm's host names, or None where Slurm calls the list invalid."""
        command = ["scontrol", "show", "hostnames", hostlist]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True)
        assert done.returncode in (0, 1), done
        return None if "Invalid hostlist" in done.stderr else done.stdout.splitlines()


@pytest.fixture(scope="session")
def scontrol(tmp_path_factory: pytest.TempPathFactory) -> Scontrol:
    if shutil.which("scontrol") is None:
        reason = "scontrol IS ABSENT: host lists are not checked against Slurm (slurm-client)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return Scontrol(tmp_path_factory.mktemp("slurm"))


@st.composite
def brackets(draw: st.DrawFn) -> str:
    """A bracket such as ``[1,08-12]``, small enough to be multiplied."""
    items = []
    for _ in range(draw(st.integers(1, 3))):
        first, more = draw(st.integers(0, 1200)), draw(st.integers(0, 4))
        width = draw(st.integers(1, 5))
        items.append(f"{first:0{width}d}" + (f"-{first + more:0{width}d}" if more else ""))
    return "[" + ",".join(items) + "]"


NAMES = st.from_regex(r"[a-z][a-z0-9.-]{0,5}", fullmatch=True)
LITERALS = st.from_regex(r"[a-z.-]{0,3}", fullmatch=True)


@st.composite
def groups(draw: st.DrawFn) -> str:
    """A name, or text with one to four brackets in it."""
    text = draw(NAMES)
    for _ in range(draw(st.integers(0, 3))):
        text += draw(brackets()) + draw(LITERALS)
    return text + draw(brackets()) if "[" in text else text


HOSTLISTS = st.lists(groups(), min_size=1, max_size=6).map(",".join)
SCRAPS = st.text(alphabet="n[]0123456789,-x() /\t.", max_size=25)


def has_suffix(hostlist: str) -> bool:
    return re.search(r"\][^\s,[\]]+(?=$|[\s,])", hostlist) is not None


@settings(deadline=None, max_examples=200)
@given(hostlist=HOSTLISTS)
def test_any_hostlist_means_what_slurm_says(scontrol: Scontrol, hostlist: str) -> None:
    assert expand_hostlist(hostlist) == scontrol(hostlist)


@settings(deadline=None, max_examples=400)
@given(scraps=SCRAPS)
def test_scraps_are_refused_or_mean_what_slurm_says(scontrol: Scontrol, scraps: str) -> None:
    assume(not scraps.startswith("-") and not has_suffix(scraps))
    try:
        hosts = expand_hostlist(scraps)
    except HostlistError:
        return
    assert hosts == scontrol(scraps)


@pytest.mark.parametrize(
    "hostlist",
    [
        "",
        " ",
        "n1",
        "n[9-11]",
        "n[1,3-5]",
        "n[001-010]",
        "n[8-10,010]",
        "n[01-3]",
        "n[1-010]",
        "n[099-101]",
        "n[3,1,2,1-2]",
        "n1,n1",
        "n[1-2],",
        ",n1,,n2",
        "n[1-2] m1\tm2",
        "[1-3]",
        "n[1-2][3-4]",
        "rack[1-2]n[01-02]",
        "a[1-2]b[1-3]c[1-4]",
        "a[1-2]b[1-2]c[1-2]d[1-2]",
        "gpu-a100-[08-11],login.cluster.local,cpu_[1-2]",
        f"n[0-{MAX_HOSTS - 1}]",
    ],
)
def test_hostlists_met_on_clusters_mean_what_slurm_says(scontrol: Scontrol, hostlist: str) -> None:
    assert expand_hostlist(hostlist) == scontrol(hostlist)


@pytest.mark.parametrize(
    "hostlist",
    [
        "n[3-1]",
        "n[[1-2]]",
        "n[0-10/2]",
        "n[]",
        "n[,]",
        "n[1,]",
        "n[-1]",
        "n[a-b]",
        "n[1--2]",
        "n[1-2-3]",
        "n[0x1]",
        "n[1-2]]",
        "n[0-65536]",
        "n[0-999999999]",
    ],
)
def test_what_slurm_calls_invalid_is_refused(scontrol: Scontrol, hostlist: str) -> None:
    # Slurm 24.11 takes some of them, but makes names of them that no host can have.
    assert not [name for name in scontrol(hostlist) or () if not set(name) & set("[]")]
    with pytest.raises(HostlistError):
        expand_hostlist(hostlist)


def test_hosts_come_in_rank_order_not_in_text_order() -> None:
    assert expand_hostlist("n[9-11]") == ["n9", "n10", "n11"]


def test_names_may_go_on_after_the_last_bracket(scontrol: Scontrol) -> None:
    assert expand_hostlist("n[1-2]-ib") == ["n1-ib", "n2-ib"]
    assert scontrol("n[1-2]-ib") in (None, ["n1-ib", "n2-ib"]), "Slurm 22.05 has no suffixes"
    assert expand_hostlist("n[1-2].cluster.local,m") == [
        "n1.cluster.local",
        "n2.cluster.local",
        "m",
    ]
    assert expand_hostlist("r[1-2]n[1-2]-ib") == ["r1n1-ib", "r1n2-ib", "r2n1-ib", "r2n2-ib"]


@given(names=st.lists(NAMES, max_size=20))
def test_plain_names_come_back_as_they_are(names: list[str]) -> None:
    assert expand_hostlist(",".join(names)) == names


@given(first=st.integers(0, 10**9), count=st.integers(1, 50), width=st.integers(1, 12))
def test_a_range_is_its_numbers_padded_to_its_first(first: int, count: int, width: int) -> None:
    last = first + count - 1
    expected = [f"n{number:0{width}d}" for number in range(first, last + 1)]
    assert expand_hostlist(f"n[{first:0{width}d}-{last}]") == expected


@settings(deadline=None)
@given(text=st.one_of(st.text(), SCRAPS))
def test_no_text_raises_anything_but_hostlist_error(text: str) -> None:
    for read in (expand_hostlist, expand_counts, lambda both: placement(both, both)):
        try:
            read(text)
        except HostlistError as error:
            assert error.hint, "every refusal says what to do"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("n[0-999999999]", "stands for more than 65,536 hosts"),
        ("a[1-256]b[1-257]", "stands for more than 65,536 hosts"),
        ("n" + "[0-65535]" * 5000, "stands for more than 65,536 hosts"),
        (",".join(["n[0-65535]"] * 5000), "stands for more than 65,536 hosts"),
        ("n[" + "0-65535," * 5000 + "1]", "stands for more than 65,536 hosts"),
        ("n[" + "9" * 5000 + "]", "cannot read 'n[9999"),
        ("n[" + "0" * 5000 + "1-3]", "cannot read 'n[0000"),
        ("n" * 256, "cannot read 'nnnn"),
        ("n" * 200 + "[1]" * 100, "cannot read 'nnnn"),
        ("ok,n[1-2", "'ok,n[1-2' is not one that Slurm writes: cannot read 'n[1-2'"),
        ("n1]", "cannot read 'n1]'"),
        ("n[[1-2]]", "cannot read 'n[[1-2]]'"),
        ("a b n{1,2}", "cannot read 'n{1,2}'"),
        ("né", "cannot read 'né'"),
        ("n[٣]", "cannot read 'n[٣]'"),
        ("n[1-]", "cannot read 'n[1-]'"),
        ("n[1-2,12-3]", "cannot read '12-3'"),
        ("(null)", "cannot read '(null)'"),
        ("n" * 100_000 + "!", "cannot read 'nnnn"),
    ],
)
def test_refusals_name_the_text_and_the_rule(text: str, says: str) -> None:
    with pytest.raises(HostlistError, match=re.escape(says)) as refusal:
        expand_hostlist(text)
    assert len(str(refusal.value)) < 500, "however long the text"


def test_counts_are_repeated_as_often_as_slurm_says() -> None:
    assert expand_counts("2(x3),1") == [2, 2, 2, 1]
    assert expand_counts("4") == [4]


@given(counts=st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), min_size=1, max_size=9))
def test_counts_come_back_as_they_were_written(counts: list[tuple[int, int]]) -> None:
    text = ",".join(f"{count}(x{hosts})" if hosts > 1 else f"{count}" for count, hosts in counts)
    assert expand_counts(text) == [count for count, hosts in counts for _ in range(hosts)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is not COUNT or COUNT(xHOSTS)"),
        ("2(x3", "'2(x3' is not COUNT or COUNT(xHOSTS)"),
        ("2x3", "'2x3' is not COUNT"),
        ("1,,2", "'' is not COUNT"),
        ("-1", "'-1' is not COUNT"),
        ("2(x0)", "'2(x0)' is not COUNT or COUNT(xHOSTS)"),
        ("1(x65537)", "stands for more than 65,536 hosts"),
    ],
)
def test_malformed_counts_are_refused(text: str, says: str) -> None:
    with pytest.raises(HostlistError, match=re.escape(says)):
        expand_counts(text)


def test_placement_pairs_hosts_with_their_tasks() -> None:
    hosts = placement("n[9-11]", "2(x2),1")
    assert hosts == [Host("n9", 2), Host("n10", 2), Host("n11", 1)]
    assert hosts[2].name == "n11"
    assert hosts[2].slots == 1


@pytest.mark.parametrize(("counts", "number"), [("2", 1), ("2(x4)", 4)])
def test_placement_refuses_lengths_that_differ(counts: str, number: int) -> None:
    with pytest.raises(HostlistError) as refusal:
        placement("n[1-3]", counts)
    assert f"host list 'n[1-3]' has 3 hosts, but task counts '{counts}' are for {number}" in str(
        refusal.value
    )


@pytest.mark.parametrize(
    ("distribution", "plane_size", "hosts_by_rank"),
    [
        ("block", None, "a a a b c c"),
        ("*", None, "a a a b c c"),
        ("block:cyclic", None, "a a a b c c"),
        ("block:block,Pack", None, "a a a b c c"),
        ("cyclic", None, "a b c a c a"),
        ("cyclic:fcyclic:fcyclic", None, "a b c a c a"),
        ("plane", 2, "a a b c c a"),
        ("plane=2", None, "a a b c c a"),
        ("plane=1", 9, "a b c a c a"),
    ],
)
def test_ranks_are_dealt_out_as_slurm_does(
    distribution: str, plane_size: int | None, hosts_by_rank: str
) -> None:
    hosts = [Host("a", 3), Host("b", 1), Host("idle", 0), Host("c", 2)]
    tasks = tasks_from_placement(hosts, distribution, plane_size)
    assert " ".join(task.host for task in tasks) == hosts_by_rank
    assert [task.rank for task in tasks] == list(range(6))
    assert [task.local_rank for task in tasks if task.host == "a"] == [0, 1, 2]


@pytest.mark.parametrize("distribution", ["arbitrary", "unknown", "plane", "plane=0", "plane=²"])
def test_other_distributions_are_refused(distribution: str) -> None:
    with pytest.raises(ClusterSpecError, match=f"distribution '{distribution}'"):
        tasks_from_placement([Host("a", 1)], distribution)


@given(
    slots=st.lists(st.integers(0, 20), max_size=20),
    distribution=st.sampled_from(["block", "cyclic", "plane=3"]),
)
def test_every_slot_gets_one_task_whatever_the_distribution(
    slots: list[int], distribution: str
) -> None:
    hosts = [Host(f"n{number}", count) for number, count in enumerate(slots)]
    tasks = tasks_from_placement(hosts, distribution)
    assert [task.rank for task in tasks] == list(range(sum(slots)))
    assert {(task.host, task.local_rank) for task in tasks} == {
        (host.name, local_rank) for host in hosts for local_rank in range(host.slots)
    }


def test_no_hosts_have_no_tasks() -> None:
    assert tasks_from_placement([]) == []
    assert tasks_from_placement([Host("a", 1)]) == [Task(rank=0, host="a", local_rank=0)]
