"""What a script imports and where, read from its text: nothing of it is run."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpctf.estimator import TensorFlow

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
    """What a script and the modules of its own folder import.

    Parameters
    ----------
    imported
        Dotted names and where each is first imported: ``from tensorflow import keras`` is
        ``tensorflow.keras``.
    used
        Attributes of TensorFlow that are read, and where first: ``tf.keras.Model`` is
        ``tensorflow.keras.Model``, whatever TensorFlow is imported as.
    files
        The files that were read.
    """

    imported: dict[str, Place]
    used: dict[str, Place]
    files: tuple[Path, ...]

    @property
    def top_level(self) -> set[str]:
        """The first parts of all names that are imported."""
        return {name.partition(".")[0] for name in self.imported}

    def first_import(self, *modules: str) -> tuple[str, Place] | None:
        """Return the first of `modules` that is imported, it or anything in it, and where."""
        return _first(self.imported, modules)

    def first_use(self, *modules: str) -> tuple[str, Place] | None:
        """Return the first of `modules` that is imported or read as an attribute, and where."""
        return self.first_import(*modules) or _first(self.used, modules)

    def mentions(self, word: str) -> bool:
        """Whether a word stands in the text of any file."""
        return any(word.encode() in _text(path) for path in self.files)


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

    Modules that lie beside it are followed and not named; what is imported under a ``try``, or
    for type checkers alone, may be missing, and is left out. A text that is not this Python's
    tells nothing.

    Parameters
    ----------
    script
        The entry script.
    folder
        The source folder: it and the script's own are where modules of its own lie.
    """
    imported: dict[str, Place] = {}
    used: dict[str, Place] = {}
    files = [script]
    for path in files:  # which grows meanwhile
        if len(files) > _MOST_FILES:
            break
        tree = _parsed(path)
        if tree is None:
            continue
        file = str(path.relative_to(folder) if path.is_relative_to(folder) else path)
        once: dict[tuple[str, int], int] = {}
        for name, level, line in sorted(_imports(tree), key=lambda found: found[2]):
            once.setdefault((name, level), line)
        for (name, level), line in once.items():
            above = [path.parents[level - 1]] if 0 < level <= len(path.parents) else []
            own = list(_own_files(name, above or [script.parent, folder]))
            if not own and not level:
                imported.setdefault(name, Place(file, line))
            files += [one for one in own if one not in files]
        for name, line in sorted(_used_of_tensorflow(tree), key=lambda found: found[1]):
            used.setdefault(name, Place(file, line))
    if list(_own_files("tensorflow", [script.parent, folder])):
        used = {}
    return Imports(imported, used, tuple(files))


def _first(names: dict[str, Place], modules: Iterable[str]) -> tuple[str, Place] | None:
    """Return the first module that is among the names, or above one of them, and its place."""
    for name, place in names.items():
        for module in modules:
            if f"{name}.".startswith(f"{module}."):
                return module, place
    return None


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _parsed(path: Path) -> ast.Module | None:
    try:
        return ast.parse(_text(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _imports(tree: ast.Module) -> Iterator[tuple[str, int, int]]:
    """Yield (dotted name, dots before it, line) of what a file imports when it runs."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((name, level, node.lineno) for name, level, _ in _named(node))
        elif isinstance(node, ast.Try):
            waiting += [*node.orelse, *node.finalbody]
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            waiting += ast.iter_child_nodes(node)


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
