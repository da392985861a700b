"""What a script imports and where, read from its text: nothing of it is run."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow

_MOST_FILES = 500


@dataclass(frozen=True)
class Place:
    """A line of a script, or of a module of its own."""

    file: str
    """Relative to the source folder, if it lies there."""
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Imports:
    """What a script and the modules of its own folder import, and the files that were read.

    ``imported`` are dotted names (``from tensorflow import keras`` is ``tensorflow.keras``) and
    where each is first imported; ``tried`` the same of what is imported under a ``try``, or by a
    module that is: a script may do without it. ``used`` are attributes of TensorFlow that are read,
    and where first: ``tf.keras.Model`` is ``tensorflow.keras.Model``, whatever it is imported as.
    ``at_start`` are the names of ``imported`` that the script imports whenever it starts: not only
    in a function that may be called, or under a condition.
    """

    imported: dict[str, Place]
    tried: dict[str, Place]
    used: dict[str, Place]
    files: tuple[Path, ...]
    at_start: frozenset[str] = frozenset()

    @property
    def top_level(self) -> set[str]:
        """The first parts of all names that are imported."""
        return {name.partition(".")[0] for name in self.imported}

    def first_import(self, *modules: str) -> tuple[str, Place] | None:
        """Return the first of `modules` that is imported, it or anything in it, and where."""
        return _first(self.imported, modules)

    def first_attempt(self, *modules: str) -> tuple[str, Place] | None:
        """Return the first of `modules` that is imported, also under a ``try``, and where."""
        return self.first_import(*modules) or _first(self.tried, modules)

    def first_use(self, *modules: str) -> tuple[str, Place] | None:
        """Return the first of `modules` that is imported or read as an attribute, and where."""
        return self.first_import(*modules) or _first(self.used, modules)

    def mentions(self, word: str) -> bool:
        """Whether a word stands in the text of any file."""
        return any(word.encode() in text for text in self.texts())

    def texts(self) -> Iterator[bytes]:
        """Yield the text of each file."""
        return map(text_of, self.files)


def imports_of_entry(estimator: TensorFlow) -> Imports | None:
    """Return what an estimator's entry script imports; None if that is no Python script.

    Of a function (``TensorFlow(function=...)``) nothing is read: it comes from wherever its module
    or notebook lies, and what it imports shows when it runs (`hpctf.startup`).
    """
    script, folder = estimator.entry_script, estimator.source_directory
    if script is None or folder is None or not script.endswith(".py"):
        return None
    return imports_of(Path(folder) / script, Path(folder))


def imports_of(script: Path, folder: Path) -> Imports:
    """Return what a script imports, and what the modules of its own folder import.

    Modules that lie beside it are followed and not named. An import is a statement anywhere, or a
    call of ``import_module``, ``__import__`` or ``run_module`` with a name that stands in the text.
    What is imported for type checkers alone is left out. A text that is not this Python's tells
    nothing. Modules of its own lie in the script's folder and in `folder`, the source folder.
    """
    reading = _Reading(script, folder)
    imported = reading.follow([script], guarded=False)
    tried = reading.follow(reading.under_try, guarded=True)
    tried = {**reading.tried, **tried}
    used = {} if list(_own_files("tensorflow", reading.places)) else reading.used
    at_start = frozenset(reading.at_start)
    return Imports(imported, tried, used, tuple(reading.files), at_start)


class _Reading:
    """Reads files, each once, and notes what they import."""

    def __init__(self, script: Path, folder: Path) -> None:
        self.places = [script.parent, folder]
        self.files: list[Path] = []
        self.under_try: list[Path] = []
        self.tried: dict[str, Place] = {}
        self.used: dict[str, Place] = {}
        self.at_start: set[str] = set()
        self._starting = {script}

    def follow(self, files: list[Path], guarded: bool) -> dict[str, Place]:
        """Return what files import that are run for sure; `guarded`: those under a ``try``."""
        found: dict[str, Place] = {}
        waiting = list(files)
        for path in waiting:  # which grows meanwhile
            if path in self.files or len(self.files) >= _MOST_FILES:
                continue
            self.files.append(path)
            tree = parsed(path)
            if tree is None:
                continue
            for one in sorted(_imports(tree), key=lambda one: one.line):
                place = Place(self._shown(path), one.line)
                own = self._own(path, one)
                sure = guarded or not one.guarded
                if path in self._starting and one.at_start and not one.guarded:
                    self.at_start.add(one.name)
                    self._starting.update(own)
                if not own and not one.level:
                    (found if sure else self.tried).setdefault(one.name, place)
                (waiting if sure else self.under_try).extend(own)
            for name, line in sorted(_used_of_tensorflow(tree), key=lambda used: used[1]):
                self.used.setdefault(name, Place(self._shown(path), line))
        return found

    def _own(self, path: Path, one: _Import) -> list[Path]:
        """Return the files of the source folder that an import in `path` runs."""
        above = [path.parents[one.level - 1]] if 0 < one.level <= len(path.parents) else []
        return list(_own_files(one.name, above or self.places))

    def _shown(self, path: Path) -> str:
        folder = self.places[1]
        return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _first(names: dict[str, Place], modules: Iterable[str]) -> tuple[str, Place] | None:
    """Return the first module that is among the names, or above one of them, and its place."""
    for name, place in names.items():
        for module in modules:
            if f"{name}.".startswith(f"{module}."):
                return module, place
    return None


def text_of(path: Path) -> bytes:
    """Return a file's text; empty if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def parsed(path: Path) -> ast.Module | None:
    """Return a file's syntax tree; None if it is not this Python's."""
    try:
        return ast.parse(text_of(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


class _Import(NamedTuple):
    """A dotted name with the dots before it, the line, whether a ``try`` is around it, and whether
    it is run whenever its file is."""

    name: str
    level: int
    line: int
    guarded: bool
    at_start: bool


def _imports(tree: ast.Module) -> Iterator[_Import]:
    calls = _import_calls(tree)
    waiting: list[tuple[ast.AST, bool, bool]] = [(tree, False, True)]
    while waiting:
        node, guarded, always = waiting.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, level, _ in _named(node):
                yield _Import(name, level, node.lineno, guarded, always)
        elif isinstance(node, _TRY):
            waiting += [(child, True, always) for child in (*node.body, *node.handlers)]
            waiting += [(child, guarded, always) for child in (*node.orelse, *node.finalbody)]
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            inside = guarded or (isinstance(node, (ast.With, ast.AsyncWith)) and _suppresses(node))
            always = always and (not isinstance(node, _MAYBE) or _is_main(node))
            waiting += [(child, inside, always) for child in ast.iter_child_nodes(node)]
        if node in calls:
            name, level = calls[node]
            yield _Import(name, level, node.lineno, guarded, always)  # type: ignore[attr-defined]


_MAYBE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.If, ast.IfExp, ast.For, ast.While)
"""What may not run what it holds."""


def _is_main(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)


_TRY = (ast.Try, *([ast.TryStar] if hasattr(ast, "TryStar") else []))


def _suppresses(node: ast.With | ast.AsyncWith) -> bool:
    return any("suppress" in ast.unparse(item.context_expr) for item in node.items)


def _import_calls(tree: ast.Module) -> dict[ast.AST, tuple[str, int]]:
    """Return (dotted name, dots before it) of calls that import a name which stands in the text:
    as itself, or as what a variable is set to, and to nothing else."""
    called = {"import_module", "__import__", "run_module"}
    texts: dict[str, set[str]] = {}
    calls: list[ast.Call] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("importlib", "runpy"):
            called |= {alias.asname or "" for alias in node.names if alias.name in called}
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    texts.setdefault(target.id, set()).add(str(node.value.value))
        elif isinstance(node, ast.Call):
            calls.append(node)
    found: dict[ast.AST, tuple[str, int]] = {}
    for call in calls:
        if _chain(call.func).rpartition(".")[2] not in called:
            continue
        given = dict(zip(("name", "package"), call.args, strict=False))
        given.update((keyword.arg or "", keyword.value) for keyword in call.keywords)
        name, package = (_text_of(given.get(key), texts) for key in ("name", "package"))
        bare = name.lstrip(".")
        level = len(name) - len(bare)
        if level and package:
            base = package.split(".")
            bare, level = ".".join([*base[: len(base) - level + 1], bare]), 0
        if bare:
            found[call] = (bare, level)
    return found


def _text_of(node: ast.expr | None, texts: dict[str, set[str]]) -> str:
    """Return the text that an expression is; empty if that does not show."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    known = texts.get(node.id, set()) if isinstance(node, ast.Name) else set()
    return next(iter(known)) if len(known) == 1 else ""


def _named(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, int, str]]:
    """Yield (dotted name, dots before it, what it is called here) of an import's names."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, 0, alias.asname or alias.name.partition(".")[0]
    else:
        module = f"{node.module}." if node.module else ""
        for alias in node.names:
            yield f"{module}{alias.name}", node.level, alias.asname or alias.name


def _used_of_tensorflow(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield (dotted name, line) of TensorFlow's attributes that a file reads."""
    called: dict[str, str] = {}
    read: list[tuple[str, ast.Attribute]] = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, level, alias in _named(node):
                if not level and name.partition(".")[0] == "tensorflow":
                    bare = isinstance(node, ast.Import) and alias == "tensorflow"
                    called[alias] = "tensorflow" if bare else name
        elif isinstance(node, ast.Attribute) and (chain := _chain(node)):
            read.append((chain, node))
    for chain, node in read:
        root, _, rest = chain.partition(".")
        if root in called:
            yield f"{called[root]}.{rest}", node.lineno


def _chain(node: ast.expr) -> str:
    """Return ``a.b.c`` of such an expression; empty for any other."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _own_files(name: str, folders: list[Path]) -> Iterator[Path]:
    """Yield the files that importing a dotted name of the source folder would run."""
    for folder in folders:
        place = folder
        for part in name.split("."):
            place = place / part
            files = [place.with_name(f"{part}.py"), place / "__init__.py"]
            there = [file for file in files if file.is_file()]
            yield from there
            if not there and not place.is_dir():
                break
