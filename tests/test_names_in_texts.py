"""What documents, templates, docstrings and comments name is there: files, modules, functions."""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.test_architecture import FLOORS

PACKAGE = ROOT / "hpctf"
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "*/README.md", "tests/*/README.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)
TEMPLATES = sorted([*(ROOT / "templates").iterdir(), *(ROOT / "site-configs").iterdir()])
SOURCES = sorted(PACKAGE.rglob("*.py"))
OTHERS = sorted(path for name in ("tests", "benchmarks") for path in (ROOT / name).rglob("*.py"))

FOLDERS = ("hpctf", "docs", "tests", "templates", "tools", "benchmarks", "examples", "site-configs")
_PATH = re.compile(rf"(?<![\w/.~{{}}$@-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w")
_DOTTED = re.compile(r"(?<![\w/.@-])hpctf(?:\.[A-Za-z_]\w*)+(?![\w/])")
_LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_PAGE = re.compile(r"docs/[\w/-]+\.md")
_BACKTICKS = re.compile(r"(?<!`)`([A-Za-z_]\w*(?:\.\w+)*)(?:\(\))?`(?!`)")

_OBJECT = re.compile(r"^::: .*$", re.MULTILINE)
"""Names what the site documents, and fails to build without."""
_COMMENT = re.compile(r"(?<!\S)#.*")

FILE_ENDINGS = {"yaml", "sh", "log", "ipynb", "py", "toml"}
"""``hpctf.yaml`` is a file, and not an attribute."""
MLFLOW_TAGS = {"run_id", "state", "backend", "renamed"}
"""``hpctf.run_id`` is a tag of MLflow's runs."""
FOREIGN = {"horovod", "keras", "tf"}
"""What a training environment has and this one has not."""


@dataclass(frozen=True)
class Module:
    """What is read of a module, once.

    Parameters
    ----------
    texts
        Its docstrings, those of attributes, too.
    classes, defined
        The names of its classes; and of its functions, parameters, fields and constants, too.
    names
        Every name in its code, and every text that could be one (a key, an entry of ``__all__``).
    """

    texts: tuple[str, ...]
    classes: frozenset[str]
    defined: frozenset[str]
    names: frozenset[str]


@cache
def module_of(path: Path) -> Module:
    texts, classes, defined, names = [], set(), set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                texts.append(text)
            case ast.Constant(value=str(name)) if name.isidentifier():
                names.add(name)
            case ast.ClassDef(name=name):
                classes.add(name)
            case ast.FunctionDef(name=name) | ast.arg(arg=name):
                defined.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                defined.add(name)
            case ast.Name(id=name, ctx=ast.Store()) if name.isupper():
                defined.add(name)
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                names.add(name)
            case ast.alias(name=name, asname=other):
                names |= {other or name, name.rpartition(".")[2]}
    defined |= classes
    return Module(tuple(texts), frozenset(classes), frozenset(defined), frozenset(names | defined))


def texts_in(path: Path) -> Iterator[str]:
    """Yield the docstrings and comments of a module, or the whole of another file."""
    if path.suffix != ".py":
        yield _OBJECT.sub("", path.read_text())
        return
    yield from module_of(path).texts
    yield from _COMMENT.findall(path.read_text())


def is_there(path: str) -> bool:
    """Return whether a file of the project's is there; ``hpctf/base.sbatch.j2`` is how templates
    name each other, and a last word in capitals may be anything."""
    name = path.removeprefix("hpctf/")
    folder = ROOT / path.rpartition("/")[0]
    stands_for_any = path.rpartition("/")[2].partition(".")[0].isupper() and folder.is_dir()
    return stands_for_any or exists(ROOT / path) or (ROOT / "templates" / name).is_file()


def exists(path: Path) -> bool:
    """Return whether a file is there, or a folder with more than what Python left of it."""
    if path.is_dir():
        return any(one.name != "__pycache__" for one in path.iterdir())
    return path.exists()


def has(thing: Any, names: list[str]) -> bool:
    """Return whether an attribute of an attribute ... of a module or class is there."""
    if not names:
        return True
    first, *rest = names
    if first in getattr(thing, "__dataclass_fields__", {}):
        return True
    if isinstance(thing, ModuleType):
        if first in getattr(thing, "__all__", ()) and not rest:
            return True  # a module that loads its names on use may need TensorFlow for it
        try:
            return has(import_module(f"{thing.__name__}.{first}"), rest)
        except ModuleNotFoundError:
            pass
    return hasattr(thing, first) and has(getattr(thing, first), rest)


@cache
def resolves(dotted: str) -> bool:
    first, *rest = dotted.split(".")
    try:
        return has(import_module(first), rest)
    except ModuleNotFoundError:
        return False


@cache
def homes() -> dict[str, list[str]]:
    """Return the modules of hpctf that have a class, by its name."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for name in module_of(path).classes:
            found[name].append(dotted_of(path))
    return found


def dotted_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def defined_somewhere() -> set[str]:
    """Return what hpctf defines, and what is everywhere."""
    found = FOREIGN | {*dir(builtins)} | sys.stdlib_module_names
    for path in SOURCES:
        found |= {path.stem, path.parent.name, *module_of(path).defined}
    return found


def is_known(name: str, path: Path) -> bool:
    """Return whether what a docstring has in backticks is there."""
    first, *rest = name.split(".")
    sibling = path.parent / f"{first}.py"
    if not rest:
        known = name in module_of(path).names or name in defined_somewhere()
        return known or find_spec(name) is not None
    if first in FOREIGN:
        return True
    if first == "hpctf" or first in sys.stdlib_module_names:
        return resolves(name)
    if sibling.is_file():
        return rest[0] in module_of(sibling).names
    return any(resolves(f"{home}.{name}") for home in [dotted_of(path), *homes().get(first, [])])


@pytest.mark.parametrize("kind", ["documents", "templates", "docstrings", "other docstrings"])
def test_files_and_modules_that_are_named_are_there(kind: str) -> None:
    files = {"documents": DOCUMENTS, "templates": TEMPLATES, "docstrings": SOURCES}
    missing = []
    for path in files.get(kind, OTHERS):
        for text in texts_in(path):
            names = [name for name in _PATH.findall(text) if not is_there(name)]
            for name in _DOTTED.findall(text):
                if name.split(".")[1] not in FILE_ENDINGS | MLFLOW_TAGS and not resolves(name):
                    names.append(name)
            missing += [f"{path.relative_to(ROOT)}: {name}" for name in names]
    assert not missing, "\n".join(missing)


def anchors_in(path: Path) -> set[str]:
    """Return what GitHub makes of a document's headings."""
    headings = _HEADING.findall(path.read_text()) if path.suffix == ".md" else []
    return {re.sub(r"[^\w\- ]", "", one).lower().replace(" ", "-") for one in headings}


def test_links_of_documents_lead_somewhere() -> None:
    missing = []
    for path in DOCUMENTS:
        for link, anchor in _LINK.findall(path.read_text()):
            target = path.parent / link if link else path
            if not exists(target) or (anchor and anchor not in anchors_in(target)):
                missing.append(f"{path.relative_to(ROOT)}: {link}#{anchor}")
    assert not missing, "\n".join(missing)


def test_pages_that_messages_name_are_there() -> None:
    pages = {page: path for path in SOURCES for page in _PAGE.findall(path.read_text())}
    assert len(pages) > 5
    assert not {page: path for page, path in pages.items() if not (ROOT / page).is_file()}


def test_names_in_backticks_are_there() -> None:
    missing = []
    for path in SOURCES:
        names = [name for text in module_of(path).texts for name in _BACKTICKS.findall(text)]
        missing += [
            f"{path.relative_to(ROOT)}: {name}" for name in names if not is_known(name, path)
        ]
    assert not missing, "\n".join(missing)


def test_contributing_has_a_line_for_each_floor_in_their_order() -> None:
    """The map names every folder and module that `FLOORS` names, from the ground up."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    _, _, table = text.partition("| folder or module |")
    rows = [line.split("|")[1] for line in table.split("\n\n")[0].splitlines()[2:]]
    floors = [line.split() for line in FLOORS.strip().splitlines()]
    assert [[name.strip("`/") for name in row.split()] for row in rows] == floors
