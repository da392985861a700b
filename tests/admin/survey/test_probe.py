"""What Slurm says of itself is understood, in the forms that several versions give it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hpctf.admin.survey import login_node
from hpctf.admin.survey.inventory import (
    Association,
    Gres,
    parse_associations,
    parse_clusters,
    parse_config,
    parse_gres,
    parse_mpi_list,
    parse_nodes,
    parse_partitions,
)
from hpctf.admin.survey.probe import Probe, probe
from hpctf.errors import SchedulerError
from tests.conftest import ROOT, skip_or_fail
from tests.support.waiting import HANGS_S

RECORDED = ROOT / "tests/support/recorded"


def test_partitions_of_puhti() -> None:
    small, large, gpu, mahti = parse_partitions((RECORDED / "puhti-partitions.txt").read_text())
    assert small.default and small.up and small.max_nodes == 1 and small.max_time == "3-00:00:00"
    assert (large.name, large.max_nodes, large.qos) == ("large", 26, "accrue_large")
    assert (gpu.total_nodes, gpu.total_cpus, gpu.default) == (78, 3120, False)
    assert gpu.def_mem_per_cpu is None
    assert mahti.def_mem_per_cpu == 1875


def test_partitions_of_grex() -> None:
    skylake, bought, free = parse_partitions((RECORDED / "grex-partitions.txt").read_text())
    assert skylake.max_nodes is None and skylake.default_time == "03:00:00"
    assert skylake.allow_accounts == () and skylake.allow_qos == ("normal", "high")
    assert bought.allow_accounts == ("def-cordeiro", "def-gshamov", "def-kerrache")
    assert bought.allows("def-gshamov") and not bought.allows("def-other")
    assert free.preempt_mode == "CANCEL"


# CSC's test_slurm_limits.rb (above); slurm.conf(5) and gres.conf(5) for the rest.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(null)", ()),
        ("gpu:2", (Gres("gpu", "", 2),)),
        ("gpu:v100:4(S:0-1),nvme:3600", (Gres("gpu", "v100", 4), Gres("nvme", "", 3600))),
        ("gpu:a100:2,gpu:a100_3g.20gb:4", (Gres("gpu", "a100", 2), Gres("gpu", "a100_3g.20gb", 4))),
        ("gpu:tesla", (Gres("gpu", "tesla", 1),)),
        ("gpu", (Gres("gpu", "", 1),)),
        (
            "gpu:h200:8(S:0,2-3),lustre:no_consume:4K",
            (Gres("gpu", "h200", 8), Gres("lustre", "", 4096)),
        ),
    ],
)
def test_generic_resources(text: str, expected: tuple[Gres, ...]) -> None:
    assert parse_gres(text) == expected


def test_nodes_that_are_alike_are_one_row() -> None:
    text = (
        "gpu|idle|2|40|382000|2:20:1|(null)|gpu:v100:4(S:0-1),nvme:3600\n"
        "gpu|mixed*|1|40|382000|2:20:1|(null)|gpu:v100:4(S:0-1)\n"
        "small|allocated|600|40|190000+|2:20:2|skylake,avx512|(null)\n"
        "slurm_load_partitions: something else\n"
    )
    gpu, silent, small = parse_nodes(text)
    assert (gpu.gpus, gpu.gpu_types, gpu.usable) == (4, ("v100",), True)
    assert not silent.usable, "it does not answer"
    assert (small.memory_mb, small.features, small.threads_per_core) == (
        190000,
        ("skylake", "avx512"),
        2,
    )
    assert small.gpus == 0 and small.gpu_types == ()


PLUGINS = {
    # https://github.com/NVIDIA/deepops/pull/494 (Slurm 19.05; on stderr)
    "srun: MPI types are...\nsrun: none\nsrun: openmpi\nsrun: pmi2\nsrun: pmix_v3\nsrun: pmix\n": (
        "openmpi pmi2 pmix_v3 pmix"
    ),
    # https://github.com/GoogleCloudPlatform/slurm-gcp/pull/53 (Slurm 22.05)
    "MPI plugin types are...\n\tpmi2\n\tnone\n\tpmix\n\tcray_shasta\n"
    "specific pmix plugin versions available: pmix_v3\n": "pmi2 pmix cray_shasta pmix_v3",
    # https://github.com/openpmix/prrte/issues/1635
    "MPI plugin types are...\n\tcray_shasta\n\tnone\n\tpmi2\n": "cray_shasta pmi2",
    # https://github.com/pyiron/executorlib/pull/761
    "MPI plugin types are...\n\tnone\n\tpmix\n\tpmi2\n"
    "specific pmix plugin versions available: pmix_v5\n"
    "srun: error:  mpi/pmix_v5: init: (null) [0]: mpi_pmix.c:193: pmi/pmix: "
    "can not load PMIx library\n"
    "srun: error: MPI: Unable to load any plugin\n": "pmi2",
}


@pytest.mark.parametrize(("text", "names"), PLUGINS.items(), ids=PLUGINS.values())
def test_what_srun_can_start_mpi_with(text: str, names: str) -> None:
    assert parse_mpi_list(text) == tuple(names.split())


# hpcugent/vsc-administration's tests, Slurm 20.11.6
CONFIG = """Configuration data as of 2022-04-27T10:07:02
AccountingStorageBackupHost = (null)
AccountingStorageEnforce = associations
AccountingStorageHost   = mydb
ClusterName             = mycluster
SLURM_CONF              = /etc/slurm/slurm.conf
SLURM_VERSION           = 20.11.6
TrackWCKey              = No
UnkillableStepTimeout   = 120 sec

Cgroup Support Configuration:
AllowedDevicesFile      = (null)
AllowedRAMSpace         = 100.0%
"""


def test_configuration() -> None:
    config = parse_config(CONFIG)
    assert (config.cluster, config.version) == ("mycluster", "20.11.6")
    assert config.get("AccountingStorageBackupHost") == ""
    assert config.seconds("UnkillableStepTimeout") == 120
    assert config.get("AllowedRAMSpace") == "100.0%"
    assert config.mpi_default == "" and config.mpi_ports is None and config.private_data == ()


def test_an_empty_value_does_not_take_the_next_line() -> None:
    config = parse_config("SchedulerParameters     = \nMpiParams = ports=14000-14999\nX =\nY = 2\n")
    assert config.get("SchedulerParameters") == ""
    assert config.mpi_ports == (14000, 14999)
    assert (config.get("X"), config.get("Y")) == ("", "2")


def test_accounts() -> None:
    text = "ann|chem|alpha|chem||normal,long|normal\nann|chem|alpha|phys|gpu|gpu|\n"
    text += "ann|chem|beta|x|||\n"
    found = parse_associations(text)
    assert found[0] == Association("alpha", "chem", True, "", ("normal", "long"), "normal")
    assert found[1] == Association("alpha", "phys", False, "gpu", ("gpu",), "")
    probed = Probe(config=parse_config("ClusterName = alpha\n"), associations=found)
    assert probed.accounts == ("chem", "phys")
    assert parse_associations("ann||||||\n") == ()


def test_clusters() -> None:
    near, away = parse_clusters("hpctf|10.77.0.1|6817\nother||0\n")
    assert (near.name, near.port, away.host) == ("hpctf", 6817, "")


def test_who_may_use_a_partition() -> None:
    bought = parse_partitions((RECORDED / "grex-partitions.txt").read_text())[1]
    member = parse_associations("a|def-gshamov|grex|def-gshamov||normal|\n")
    stranger = parse_associations("a|def-x|grex|def-x||normal|\n")
    assert Probe(user="a", associations=member).may_use(bought) == ""
    assert "AllowAccounts" in Probe(user="a", associations=stranger).may_use(bought)
    assert Probe(user="a").may_use(bought) == "", "nothing is known against it"


DEBIAN = "mpirun (Open MPI) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/\n"


@pytest.mark.parametrize(
    ("said", "info", "expected"),
    [
        (DEBIAN, 'mca:pmix:ext3x:version:"mca:2.1.0"\n', ("openmpi", "4.1.4", ("pmix",))),
        (DEBIAN, 'mca:pmix:s2:version:"mca:2.1.0"\n', ("openmpi", "4.1.4", ("pmi2",))),
        ("mpirun (Open MPI) 5.0.3\n", "", ("openmpi", "5.0.3", ("pmix",))),
        (DEBIAN, 'mca:pmix:isolated:version:"mca:2.1.0"\n', ("openmpi", "4.1.4", ())),
        (
            "HYDRA build details:\n    Version:                                 4.0.2\n",
            "",
            ("mpich", "4.0.2", ("pmi2",)),
        ),
        (
            "Intel(R) MPI Library for Linux* OS, Version 2021.9 Build 20230307\n",
            "",
            ("intel", "2021.9", ("pmi2",)),
        ),
        ("something else", "", ("other", "", ())),
    ],
)
def test_which_mpi(said: str, info: str, expected: tuple[str, str, tuple[str, ...]]) -> None:
    assert login_node.parse_mpi(said, info) == expected


def test_modules_of_either_kind() -> None:
    lmod = login_node.parse_modules(
        "Welcome to the cluster!\nhpctf-modules-begin\nlmod\n/apps/modules/Core:\ngcc/\n"
        "gcc/12.2.0(default)\nopenmpi/4.1.4\nimpi/2021.9\ncuda/12.2\npandas-mpi-tools/1\n"
    )
    assert lmod.kind == "lmod"
    assert lmod.mpi == ("openmpi/4.1.4", "impi/2021.9") and lmod.cuda == ("cuda/12.2",)
    tcl = login_node.parse_modules(
        "hpctf-modules-begin\n\n/etc/modulefiles:\nmpi/openmpi-x86_64\nmpi/mpich/4.0 <L>\n"
    )
    assert tcl.kind == "environment-modules"
    assert tcl.mpi == ("mpi/openmpi-x86_64", "mpi/mpich/4.0")
    assert login_node.parse_modules("hpctf-modules-begin\n") == login_node.Modules()


def test_modules_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not Path("/etc/profile.d/modules.sh").exists():
        skip_or_fail("environment-modules is not installed.")
    for name in ("openmpi/4.1.4", "cuda/12.2", "gcc/13"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("#%Module1.0\n")
    monkeypatch.setenv("MODULEPATH", str(tmp_path))
    found = login_node.find_modules(60)
    assert (found.kind, found.mpi, found.cuda) == (
        "environment-modules",
        ("openmpi/4.1.4",),
        ("cuda/12.2",),
    )


def test_without_slurm_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SchedulerError, match="no 'scontrol' on this machine"):
        probe()


def test_half_a_slurm_says_what_it_can(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stand-ins for Slurm's commands: a slurmctld that is up, a slurmdbd that is not."""
    answers = {
        "scontrol": f"cat {RECORDED}/puhti-partitions.txt",
        "sinfo": "echo 'small|idle|4|40|190000|2:20:1|(null)|(null)'",
        "srun": "printf 'srun: MPI types are...\\nsrun: pmi2\\n' >&2",
        "sacctmgr": "echo 'sacctmgr: error: Connection refused' >&2; exit 1",
        "sacct": "echo 'Slurm accounting storage is disabled' >&2; exit 1",
        "bash": "exit 0",
    }
    for name, body in answers.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "cat").symlink_to("/bin/cat")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = probe()
    assert found.default_partition is not None and found.default_partition.name == "small"
    assert found.nodes_of("small")[0].count == 4
    assert found.mpi_plugins == ("pmi2",)
    assert not found.accounting and found.mpi.kind == ""
    assert "Connection refused" in found.unanswered["sacctmgr show user"]
    assert "Connection refused" in found.unanswered["sacctmgr show cluster"]
    assert "disabled" in found.unanswered["sacct"]
    assert set(found.unanswered) == {"sacctmgr show user", "sacctmgr show cluster", "sacct"}


def test_a_command_never_waits_for_what_is_typed() -> None:
    from hpctf.scheduler import commands

    assert commands.run(["cat"], HANGS_S) == ""
    assert commands.run(["sh", "-c", "echo b >&2; echo a"], HANGS_S, errors_too=True) == "a\nb\n"


def test_interfaces_are_those_of_the_machine() -> None:
    listed = subprocess.run(["ls", "/sys/class/net"], capture_output=True, text=True).stdout.split()
    names = [one.name for one in login_node.find_interfaces()]
    assert set(names) == set(listed) - {"lo", "bonding_masters"}
