"""The first site file: what is chosen on clusters of many kinds, and what is said to be missing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpctf.admin.site_init.draft import draft
from hpctf.admin.site_init.init import init_site
from hpctf.admin.site_init.partitions import draft_targets
from hpctf.admin.site_init.storage import Place, find_place
from hpctf.admin.site_init.yaml_text import Draft, Line, Missing, text_of
from hpctf.admin.survey.inventory import (
    parse_associations,
    parse_clusters,
    parse_config,
    parse_nodes,
    parse_partitions,
)
from hpctf.admin.survey.login_node import Interface, Modules, Mpi
from hpctf.admin.survey.probe import Probe
from hpctf.errors import SchedulerError, UsageError
from hpctf.site.loading import load_site
from tests.admin.survey.test_probe import RECORDED

PLACE = Place("~/hpctf-runs", "~/envs", "home", shared=True)

CONFIG = """ClusterName = alpha
SLURM_VERSION = 23.11.4
SelectType = select/cons_tres
SchedulerType = sched/backfill
DefMemPerCPU = 920
MpiDefault = none
"""

PARTITIONS = parse_partitions((RECORDED / "puhti-partitions.txt").read_text())

NODES = parse_nodes(
    "small|idle|600|40|190000|2:20:1|(null)|(null)\n"
    "small|idle|54|40|382000|2:20:1|(null)|nvme:3600\n"
    "large|idle|654|40|190000|2:20:1|(null)|(null)\n"
    "gpu|mixed|78|80|382000|2:20:2|(null)|gpu:v100:4(S:0-1),nvme:3600\n"
    "interactive_mahti|idle|6|256|240000|8:16:2|(null)|gpu:a100:4\n"
    "interactive_mahti|idle|2|256|240000|8:16:2|(null)|gpu:a100:2,gpu:a100_3g.20gb:4\n"
)

ALPHA = Probe(
    user="ann",
    config=parse_config(CONFIG),
    partitions=PARTITIONS,
    nodes=NODES,
    mpi_plugins=("pmi2", "pmix"),
)
"""A cluster with Puhti's and Mahti's partitions."""


def drafted(probe: Probe, admin: bool = False) -> tuple[dict[str, Any], str]:
    """Return the site that a probe makes: what its YAML says, and its text."""
    targets = draft_targets(probe, admin)
    text = text_of(draft(probe, "alpha", targets, {}, PLACE, admin=admin))
    says: dict[str, Any] = yaml.safe_load(text)
    return says, text


def test_each_partition_is_a_target_and_each_gpu_type_of_a_mixed_one(tmp_path: Path) -> None:
    says, text = drafted(ALPHA)
    assert says["default_target"] == "small"
    assert list(says["targets"]) == [
        "small",
        "large",
        "gpu",
        "interactive_mahti",
        "interactive_mahti-a100",
        "interactive_mahti-a100_3g.20gb",
    ]
    assert says["targets"]["small"] == {
        "description": "654 nodes, 40 CPUs each",
        "partition": "small",
        "max_nodes": 1,
        "slots": 40,
        "time_limit": "1-00:00:00",
        "gpus": 0,
    }
    gpu = says["targets"]["gpu"]
    assert (gpu["gpus"], gpu["gpu_type"], gpu["gpu_request"]) == (4, "v100", "gpus-per-node")
    assert (gpu["slots"], gpu["cpus_per_gpu"]) == (40, 20), "a process a core; all threads"
    mixed = says["targets"]["interactive_mahti"]
    assert "gpus" not in mixed and "gpu_type" not in mixed
    small = says["targets"]["interactive_mahti-a100_3g.20gb"]
    assert (small["gpus"], small["max_nodes"]) == (4, 1)
    (tmp_path / "alpha.yaml").write_text(text)
    site = load_site(tmp_path / "alpha.yaml")
    assert site.targets["gpu"].gpus == 4 and site.runs_root == "~/hpctf-runs"


def test_every_setting_says_where_it_comes_from() -> None:
    _, text = drafted(ALPHA)
    settings = [line for line in text.splitlines() if ": " in line and not line.startswith("#")]
    assert len(settings) > 40
    assert [line for line in settings if "  # " not in line] == []


def test_little_memory_a_cpu_is_said() -> None:
    _, text = drafted(ALPHA)
    assert "enough memory on small, large, gpu: by default it has 920 MB a CPU" in text


def test_older_slurm_asks_for_gpus_by_gres() -> None:
    config = parse_config(CONFIG.replace("cons_tres", "cons_res"))
    says, _ = drafted(replace(ALPHA, config=config))
    assert says["targets"]["gpu"]["gpu_request"] == "gres"


@pytest.mark.parametrize(
    ("plugins", "mpi", "default", "expected"),
    [
        ("pmi2 pmix", Mpi(), "", ("srun", "pmix")),
        ("pmi2 pmix", Mpi("openmpi", "4.1.4", speaks=("pmi2",)), "", ("srun", "pmi2")),
        ("pmi2 openmpi", Mpi(), "", ("srun", "pmi2")),
        ("pmi2", Mpi("openmpi", "5.0.3", speaks=("pmix",)), "", ("mpirun", None)),
        ("cray_shasta", Mpi(), "cray_shasta", ("srun", "cray_shasta")),
        ("cray_shasta", Mpi(), "", ("mpirun", None)),
        ("", Mpi(), "pmi2", ("srun", "pmi2")),
        ("", Mpi(), "", ("srun", "pmix")),
    ],
)
def test_how_mpi_is_started(
    plugins: str, mpi: Mpi, default: str, expected: tuple[str, str | None]
) -> None:
    config = parse_config(f"{CONFIG}\nX = y\n".replace("= none", f"= {default or 'none'}"))
    probe = replace(ALPHA, mpi_plugins=tuple(plugins.split()), mpi=mpi, config=config)
    says, text = drafted(probe)
    assert (says["mpi"]["launcher"], says["mpi"].get("plugin")) == expected
    assert ("how MPI ranks are started" in text) == (not plugins and not default)


def test_ps_share_nodes_where_het_jobs_would_never_start() -> None:
    config = parse_config(CONFIG.replace("sched/backfill", "sched/builtin"))
    says, text = drafted(replace(ALPHA, config=config))
    assert says["ps"] == {"placement": "shared"} and "only sched/backfill" in text
    assert drafted(ALPHA)[0]["ps"] == {"placement": "hetjob"}


@pytest.mark.parametrize(
    ("config", "ephemeral", "expected"),
    [
        ("", (32768, 60999), {"first": 20000, "last": 29999, "reserved": False}),
        (
            "MpiParams = ports=12000-12999\n",
            (32768, 60999),
            {"first": 20000, "last": 29999, "reserved": True},
        ),
        (
            "MpiParams = ports=20000-25000\n",
            (32768, 60999),
            {"first": 10000, "last": 19999, "reserved": True},
        ),
        (
            "SrunPortRange = 20000-20100\n",
            (15000, 65535),
            {"first": 10000, "last": 14999, "reserved": False},
        ),
    ],
)
def test_ports_are_nobody_elses(
    config: str, ephemeral: tuple[int, int], expected: dict[str, object]
) -> None:
    probe = replace(ALPHA, config=parse_config(CONFIG + config), ephemeral_ports=ephemeral)
    assert drafted(probe)[0]["ports"] == expected


def test_partitions_that_a_person_may_not_use_are_left_out() -> None:
    grex = parse_partitions((RECORDED / "grex-partitions.txt").read_text())
    mine = parse_associations("ann|def-ann|alpha|def-ann||normal|\n")
    probe = replace(ALPHA, partitions=grex, nodes=(), associations=mine)
    says, text = drafted(probe)
    assert list(says["targets"]) == ["skylake", "agro-b"]
    assert "mcordcpu: none of your accounts may use it (AllowAccounts)" in text
    assert list(drafted(probe, admin=True)[0]["targets"]) == ["skylake", "mcordcpu", "agro-b"]


def test_the_account_and_qos_that_a_partition_wants() -> None:
    grex = parse_partitions((RECORDED / "grex-partitions.txt").read_text())
    mine = parse_associations(
        "ann|chem|alpha|chem||long,normal|long\nann|chem|alpha|def-gshamov||normal|\n"
    )
    probe = replace(ALPHA, partitions=grex, nodes=(), associations=mine)
    targets = drafted(probe)[0]["targets"]
    assert targets["mcordcpu"]["account"] == "def-gshamov"
    assert "account" not in targets["skylake"], "the default one does"
    assert targets["skylake"]["qos"] == "normal", "long is not allowed there"
    assert "account" not in drafted(probe, admin=True)[0]["targets"]["mcordcpu"]


@pytest.mark.parametrize(
    ("kind", "accounting", "sensor"),
    [
        ("acct_gather_energy/rapl", "accounting_storage/slurmdbd", "rapl"),
        ("acct_gather_energy/none", "accounting_storage/slurmdbd", None),
        ("acct_gather_energy/of-tomorrow", "accounting_storage/slurmdbd", None),
        ("acct_gather_energy/rapl", "accounting_storage/none", None),
    ],
)
def test_energy_is_measured_where_slurm_does_and_keeps_it(
    kind: str, accounting: str, sensor: str | None
) -> None:
    more = f"AcctGatherEnergyType = {kind}\nAccountingStorageType = {accounting}\n"
    says, _ = drafted(replace(ALPHA, config=parse_config(CONFIG + more)))
    assert says.get("node_energy") == sensor


def test_suggestions_are_comments() -> None:
    probe = replace(
        ALPHA,
        interfaces=(Interface("eth0", True, False), Interface("ib0", True, True)),
        modules=Modules("lmod", ("gcc/12", "openmpi/4.1.4", "cuda/12.2")),
        programs=("singularity",),
    )
    says, text = drafted(probe)
    assert "modules" not in says and "network" not in says
    assert "# modules: [openmpi/4.1.4]" in text and "# modules: [cuda/12.2]" in text
    assert "#   interfaces: [ib0]" in text
    assert says["containers"] == {"runtime": "singularity"}
    uncommented = text.replace("# network:", "network:").replace("#   interfaces", "  interfaces")
    assert yaml.safe_load(uncommented)["network"] == {"interfaces": ["ib0"]}


def test_what_slurm_would_not_say_is_listed_with_the_way_to_it() -> None:
    probe = replace(
        ALPHA,
        config=parse_config(CONFIG + "PrivateData = accounts,jobs\nJobSubmitPlugins = lua\n"),
        unanswered={"sacctmgr show user": "sacctmgr: refused", "sacct": "sacctmgr: refused"},
    )
    targets = draft_targets(probe, False)
    made = draft(probe, "alpha", targets, {"gpu": "Invalid account"}, PLACE, admin=False)
    told = "\n".join(str(one) for one in made.missing)
    assert "what sacctmgr show user, sacct would have said: it failed with: sacctmgr" in told
    assert "PrivateData hides from you: accounts" in told
    assert "JobSubmitPlugins=lua" in told
    assert "whether gpu can be used: sbatch --test-only says: Invalid account" in told


def test_slurm_that_says_nothing_still_makes_a_site(tmp_path: Path) -> None:
    says, text = drafted(Probe(user="ann", unanswered={"sinfo": "no"}))
    assert "partitions that you may use" in text and "targets" not in says
    (tmp_path / "s.yaml").write_text(text)
    assert list(load_site(tmp_path / "s.yaml").targets) == ["default"]


def test_without_scontrol_sinfo_makes_the_targets() -> None:
    says, _ = drafted(replace(ALPHA, partitions=()))
    assert says["targets"]["gpu"]["gpus"] == 4 and says["targets"]["gpu"]["max_nodes"] == 78


def test_words_of_slurm_cannot_leave_their_comment(tmp_path: Path) -> None:
    odd = 'a\nlocked: [x]\r\x85\u2028- "'
    lines = (
        Line(("name",), "s", odd),
        Line(("description",), odd, odd),
        Line(("targets", "a: b", "description"), "yes", odd, active=False),
    )
    text = text_of(Draft(lines, (Missing(odd, odd),), (odd,)))
    assert yaml.safe_load(text) == {"name": "s", "description": odd}


def test_partitions_with_odd_names() -> None:
    names = ("a+b", "a-b", "_x", "b\\c")
    text = "".join(f"PartitionName={name} State=UP TotalNodes=1 TotalCPUs=4\n" for name in names)
    says, text = drafted(replace(ALPHA, partitions=parse_partitions(text), nodes=()))
    found = {name: target["partition"] for name, target in says["targets"].items()}
    assert found == {"a-b": "a+b", "a-b-2": "a-b", "x": "_x"}
    assert "cannot stand on an #SBATCH line" in text


def test_runs_go_to_the_big_file_system(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path} lustre rw 0 0\n")
    scratch = {"SCRATCH": str(tmp_path), "WORK": "/nowhere"}
    mine = find_place(False, scratch, str(mounts))
    assert (mine.runs_root, mine.shared) == (f"{tmp_path}/hpctf-runs", True)
    everybodys = find_place(True, scratch, str(mounts))
    assert everybodys.store == "$SCRATCH/hpctf-environments"
    none = find_place(False, {"SCRATCH": "relative", "WORK": "/nowhere"}, str(tmp_path / "no"))
    assert (none.runs_root, none.shared) == ("~/hpctf-runs", False)


def fake_slurm(folder: Path, **answers: str) -> None:
    """Put stand-ins for Slurm's commands into a folder: what each says."""
    partitions = RECORDED / "puhti-partitions.txt"
    usual = {
        "scontrol": f'[ "$2" = config ] && printf "{CONFIG}" || cat {partitions}',
        "sinfo": "echo 'gpu|idle|78|80|382000|2:20:2|(null)|gpu:v100:4'",
        "srun": "echo pmix",
        "sacctmgr": "exit 1",
        "sacct": "exit 1",
        "sbatch": "exit 0",
        "bash": "exit 0",
    }
    for name, body in {**usual, **answers}.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for Slurm's commands, alone on PATH; the real ones: test_site_init_on_slurm."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "cat").symlink_to("/bin/cat")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_without_slurm_nothing_is_written(slurm: Path, tmp_path: Path) -> None:
    with pytest.raises(SchedulerError, match="no 'scontrol'") as refused:
        init_site(to=tmp_path / "s.yaml")
    assert refused.value.exit_code == 3 and not (tmp_path / "s.yaml").exists()


def test_sbatch_chooses_between_the_forms_of_a_request(slurm: Path, tmp_path: Path) -> None:
    fake_slurm(
        slurm,
        sacctmgr="echo 'ann||alpha|chem||normal|'",
        sbatch='case "$*" in *--account=chem*--gres=*) exit 0;; *--partition=gpu*|*=small*) '
        "echo 'needs an account' >&2; exit 1;; esac",
    )
    made = init_site(to=tmp_path / "s.yaml")
    says = yaml.safe_load(made.text)
    gpu = says["targets"]["gpu"]
    assert (gpu["account"], gpu["gpu_request"]) == ("chem", "gres")
    assert any("whether small can be used" in str(one) for one in made.missing)
    assert yaml.safe_load((tmp_path / "s.yaml").read_text()) == says


def test_other_clusters_of_the_same_slurm_are_targets() -> None:
    from hpctf.admin.site_init.init import _other_clusters

    clusters = parse_clusters("alpha|10.0.0.1|6817\nbeta|10.0.0.2|6817\ngone||0\nsmall|h|1\n")
    targets = draft_targets(ALPHA, False)
    found = _other_clusters(replace(ALPHA, clusters=clusters), targets)
    assert [(one.name, one.get("clusters")) for one in found] == [
        ("beta", "beta"),
        ("cluster-small", "small"),
    ]


def test_a_file_made_meanwhile_is_not_replaced(slurm: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    fake_slurm(slurm, sbatch=f"echo theirs > {path}")
    with pytest.raises(UsageError, match="there already"):
        init_site(to=path)
    assert path.read_text() == "theirs\n"
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.is_file()) == ["s.yaml"]


@pytest.mark.parametrize("name", ["local", "a/b", "", "-x", "ä"])
def test_names_that_no_site_can_have(slurm: Path, name: str) -> None:
    fake_slurm(slurm)
    with pytest.raises(UsageError):
        init_site(name)


def test_a_folder_is_no_file(slurm: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        init_site("x", to=tmp_path)


def test_from_a_folder_that_has_been_removed(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_slurm(slurm)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert init_site(write=False).path is None
    os.chdir(tmp_path)
