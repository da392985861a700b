"""What a script imports, read from its text: nothing of it is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

_MOST_FILES = 500


def imported_by(script: Path, folder: Path) -> set[str]:
    """Return the top-level modules that a script needs, and the modules of its own folder need.

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
    found: set[str] = set()
    waiting, seen = [script], {script}
    while waiting and len(seen) <= _MOST_FILES:
        path = waiting.pop()
        for name, level in _imports(path):
            above = [path.parents[level - 1]] if 0 < level <= len(path.parents) else []
            own = list(_own_files(name, above or [script.parent, folder]))
            if not own and not level:
                found.add(name.partition(".")[0])
            waiting += [one for one in own if one not in seen]
            seen.update(own)
    return found


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield (dotted name, dots before it) of what a file imports when it runs."""
    try:
        waiting: list[ast.AST] = [ast.parse(path.read_bytes())]
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = f"{node.module}." if node.module else ""
            yield from ((f"{module}{alias.name}", node.level) for alias in node.names)
        elif isinstance(node, ast.Try):
            waiting += [*node.orelse, *node.finalbody]
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            waiting += ast.iter_child_nodes(node)


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
