"""The house stands: imports go down, modules stay small, and nobody loads what they do not need."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_python

PACKAGE = ROOT / "hpctf"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = """
    _version errors
    common
    placement cluster_spec plan
    scheduler
    site
    estimator
    client startup
    source run_folder
    environment
    planning
    submission
    tracking
    node
    runs
    agents
    tuning models scoring serving
    notebook
    child_run run model webservice hyperdrive_run experiment studies scores
    report export azureml migration
    admin
    cli manual __main__
"""
"""From the ground: an import goes down or sideways within a line, never up."""
FLOOR_OF = {name: floor for floor, line in enumerate(FLOORS.split("\n")) for name in line.split()}

LONGEST = 400
"""Lines of the longest module: one file, one reason."""

BEFORE_TRAINING = [
    "hpctf.cluster_spec",
    "hpctf.common.files",
    "hpctf.common.paths",
    "hpctf.errors",
    "hpctf.node.completion",
    "hpctf.node.identity",
    "hpctf.node.messages",
    "hpctf.node.port_claims",
    "hpctf.node.ports",
    "hpctf.node.process",
    "hpctf.node.rank",
    "hpctf.node.signals",
    "hpctf.node.start",
    "hpctf.placement.hostlist",
    "hpctf.placement.job_environment",
    "hpctf.scheduler.programs",
]
"""What a rank loads before its user's process starts: each millisecond there is paid by all."""

HEAVY = [
    "submitit",
    "jinja2",
    "yaml",
    "pydantic",
    "rich",
    "cloudpickle",
    "pathspec",
    "tensorflow",
    "numpy",
]


IN_TRAINING = [
    PACKAGE / "node/function_call.py",
    PACKAGE / "node/server.py",
    *(PACKAGE / "serving/entry").rglob("*.py"),
    *(PACKAGE / "client").rglob("*.py"),
    *(PACKAGE / "startup").rglob("*.py"),
    *(PACKAGE / "models/export/scripts").rglob("*.py"),
    *(PACKAGE / "scoring/worker").rglob("*.py"),
]
"""What runs in a training's own Python, where hpctf is not installed."""


def name_of(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path) for path in MODULES}


def room_of(module: str) -> str:
    """Return ``site`` for ``hpctf.site.loading``: what has a floor; empty for ``hpctf`` itself."""
    return [*module.split("."), ""][1]


def imports_of(path: Path) -> set[tuple[str, int]]:
    """Return every module of hpctf's that a file imports, with its line: at the top, inside
    functions, and for type checkers only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {(alias.name, node.lineno) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level and path in IN_TRAINING:
                continue  # these are packages of their own, too, under other names
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            base = node.module or ""
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add((inner if inner in NAMES or base == "hpctf" else base, node.lineno))
    return {(name, line) for name, line in found if name.split(".")[0] == "hpctf"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_stays_within_its_length(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_has_a_floor(path: Path) -> None:
    room = room_of(name_of(path))
    assert room == "" or room in FLOOR_OF, f"say in FLOORS where {room} belongs"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_never_up(path: Path) -> None:
    room = room_of(name_of(path))
    if room == "":
        return  # the package's own face names everything, and loads it on use
    upward = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for name, line in imports_of(path)
        if name == "hpctf" or name not in NAMES or FLOOR_OF.get(room_of(name), -1) > FLOOR_OF[room]
    ]
    assert not upward


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Also where an import stands in a function, or for type checkers alone."""
    modules = {name_of(path): path for path in MODULES}
    graph = {
        name: {found for found, _ in imports_of(path)} & modules.keys() - {name}
        for name, path in modules.items()
        if name != "hpctf"  # the face names everything, and loads it on use
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle: {' -> '.join(error.args[1])}") from None


def loaded(*words: str, **env: str) -> set[str]:
    """Run Python with words that end by printing sys.modules, and return the names."""
    done = run_python(*words, **env)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


SAY = "import json, sys; print(json.dumps(sorted(sys.modules)))"


def test_importing_hpctf_is_cheap() -> None:
    modules = loaded("-c", f"import hpctf\n{SAY}")
    assert not modules & {*HEAVY, "click"}
    assert not {name for name in modules if name.startswith("hpctf.")}


def test_tf_config_in_anybodys_job_needs_the_standard_library_alone() -> None:
    modules = loaded("-c", f"from hpctf import tf_config\n{SAY}")
    assert not modules & {*HEAVY, "click"}


def test_what_runs_before_the_training_is_small() -> None:
    imports = [f"import {name}" for name in BEFORE_TRAINING]
    code = "\n".join([f"import sys; sys.path.insert(0, {str(ROOT)!r})", *imports, SAY])
    modules = loaded("-I", "-S", "-c", code)
    assert not modules & {*HEAVY, "click", "typing", "dataclasses", "inspect"}
    outside = {name.split(".")[0] for name in modules} - sys.stdlib_module_names
    assert outside == {"hpctf", "__main__"} - sys.stdlib_module_names
    ours = {name for name in modules if name.startswith("hpctf.")}
    packages = {"hpctf.common", "hpctf.node", "hpctf.placement", "hpctf.scheduler"}
    assert ours == {*BEFORE_TRAINING, *packages}


@pytest.mark.parametrize(
    "path",
    IN_TRAINING,
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_scripts_of_the_training_environment_stand_alone(path: Path) -> None:
    """Which Python they need: test_oldest_python."""
    assert imports_of(path) == set(), "hpctf is not there in a training environment"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.module != "__future__"  # `str | None` in an annotation would hide behind it


@pytest.fixture
def no_tensorflow(tmp_path: Path) -> dict[str, str]:
    """An environment in which importing TensorFlow (or Keras) fails loudly."""
    for name in ("tensorflow", "keras", "horovod"):
        (tmp_path / "fake" / name).mkdir(parents=True)
        (tmp_path / "fake" / name / "__init__.py").write_text("raise SystemExit('imported!')")
    return {
        "PYTHONPATH": str(tmp_path / "fake"),
        "HPCTF_RUNS_ROOT": str(tmp_path / "runs"),
        "HPCTF_SITE": "slurm",
    }


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["submit", "--help"],
        ["submit", "--dry-run", "--backend", "ps", "train.py"],
        ["submit", "--dry-run", "--backend", "mpi", "--nodes", "2", "train.py"],
        ["runs"],
        ["site", "show"],
    ],
    ids=" ".join,
)
def test_the_login_side_never_imports_tensorflow(
    words: list[str], no_tensorflow: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text("import tensorflow")
    done = subprocess.run(
        [sys.executable, "-c", "from hpctf.cli import main; main()", *words],
        cwd=tmp_path,
        env={**os.environ, **no_tensorflow},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "imported!" not in done.stderr


def test_help_and_runs_load_nothing_heavy(no_tensorflow: dict[str, str]) -> None:
    code = "import sys; sys.argv[1:] = {words}\nfrom hpctf.cli import main\ntry: main()\n"
    code += f"except SystemExit: pass\n{SAY}"
    help_loads = loaded("-c", code.format(words=["--help"]), **no_tensorflow)
    assert not help_loads & set(HEAVY)
    runs_loads = loaded("-c", code.format(words=["runs"]), **no_tensorflow)
    assert not runs_loads & {"tensorflow", "pydantic", "jinja2", "submitit"}


def test_every_module_is_in_a_package_that_a_wheel_has() -> None:
    """``find:`` of setup.cfg passes over folders without ``__init__.py``."""
    outside = {str(path) for path in MODULES if not (path.parent / "__init__.py").is_file()}
    assert not outside


def test_one_limit_guards_the_tests_against_hanging() -> None:
    """A loaded machine takes minutes for seconds' work (tests/support/waiting.py)."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            limits = {word.arg: word.value for word in getattr(node, "keywords", ())}
            limit = limits.get("timeout")
            if isinstance(limit, ast.Constant):
                assert limit.value in (0, None), f"{path}:{limit.lineno}: use HANGS_S"
