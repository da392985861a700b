"""What the programs that hpctf starts get of a shell's environment: the table, and who uses it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpctf.node.identity import Identity, environment
from hpctf.planning.keras import ALLOW as HOROVOD_KERAS
from hpctf.scheduler.programs import (
    HONOURED,
    PROGRAMS,
    SITE_KEYS,
    chosen_by_shell,
    environment_of,
    shell_notes,
)
from hpctf.site.model import Site
from hpctf.startup.preflight import SKIP as SKIP_PREFLIGHT
from tests.conftest import ROOT, skip_or_fail
from tests.support.manual_pages import manual_page

PACKAGE = ROOT / "hpctf"
STARTERS = ("run", "Popen", "call", "check_call", "check_output", "getoutput", "getstatusoutput")
IN_OS = ("system", "popen", "execv", "execve", "execvp", "execvpe", "execl", "execlp", "execle")
IN_OS_TOO = ("spawnv", "spawnve", "spawnvp", "spawnl", "spawnlp", "posix_spawn", "posix_spawnp")

STAY_IN_THE_RANK = {
    *("admin/doctor/on_nodes/rank_probe.py", "admin/doctor/on_nodes/launchers.py"),
    "node/shell.py",
}
"""They run as a training does, without hpctf, or in its place: their environment is a rank's, made
by the table."""


def calls(path: Path) -> Iterator[ast.Call]:
    """Yield the calls of a file that start a program."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value
        if isinstance(owner, ast.Name) and (
            (owner.id == "subprocess" and node.func.attr in STARTERS)
            or (owner.id == "os" and node.func.attr in (*IN_OS, *IN_OS_TOO))
        ):
            yield node


@pytest.mark.parametrize(
    "path", [path for path in sorted(PACKAGE.rglob("*.py")) if any(calls(path))], ids=str
)
def test_every_program_gets_an_environment_and_a_folder_made_for_it(path: Path) -> None:
    if path.relative_to(PACKAGE).as_posix() in STAY_IN_THE_RANK:
        return
    for call in calls(path):
        given = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert {"env", "cwd"} <= given.keys(), f"{path}:{call.lineno}"
        assert "os.environ" not in given["env"], f"{path}:{call.lineno}"


def inputs(command: str) -> list[str]:
    """Return the variables that a command of Slurm's reads, from its manual page."""
    kinds = "SLURM|SLURMD|SBATCH|SRUN|SQUEUE|SACCT|SCONTROL|SINFO|SCANCEL|PMI"
    found = re.findall(rf"^ *((?:{kinds})_[A-Z0-9_]+)", manual_page(command), re.MULTILINE)
    return sorted(set(found))


SLURMS = ("sbatch", "srun", "squeue", "sacct", "scontrol", "sinfo", "scancel", "sacctmgr")


@pytest.mark.parametrize("command", SLURMS)
def test_no_variable_of_a_manual_page_reaches_slurm(command: str) -> None:
    read = inputs(command)
    kept = {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"}
    assert len(read) >= 2, f"the manual page of {command} was not read"
    left = environment_of(command, dict.fromkeys(read, "x"))
    assert left.keys() & set(read) <= kept


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_where_slurm_is_reaches_every_program(program: str) -> None:
    found = {"SLURM_CONF": "/etc/a", "SLURM_CONF_SERVER": "ctl", "SLURM_JWT": "key", "HOME": "/h"}
    found["SLURM_SACK_SOCKET"] = "/run/other/sack.socket"
    assert found.items() <= environment_of(program, found).items()


def test_every_key_of_a_site_can_be_set_by_a_variable() -> None:
    keys = {name for name in Site.__dataclass_fields__ if not name.startswith("__")}
    assert keys == set(SITE_KEYS)
    own = {f"HPCTF_{key.upper()}": "x" for key in keys} | {"HPCTF_SITE": "a"}
    assert environment_of("sbatch", own) == own
    assert environment_of("sbatch", {"HPCTF_TARGETS__GPU__ACCOUNT": "a"}) == {
        "HPCTF_TARGETS__GPU__ACCOUNT": "a"
    }


@pytest.mark.parametrize("program", ["sbatch", "local", "uv", "git", "squeue"])
def test_a_run_within_a_run_gets_nothing_of_the_outer_one(program: str) -> None:
    outer = {
        "HPCTF_RANK": "0",
        "HPCTF_RESUMED_FROM": "/runs/a",
        "HPCTF_INPUT_DATA": "/d",
        "AZUREML_DATAREFERENCE_data": "/d",
        "SUBMITIT_LOCAL_NTASKS": "1",
        "TF_CONFIG": "{}",
        "TF_USE_LEGACY_KERAS": "1",
        "HOROVOD_TIMELINE": "/runs/a/outputs/t.json",
        "OMPI_COMM_WORLD_RANK": "0",
        "OMPI_MCA_ess_base_jobid": "1",
        "PMIX_RANK": "0",
        "PMI_RANK": "0",
    }
    assert not environment_of(program, outer).keys() & outer.keys()


@pytest.mark.parametrize("program", ["sbatch", "local", "rank"])
@pytest.mark.parametrize("name", [HOROVOD_KERAS, SKIP_PREFLIGHT])
def test_a_persons_switch_of_a_check_reaches_the_ranks(program: str, name: str) -> None:
    assert environment_of(program, {name: "1"}) == {name: "1"}


def test_nothing_that_a_real_mpirun_tells_its_ranks_reaches_a_new_run() -> None:
    """Open MPI 4, 5 and 6 tell different things: this machine's is tried."""
    if shutil.which("mpirun") is None:
        skip_or_fail("Open MPI is not installed")
    shell = {"PATH": os.environ["PATH"], "HOME": "/", "OMPI_MCA_btl": "self,tcp"}
    shell |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    ranks = subprocess.check_output(
        ["mpirun", "-np", "1", "/usr/bin/env", "-0"], env=shell, cwd="/", text=True
    )
    told = dict(line.split("=", 1) for line in ranks.split("\0") if line)
    assert told["OMPI_COMM_WORLD_SIZE"] == "1"
    left = environment_of("sbatch", told)
    # Its own folders on the path of libraries; and what a network's driver does when it crashes.
    harmless = {"LD_LIBRARY_PATH", "PWD", "HFI_NO_BACKTRACE", "IPATH_NO_BACKTRACE"}
    assert set(left) - harmless == set(shell)


def test_what_tunes_mpi_stays() -> None:
    tuned = {"OMPI_MCA_btl_tcp_if_exclude": "lo", "UCX_TLS": "tcp", "NCCL_SOCKET_IFNAME": "ib0"}
    tuned["MPIR_CVAR_CH4_NETMOD"] = "ofi"
    assert environment_of("sbatch", tuned) == tuned


def test_the_shell_chooses_where_nobody_else_does_and_is_told_what_counts() -> None:
    shell = {"SBATCH_ACCOUNT": "bio", "SBATCH_PARTITION": "urgent", "SBATCH_TIMELIMIT": "2"}
    assert chosen_by_shell(shell) == {"account": "bio", "partition": "urgent"}
    used = {"account": "bio", "partition": "main"}
    assert list(shell_notes(shell, used)) == [
        "SBATCH_ACCOUNT=bio is used: to choose another, --sbatch account=NAME.",
        "SBATCH_PARTITION=urgent is ignored: it is main.",
        "SBATCH_TIMELIMIT is ignored: pass the option itself (docs/programs.md).",
    ]


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs/programs.md").read_text()
    for program, rules in PROGRAMS.items():
        assert f"`{program}`" in page
        for rule in rules:
            for name in (*rule.clears, *rule.keeps, *rule.sets):
                assert f"`{name}`" in page or name.startswith("HPCTF_"), name
    assert all(f"`{name}`" in page for name in HONOURED)


def test_all_that_a_rank_is_given_for_its_run_ends_with_the_run() -> None:
    shell = {"PATH": "/usr/bin", "HOME": "/home/a", "LANG": "C.UTF-8"}
    plan: dict[str, Any] = {
        "run_id": "r",
        "experiment": "e",
        "backend": "ps",
        "scheduler": "local",
        "roles": [{"name": "worker", "count": 2, "component": 0, "uses_gpu": True, "runs": "x"}],
        "components": [{"gpus_per_node": 0, "directives": []}],
        "pin_gpus": True,
        "interfaces": ["eth0"],
        "resumed_from": "/runs/a",
        "azureml": False,
        "launch": {"method": "local", "options": []},
        "entry": {
            "python": sys.executable,
            "command": [sys.executable, "train.py"],
            "container": None,
            "environment": {"HPCTF_PROFILE": "1-2", "HPCTF_INPUT_A": "/d", "MINE": "1"},
        },
    }
    me = Identity(0, 0, 2, "worker", 0, "here")
    given = environment(plan, me, shell, "/runs/e/r")
    left = environment_of("sbatch", given)
    changed = {name for name, value in left.items() if shell.get(name) != value}
    assert changed <= {"PATH", "PYTHONPATH", "MINE"}, changed
    assert left.get("PYTHONPATH", "") == ""
