"""Plan → batch script: golden files, the site's own templates, and values that bite."""

from __future__ import annotations

import difflib
import gzip
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpctf import ParameterServer
from hpctf.errors import SiteError
from hpctf.plan import Plan
from hpctf.submission.script import render
from tests.cluster.fixture import Cluster
from tests.conftest import ROOT, skip_or_fail
from tests.support.projects import CLUSTER_SITE, PACKAGED, planned, project, site_of

GOLDEN = ROOT / "tests/submission/golden"
UPDATE = os.environ.get("HPCTF_UPDATE_GOLDEN") == "1"

ANY_CLUSTER = ("slurm", "slurm-mpirun")
SITES: dict[str, Any] = {
    **{name: name for name in PACKAGED if name != "local"},
    "rich": CLUSTER_SITE,
}
CASES: dict[str, dict[str, Any]] = {
    "single": {},
    "mpi": {"distributed_backend": "mpi", "node_count": 2, "process_count_per_node": 2},
    "ps-hetjob": {"distributed_training": ParameterServer(3, 2, placement="hetjob")},
    "ps-shared": {"distributed_training": ParameterServer(3, 2, placement="shared")},
    "collective": {"distributed_backend": "collective", "node_count": 3},
    "array": {"distributed_backend": "collective", "node_count": 2},
}
ELSEWHERE: dict[str, dict[str, dict[str, Any]]] = {
    "vista": {"mpi": {"process_count_per_node": 1}},  # one GPU a node
}
"""Where a site's nodes cannot hold what a case asks for, what is asked there."""
WITHOUT_ARRAYS = ("frontera",)
MANUAL = Path("/usr/share/man/man1/sbatch.1.gz")
EVERY = [
    (site, case)
    for site in SITES
    for case in CASES
    if case != "array" or site not in WITHOUT_ARRAYS
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return project(tmp_path / "proj")


def fixed(plan: Plan, **changes: Any) -> Plan:
    """Return the plan as it is on any machine."""
    launch = replace(
        plan.launch, hpctf_python="/opt/hpctf/bin/python", start="/opt/hpctf/node/start.py"
    )
    return replace(plan, launch=launch, **changes)


def script_of(source: Path, site: str, case: str) -> str:
    asked = {
        "use_gpu": site not in ANY_CLUSTER,
        **CASES[case],
        **ELSEWHERE.get(site, {}).get(case, {}),
    }
    plan = fixed(planned(source, SITES[site], **asked).plan)
    folders = tuple(f"/shared/runs/e/e_1_{letter}" for letter in "abc") if case == "array" else ()
    return render(plan, array=folders)


@pytest.mark.parametrize(("site", "case"), EVERY)
def test_the_script_is_the_golden_one(source: Path, site: str, case: str) -> None:
    path = GOLDEN / f"{site}-{case}.sbatch"
    text = script_of(source, site, case)
    if UPDATE:
        path.write_text(text)
    before, after = path.read_text().splitlines(), text.splitlines()
    changed = "\n".join(difflib.unified_diff(before, after, str(path), "now", lineterm=""))
    assert not changed, f"{changed}\nIf that is meant: HPCTF_UPDATE_GOLDEN=1 pytest {__file__}"


def test_no_golden_file_is_left_over() -> None:
    known = {f"{site}-{case}.sbatch" for site, case in EVERY}
    assert {path.name for path in GOLDEN.iterdir()} == known


@pytest.mark.parametrize(("site", "case"), EVERY)
def test_bash_and_shellcheck_find_nothing(site: str, case: str) -> None:
    path = GOLDEN / f"{site}-{case}.sbatch"
    subprocess.run(["bash", "-n", path], check=True)
    if shutil.which("shellcheck") is None:
        skip_or_fail("shellcheck is not installed")
    done = subprocess.run(["shellcheck", "-s", "bash", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_option_is_one_of_sbatchs() -> None:
    if not MANUAL.is_file():
        skip_or_fail("sbatch's manual page is not installed")
    page = gzip.decompress(MANUAL.read_bytes()).decode().replace("\\-", "-")
    known = set(re.findall(r"^\\fB(?:-\w\\fR, \\fB)?--([a-z-]+)", page, re.MULTILINE))
    assert {"nodes", "open-mode"} <= known
    for path in GOLDEN.iterdir():
        said = re.findall(r"^#SBATCH (?!hetjob$)(.*)", path.read_text(), re.MULTILINE)
        names = {option.removeprefix("--").partition("=")[0] for option in said}
        assert names <= known, f"{path.name}: {names - known}"


@pytest.mark.slurm
@pytest.mark.parametrize(("site", "case"), [(s, c) for s, c in EVERY if s in ANY_CLUSTER])
def test_a_real_sbatch_takes_it(cluster: Cluster, site: str, case: str) -> None:
    done = cluster.run("sbatch", "--test-only", GOLDEN / f"{site}-{case}.sbatch", check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slurm
@pytest.mark.parametrize("site", [site for site in SITES if site not in ANY_CLUSTER])
def test_a_real_sbatch_understands_what_other_clusters_are_asked(
    cluster: Cluster, site: str
) -> None:
    """The test cluster cannot give it; but sbatch reads all options before it asks for them."""
    for case in (case for name, case in EVERY if name == site):
        script = GOLDEN / f"{site}-{case}.sbatch"
        done = cluster.run("sbatch", "--test-only", script, check=False)
        assert done.returncode != 0
        assert done.stderr.splitlines()[-1].removeprefix("allocation failure: ") in (
            "Invalid partition name specified",
            "Invalid feature specification",
            "More processors requested than permitted",
        ), done.stderr


def own_templates(folder: Path, **files: str) -> str:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.sbatch.j2").write_text(text)
    return str(folder)


def test_a_sites_template_extends_ours_of_the_same_name(source: Path, tmp_path: Path) -> None:
    folder = own_templates(
        tmp_path / "templates",
        mpi='{% extends "hpctf/mpi.sbatch.j2" %}\n'
        "{% block prologue %}\n{{ super() }}\nulimit -s unlimited\n{% endblock %}\n"
        "{% block site_directives %}#SBATCH --licenses=matlab{% endblock %}\n",
    )
    plan = planned(source, CLUSTER_SITE, **CASES["mpi"]).plan
    text = render(replace(plan, template_folder=folder))
    assert 'export OMP_PROC_BIND="close"' in text  # super(): the site file's own prologue
    lines = text.splitlines()
    step = next(number for number, line in enumerate(lines) if line.startswith("srun"))
    assert lines.index("ulimit -s unlimited") < step
    assert lines.index("#SBATCH --licenses=matlab") < lines.index("run=/shared/runs/e/e_1_a")
    assert render(plan) != text


def test_a_sites_base_template_serves_its_own_children(source: Path, tmp_path: Path) -> None:
    folder = own_templates(
        tmp_path / "templates",
        ours='{% extends "hpctf/base.sbatch.j2" %}{% block epilogue %}sync\n{% endblock %}',
        single='{% extends "ours.sbatch.j2" %}{% block launch %}srun {{ program }} rank "$run"\n'
        "{% endblock %}",
    )
    text = render(replace(planned(source).plan, template_folder=folder))
    assert "\nsync\n" in text


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("one\n{{ plan.colour }}\n", ":2: 'hpctf.plan.Plan object' has no attribute 'colour'"),
        ("{{ nothing }}", ":1: 'nothing' is undefined"),
        ("one\ntwo {% if %}\n", ":2: Expected an expression"),
        ("{{ plan.tasks | colour }}", ":1: No filter named 'colour'"),
        ('\n{% extends "nowhere.j2" %}', ":2: There is no template 'nowhere.j2' in"),
        ("{{ 1 // (plan.tasks - 1) }}", ":1: ZeroDivisionError"),
        ('{% extends "single.sbatch.j2" %}', ": RecursionError"),
        ('{% extends "hpctf/base.sbatch.j2" %}', "Required block 'launch' not found"),
    ],
)
def test_a_wrong_template_is_told_with_file_and_line(
    source: Path, tmp_path: Path, template: str, words: str
) -> None:
    folder = own_templates(tmp_path / "templates", single=template)
    with pytest.raises(SiteError) as caught:
        render(replace(planned(source).plan, template_folder=folder))
    assert words in str(caught.value)
    assert "sbatch.j2:" in str(caught.value)
    assert "\n" not in caught.value.message


def test_a_missing_template_is_told_with_where_it_was_looked_for(source: Path) -> None:
    with pytest.raises(SiteError, match=r"There is no template 'tpu\.sbatch\.j2' in /.*templates"):
        render(replace(planned(source).plan, backend="tpu"))


def test_a_template_folder_that_is_not_there_is_told(source: Path) -> None:
    site = site_of("slurm", templates="/nowhere/templates")
    with pytest.raises(SiteError, match="'/nowhere/templates', which is not a folder"):
        render(planned(source, site).plan)


HOSTILE = [
    "/runs/with space/and  two",
    '/runs/o\'neill "quoted"',
    "/runs/$(touch pwned)`id`$HOME${x}",
    "/runs/%j %% %u #SBATCH --x",
    "/runs/a;b|c&d>e<f*?[x]~!{1,2}",
    "/runs/-n --help",
]


def words_of(script: str, *names: str) -> list[str]:
    """Run what a script does before its step and return its variables; `command` is the step.

    All but putting its start on record, which needs a run folder: tests/faults has real ones.
    """
    lines = script.splitlines()
    begin = lines.index('state="$run/state/job.jsonl"')
    del lines[begin : next(n for n, line in enumerate(lines) if "stop 127" in line) + 1]
    step = next(n for n, line in enumerate(lines) if line.startswith(("srun", "mpirun")))
    end = lines.index("status=$?")
    said = "".join(f'printf "%s\\0" "${{{name}}}"\n' for name in names)
    stubs = 'srun() { printf "%s\\0" "$@"; }; mpirun() { srun "$@"; }; module() { srun "$@"; }\n'
    launch = [line for line in lines[step:end] if ' attend "$run"' not in line]
    launch = launch[: launch.index("launcher=$!")] if "launcher=$!" in launch else launch
    text = "\n".join([stubs, *lines[:step], said, *launch, ""])
    done = subprocess.run(
        ["bash", "-eu", "-c", text], capture_output=True, env={"SLURM_ARRAY_TASK_ID": "1"}
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("case", ["single", "mpi", "ps-hetjob", "collective"])
def test_hostile_words_reach_the_step_unchanged(source: Path, case: str, value: str) -> None:
    plan = planned(source, run_folder=value, **CASES[case]).plan
    launch = replace(plan.launch, hpctf_python=f"{value}/py", start=f"{value}/go", modules=(value,))
    if case == "mpi":
        launch = replace(launch, options=(value,))
    plan = replace(plan, launch=launch)
    load, module, run, *step = words_of(render(plan), "run")
    assert (load, module, run) == ("load", value, value)
    assert step[-6:] == [f"{value}/py", "-I", "-S", f"{value}/go", "rank", value]
    # mpi: also the launcher's own option; ps-hetjob: one program a component
    assert step.count(value) == {"mpi": 2, "ps-hetjob": 2}.get(case, 1)


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_run_folders_of_an_array_come_out_unchanged(
    source: Path, tmp_path: Path, value: str
) -> None:
    folder = f"{tmp_path}{value}"
    Path(folder, "logs").mkdir(parents=True)
    plan = fixed(planned(source, **CASES["array"]).plan)
    script = render(plan, array=("/elsewhere", folder)).replace("exec >>", ": >>")
    run, *_ = words_of(script, "run")
    assert run == folder
    assert os.listdir(Path(folder, "logs")) == ["job.log"]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_directives_stay_on_their_line(source: Path, value: str) -> None:
    text = render(fixed(planned(source, sbatch={"comment": value}).plan))
    (line,) = [line for line in text.splitlines() if "--comment" in line]
    done = subprocess.run(
        ["bash", "-c", f"printf %s {line.removeprefix('#SBATCH ')}"], capture_output=True, text=True
    )
    assert done.stdout == f"--comment={value}"


@pytest.mark.slurm
def test_a_real_sbatch_reads_hostile_words_unchanged(cluster: Cluster, source: Path) -> None:
    folder = cluster.shared / 'o\'neill "x" $(id) 100% #1'
    value = 'it\'s "mine" $(id) `id` # 50%; a=b'
    plan = planned(source, run_folder=str(folder), sbatch={"comment": value}).plan
    ours = source / "job.sbatch"
    ours.write_text(render(plan))
    job = cluster.run("sbatch", "--parsable", "--hold", ours).stdout.strip()
    try:
        shown = cluster.run("scontrol", "show", "job", job).stdout
        lines = [line.strip() for line in shown.splitlines()]
        assert f"Comment={value}" in lines
        # From 24.11 on scontrol shows what becomes of %% and %j.
        assert f"StdOut={folder}/logs/job.log" in [line.replace("%%", "%") for line in lines]
    finally:
        cluster.run("scancel", job)
