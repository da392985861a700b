"""Every file keeps to the syntax and the standard library of the oldest Python that it runs on.

Vermin reads what each file uses. The Pythons that are there really run it: test_client,
test_startup.
"""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from hpctf.environment.interpreters import OLDEST
from tests.conftest import ROOT
from tests.test_architecture import IN_TRAINING, MODULES, PACKAGE, imports_of


def newer_than(version: str, files: Iterable[Path]) -> str:
    """Return what files use that a version of Python does not have."""
    paths = list(files)
    assert paths
    found = ""
    for late in (True, False):
        those = [path for path in paths if ("from __future__ import annot" in _text(path)) == late]
        # An annotation is evaluated as the function is made, but for those that are put off.
        words = ["-c", "from vermin import main; main()", f"-t={version}-"]
        words += ["--violations", "--no-tips", "--feature", "fstring-pep701"]
        words += [] if late else ["--eval-annotations"]
        if those:
            done = subprocess.run(
                [sys.executable, *words, *map(str, those)], capture_output=True, text=True
            )
            assert "Minimum required versions" in done.stdout, done.stderr
            found += done.stdout if done.returncode else ""
    return found


def _text(path: Path) -> str:
    return path.read_text()


def with_all_that_they_import(*starts: Path) -> set[Path]:
    """Return files with all files of hpctf's that they import, at the top or later.

    ``# novm`` says of a line, to vermin and here, that no older Python gets to it.
    """
    found: set[Path] = set()
    waiting = list(starts)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            lines = path.read_text().splitlines()
            for name, line in imports_of(path):
                if "# novm" in lines[line - 1]:
                    continue
                place = ROOT.joinpath(*name.split("."))
                waiting += [
                    one
                    for one in (place.with_suffix(".py"), place / "__init__.py")
                    if one.exists() and one != PACKAGE / "__init__.py"
                ]
    return found


def test_what_a_training_runs_and_what_starts_its_ranks_keeps_to_the_oldest_python() -> None:
    """Also within a container that srun has entered (Pyxis): with the container's Python."""
    rank = with_all_that_they_import(PACKAGE / "node/rank.py")
    assert {path.name for path in rank} >= {"identity.py", "process.py", "files.py", "memory.py"}
    files = {*IN_TRAINING, PACKAGE / "node/start.py", *rank}
    assert newer_than(f"{OLDEST[0]}.{OLDEST[1]}", files) == ""


def test_no_annotation_that_is_evaluated_is_a_union_of_python_3_10() -> None:
    """Vermin cannot tell them from sums of flags."""
    for path in IN_TRAINING:
        for node in ast.walk(ast.parse(path.read_text())):
            for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
                for part in ast.walk(annotation) if annotation is not None else ():
                    assert not isinstance(part, ast.BinOp), f"{path}:{part.lineno}"


def test_all_else_keeps_to_the_python_that_hpctf_is_installed_with() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    oldest = setup["options"]["python_requires"].removeprefix(">=")
    assert newer_than(oldest, MODULES) == ""


@pytest.mark.parametrize(
    "text",
    [
        "match 1:\n    case 1: pass\n",
        "'a'.removeprefix('a')\n",
        "list(zip([1], [2], strict=True))\n",
        "def f(x: list[int]): pass\n",
        "import functools\nfunctools.cache\n",
        "import tomllib\n",
        "print({} | {})\n",
        "with (open('a') as a, open('b') as b): pass\n",
        "import ast\nast.unparse\n",
    ],
)
def test_what_is_newer_is_found(text: str, tmp_path: Path) -> None:
    (tmp_path / "newer.py").write_text(text)
    assert "Target versions not met" in newer_than("3.8", [tmp_path / "newer.py"])
