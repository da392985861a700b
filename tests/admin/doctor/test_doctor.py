"""The doctor without a Slurm: folders, verdicts on what a job found, and the change it proposes."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpctf.admin.doctor import folder_checks, job_checks, login_checks, network_checks
from hpctf.admin.doctor.jobs import Outcome, Request
from hpctf.admin.doctor.on_nodes import launchers
from hpctf.admin.doctor.report import Report
from hpctf.admin.doctor.suggestions import propose, write_proposal
from hpctf.admin.survey.inventory import parse_mpi_list
from hpctf.common.folders import file_system
from hpctf.errors import SiteError
from hpctf.site.loading import load_site
from hpctf.site.model import PortRange, Site, Target
from tests.conftest import ROOT

ON_NODES = sorted((ROOT / "hpctf/admin/doctor/on_nodes").glob("*.py"))


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    site = Site("here", runs_root=str(tmp_path), targets={"default": Target(gpus=2)})
    return Request(site, None, 2, 300, 60.0, sys.executable, True, False, (20000, 29999))


def doctor(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    code = "from hpctf.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "doctor", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


def fact(rank: int, **more: Any) -> dict[str, Any]:
    """What a rank on a node of two found, if all is well."""
    now = time.time()
    return {
        "rank": rank,
        "host": f"n{rank + 1}",
        "python": "3.11.2",
        "executable": "/env/bin/python",
        "gpus": {"CUDA_VISIBLE_DEVICES": "0,1", "smi": None, "devices": 0},
        "met": [1 - rank],
        "login": {"sent": now, "seen": now + 0.05, "here": now + 0.1},
        "links": [link(f"n{2 - rank}", [20000, 29999])],
        **more,
    }


def link(to: str, free: list[int], **blocked: str) -> dict[str, Any]:
    shut = {port.lstrip("p"): why for port, why in blocked.items()}
    return {"rank": 0, "to": to, "open": free, "blocked": shut, "offset": [0.001, 0.002]}


@pytest.mark.parametrize("path", ON_NODES, ids=lambda path: path.name)
def test_what_runs_on_nodes_needs_python_3_8_and_nothing_of_hpctf(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        tops = {name.split(".")[0] for name in names}
        assert tops <= {*sys.stdlib_module_names, "mpi4py", "__future__"}


def test_a_site_without_slurm_is_examined_without_it(tmp_path: Path) -> None:
    done = doctor("--site", "local", "--json", HPCTF_RUNS_ROOT=str(tmp_path / "runs"))
    assert done.returncode == 0, done.stdout + done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["Slurm"]["state"] == "skipped"
    assert checks["runs root"]["state"] == "ok"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--site", "local", "--job"], "has no Slurm"),
        (["--nodes", "3"], "Add --job"),
        (["--job", "--site", "slurm", "--nodes", "1"], "needs 2 at least"),
        (["--job", "--site", "slurm", "--target", "nosuch"], "no compute target"),
        (["--job", "--site", "slurm", "--time", "1"], "may need 120 s"),
        (["--job", "--site", "slurm", "--python", "/no/such"], "no such program"),
        (["--job", "--site", "slurm", "--env", "nosuch"], "nosuch"),
        (["--job", "--time", "soon"], "not in Slurm's notation"),
        (["--site", "nosuch"], "There is no site"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_asked(words: list[str], says: str) -> None:
    done = doctor(*words)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""
    assert "Asking Slurm" not in done.stderr


def test_a_machine_without_slurm_exits_with_3(tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    done = doctor("--site", "slurm", PATH=str(empty), HPCTF_RUNS_ROOT=str(tmp_path))
    assert done.returncode == 3
    assert "✗  Slurm" in done.stdout
    assert "There is no 'scontrol' on this machine" in done.stdout


def test_a_site_file_that_is_wrong_is_one_of_the_checks(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("name: mine\nmpii: {}\n")
    done = doctor("--site", str(path), PATH=str(tmp_path))
    assert "✗  site" in done.stdout
    assert "mpii" in done.stdout
    assert done.returncode == 3  # for there is no Slurm either


def test_the_file_system_of_a_folder_is_named() -> None:
    assert file_system("/proc/self") == "proc"
    assert file_system("/dev/shm") == "tmpfs"


def test_a_root_in_memory_is_not_shared() -> None:
    check = folder_checks.shared("root", Path("/dev/shm/runs"))
    assert check.state == "failed"
    assert "runs_root" in check.remedy


def test_a_root_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    site = Site("here", runs_root=str(tmp_path / "file" / "runs"))
    check = folder_checks.check_places(site)[0]
    assert check.state == "failed"
    assert f"{tmp_path}/file is not a folder" in check.detail


@pytest.mark.parametrize(("mask", "state"), [("0077", "ok"), ("0027", "ok"), ("0000", "failed")])
def test_a_umask_that_lets_everybody_write_is_refused(mask: str, state: str) -> None:
    assert folder_checks._umask(Site("here", umask=mask)).state == state


@pytest.mark.parametrize(
    ("theirs", "state", "says"),
    [
        (1000.0, "ok", ""),
        (995.0, "ok", ""),
        (900.0, "failed", "ahead"),
        (1100.0, "failed", "behind"),
    ],
)
def test_the_login_clock_is_compared_with_slurms(theirs: float, state: str, says: str) -> None:
    check = login_checks.judge_clock(1000.2, 1000.3, theirs)
    assert check.state == state
    assert says in check.detail


def test_a_node_whose_clock_is_off_is_named(request_: Request) -> None:
    now = time.time()
    late = fact(1, login={"sent": now - 60, "seen": now + 0.05, "here": now - 59.9})
    check = job_checks._clocks(Outcome(facts=[fact(0), late]))
    assert check.state == "failed"
    assert "n2 is 60 s behind the login node" in check.detail
    assert "n1 is" not in check.detail


def test_an_answer_that_took_long_is_no_proof_of_a_wrong_clock() -> None:
    """NFS shows new files after half a minute: so long may the clocks be off and nobody knows."""
    now = time.time()
    slow = fact(0, login={"sent": now, "seen": now + 29, "here": now + 30})
    assert job_checks._clocks(Outcome(facts=[slow])).state == "ok"


def test_a_node_that_does_not_see_another_ones_files_is_named(request_: Request) -> None:
    blind = fact(1, met=[])
    check = job_checks._shared(request_, Outcome(facts=[fact(0), blind]))
    assert check.state == "failed"
    assert "n2 does not see the files of 1 other node" in check.detail


def test_gpus_that_are_fewer_than_the_target_has_are_told(request_: Request) -> None:
    one = {"CUDA_VISIBLE_DEVICES": "0", "smi": None, "devices": 0}
    outcome = Outcome(facts=[fact(0, gpus=one), fact(1, gpus=one)])
    check, found = job_checks.judge_gpus(request_, outcome, "default")
    assert (check.state, found) == ("failed", 1)
    assert check.remedy == "targets.default.gpus: 1"


@pytest.mark.parametrize(
    ("gpus", "count"),
    [
        ({"CUDA_VISIBLE_DEVICES": "", "smi": None, "devices": 4}, 0),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2", "smi": ["GPU 0", "GPU 1"], "devices": 4}, 2),
        ({"ROCR_VISIBLE_DEVICES": "0,1", "smi": None, "devices": 0}, 2),
        ({"smi": ["GPU 0"], "devices": 4}, 1),
        ({"smi": None, "devices": 4}, 4),
    ],
)
def test_gpus_are_counted_by_what_tells_best(gpus: dict[str, Any], count: int) -> None:
    assert job_checks.visible(gpus) == count


def test_hpctfs_python_that_is_on_one_node_alone_is_told(request_: Request) -> None:
    log = ["slurmstepd: error: execve(): /home/me/venv/bin/python: No such file or directory"]
    check = job_checks._own_python(request_, Outcome(facts=[fact(0)], log=log), ["n1"])
    assert check.state == "failed"
    assert "only n1 began" in check.detail and "execve" in check.detail


def test_one_blind_node_is_read_from_the_jobs_log(request_: Request) -> None:
    log = ["hpctf: n2 cannot read the run folder: [Errno 2] No such file or directory"]
    report = Report("here")
    assert not job_checks.judge_job(report, request_, Outcome(job_id="7", log=log))
    checks = {check.name: check for check in report.checks}
    assert "n2 cannot read" in checks["runs root shared"].detail


def test_a_rank_that_died_early_is_told_and_nothing_is_made_of_its_silence(
    request_: Request,
) -> None:
    died = {key: value for key, value in fact(1).items() if key not in ("met", "login", "links")}
    report = Report("here")
    outcome = Outcome(job_id="7", facts=[fact(0), died], log=["OSError: [Errno 22]"])
    job_checks.judge_job(report, request_, outcome)
    checks = {check.name: check for check in report.checks}
    assert checks["job"].state == "failed"
    assert "ended early on n2" in checks["job"].detail
    assert "OSError" in checks["job"].remedy
    assert "runs root shared" not in checks


def test_ports_are_open_only_if_all_that_were_tried_are(request_: Request) -> None:
    shut = fact(1, links=[link("n1", [29999], p20000="no answer within 3 s")])
    report = Report("here")
    network_checks.judge_ports(report, request_, [Outcome(facts=[fact(0), shut])])
    assert report.checks[0].state == "failed"
    assert "n2 → n1:20000: no answer within 3 s" in report.checks[0].detail
    assert "no other range" in report.checks[0].remedy


def test_a_name_that_nodes_do_not_know_is_the_host_suffixs(request_: Request) -> None:
    shut = fact(1, links=[link("n1-ib", [], p20000="name or service not known")])
    report = Report("here")
    network_checks.judge_ports(report, request_, [Outcome(facts=[fact(0), shut])])
    assert "network.host_suffix" in report.checks[0].remedy


def test_the_longest_open_run_of_the_range_is_proposed() -> None:
    ports = PortRange()
    tried = network_checks.ports_to_try(ports)
    shut = {port for port in tried if 22000 <= port <= 23000}
    one = link("n2", [port for port in tried if port not in shut])
    one["blocked"] = {str(port): "no answer" for port in shut}
    found = network_checks.working_range(ports, [("n1", one)])
    assert found is not None and 23000 < found[0] < found[1] == 29999


def pair(first: str, second: str, latency: float, width: float) -> dict[str, Any]:
    return {"nodes": [first, second], "latency_us": latency, "bandwidth_mb_s": width}


@pytest.mark.parametrize(
    ("pairs", "state", "named"),
    [
        ([pair("a", "b", 5, 900)], "skipped", []),
        ([pair("a", "b", 5, 900), pair("a", "c", 6, 800), pair("b", "c", 4, 990)], "ok", []),
        ([pair("a", "b", 5, 900), pair("a", "c", 9, 90), pair("b", "c", 9, 95)], "failed", ["c"]),
        ([pair("a", "b", 5, 9), pair("a", "c", 900, 9), pair("b", "c", 800, 9)], "failed", ["c"]),
        # Far apart in ratio, but by less than other work on the nodes makes up for.
        ([pair("a", "b", 5, 9), pair("a", "c", 50, 9), pair("b", "c", 60, 9)], "ok", []),
    ],
)
def test_the_slow_node_is_the_one_whose_best_link_is_slow(
    pairs: list[dict[str, Any]], state: str, named: list[str]
) -> None:
    check = network_checks._slow(pairs)
    assert check.state == state
    assert [node for node in "abc" if f"{node}: " in check.detail] == named


def test_the_nodes_script_reads_srun_mpi_list_as_hpctf_does() -> None:
    said = (
        "MPI plugin types are...\n\tpmix\n\tnone\n\tpmi2\n"
        "specific pmix plugin versions available: pmix_v4\n"
    )
    old = "srun: MPI types are...\nsrun: none\nsrun: pmi2\n"
    assert launchers.named_plugins(said) == ["pmix", "pmi2"] == list(parse_mpi_list(said))[:2]
    assert launchers.named_plugins(old) == ["pmi2"] == list(parse_mpi_list(old))
    assert launchers.worth_trying(["cray_shasta", "pmi2", "pmix", "pmix_v4"], ["pmi2"]) == [
        "pmix",
        "cray_shasta",
    ]


MINE = """\
# of mine
name: mine
mpi:
  launcher: srun   # as the manual says
umask: 0027
"""


def test_a_proposal_keeps_all_else_and_every_comment(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    settings = {"mpi.launcher": "mpirun", "ports.first": 25000, "ports.last": 29999}
    proposed = propose(settings, str(path), None, str(path))
    assert path.read_text() == MINE
    assert "-  launcher: srun" in proposed.diff and "+  launcher: mpirun" in proposed.diff
    assert write_proposal(proposed) == path
    text = path.read_text()
    assert text == MINE.replace("srun  ", "mpirun  ") + "ports:\n  first: 25000\n  last: 29999\n"
    assert load_site(path).ports == PortRange(25000, 29999)
    assert not propose(settings, str(path), None, str(path)).diff


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "name: mine\nmpi: {launcher: srun}  # short\n",
            "name: mine\nmpi: {plugin: pmi2, launcher: srun}  # short\n",
        ),
        ("name: mine\nmpi: {} # no\n", "name: mine\nmpi: {plugin: pmi2} # no\n"),
        ("{name: mine}  # all\n", '{mpi: {"plugin": "pmi2"}, name: mine}  # all\n'),
        ("name: mine\numask: 0027", "name: mine\numask: 0027\nmpi:\n  plugin: pmi2\n"),
    ],
)
def test_a_proposal_is_put_where_it_belongs(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(before)
    assert write_proposal(propose({"mpi.plugin": "pmi2"}, str(path), None, str(path))) == path
    assert path.read_text() == after
    assert load_site(path).mpi.plugin == "pmi2"


def test_a_proposal_goes_beside_a_file_whose_text_cannot_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = "name: mine\ntargets:\n  a: &a {account: me}  # shared\n  b: *a\ndefault_target: a\n"
    path.write_text(text)
    proposed = propose({"targets.b.partition": "x"}, str(path), None, str(path))
    assert write_proposal(proposed) == tmp_path / "mine.yaml.proposed"
    assert path.read_text() == text
    assert str(proposed.beside) in proposed.notes[0]
    site = load_site(str(proposed.beside.rename(tmp_path / "new.yaml")))
    assert (site.targets["a"].partition, site.targets["b"].partition) == (None, "x")


def test_locked_keys_are_never_proposed(tmp_path: Path) -> None:
    site = replace(load_site("slurm"), locked=("mpi",))
    proposed = propose({"mpi.plugin": "pmi2", "ps.placement": "shared"}, "slurm", site)
    assert "mpi is locked" in proposed.notes[0]
    write_proposal(proposed)
    assert "pmi2" not in proposed.path.read_text()
    found = load_site("slurm")
    assert (found.mpi.plugin, found.ps.placement) == ("pmix", "shared")


def test_another_file_extends_the_site(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    write_proposal(propose({"mpi.plugin": "pmi2"}, "slurm", None, str(path)))
    assert load_site(path).mpi.plugin == "pmi2"


def test_a_file_that_is_no_yaml_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: [")
    with pytest.raises(SiteError, match=r"mine\.yaml.*not YAML"):
        propose({"mpi.plugin": "pmi2"}, str(path), None, str(path))
    assert path.read_text() == "name: ["
