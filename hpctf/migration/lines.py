"""Changing import lines of Azure ML's in a text, and nothing else: comments and layout stay."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")


@dataclass(frozen=True)
class Edit:
    """A part of a text, in UTF-8, that another one replaces."""

    begin: int
    end: int
    new: str


class Text:
    """A text and the places in it that `ast` names: lines, and columns in bytes of UTF-8."""

    def __init__(self, text: str) -> None:
        lines = [line.encode("utf-8", "surrogatepass") for line in _LINE.findall(text)]
        self.content = b"".join(lines)
        self._begins = [0]
        for line in lines:
            self._begins.append(self._begins[-1] + len(line))

    def place(self, line: int, column: int) -> int:
        """Return where a line's column is in `content`."""
        return self._begins[line - 1] + column

    def span(self, node: ast.stmt | ast.expr | ast.alias) -> tuple[int, int]:
        """Return where a node begins and ends."""
        assert node.end_lineno is not None and node.end_col_offset is not None
        begin = self.place(node.lineno, node.col_offset)
        return begin, self.place(node.end_lineno, node.end_col_offset)

    def changed(self, edits: list[Edit]) -> str:
        """Return the text with the edits made."""
        content = self.content
        for edit in sorted(edits, key=lambda one: one.begin, reverse=True):
            content = content[: edit.begin] + edit.new.encode() + content[edit.end :]
        return content.decode("utf-8", "surrogatepass")


def is_azure(module: str | None) -> bool:
    """Whether a module is one of Azure ML's."""
    return f"{module}.".startswith("azureml.")


def edits_of(tree: ast.Module, text: Text) -> list[Edit]:
    """Return what changes the import lines of a file.

    ``from azureml.core import x`` gets the prefix ``hpctf.``; ``import azureml.core``, which names
    ``azureml``, becomes ``from hpctf import azureml``.
    """
    edits: list[Edit] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and is_azure(node.module):
            begin, end = text.span(node)
            at = begin + text.content[begin:end].index(b"azureml")
            edits.append(Edit(at, at, "hpctf."))
        elif isinstance(node, ast.Import) and any(is_azure(alias.name) for alias in node.names):
            edits.append(_import(node, text))
    return edits


def _import(node: ast.Import, text: Text) -> Edit:
    kept, named = [], False
    for alias in node.names:
        if is_azure(alias.name) and alias.asname is None:
            named = True
        else:
            prefix = "hpctf." if is_azure(alias.name) else ""
            as_name = f" as {alias.asname}" if alias.asname else ""
            kept.append(f"{prefix}{alias.name}{as_name}")
    statements = [f"import {', '.join(kept)}"] if kept else []
    statements += ["from hpctf import azureml"] if named else []
    return Edit(*text.span(node), "; ".join(statements))
