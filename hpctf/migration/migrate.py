"""Changing a script or a notebook of Azure ML's for hpctf, and saying what could not be changed."""

from __future__ import annotations

import ast
import codecs
import io
import json
import re
import tokenize
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpctf.errors import SiteError, UsageError, shown
from hpctf.migration.lines import Text, edits_of, is_azure
from hpctf.migration.meaning import Names, Remark, remarks_of_training, trains
from hpctf.site.loading import load_site
from hpctf.site.yaml_files import NotReadable, check_program, named

_MAGIC = re.compile(r"^(\s*)(?:[%!?]|[\w.]+\?{1,2}\s*$)")
_ASSIGNED = re.compile(r"^(\s*[\w.]+\s*=\s*)[%!]")
_WHOLE_CELL = re.compile(r"^\s*%%(\w+)")
_PYTHON_CELLS = ("time", "timeit", "capture", "prun")
_INSTALL = re.compile(r"^\s*[%!]\s*(?:pip|conda)\s+install\b.*\bazureml")


@dataclass(frozen=True)
class Migrated:
    """A file of which so many statements were changed, in its own encoding and ends of lines.

    ``remarks`` tell what could not be changed, or must be looked at; a ``training`` script runs as
    it is.
    """

    content: bytes
    changed: int
    remarks: tuple[Remark, ...]
    training: bool = False


def migrate(path: Path, site: str | None = None) -> Migrated:
    """Return a script, or a notebook, with its import lines changed.

    Compute targets that it names are compared with those of `site`.

    Raises
    ------
    UsageError
        It cannot be read, or is not Python 3.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"Cannot read {str(path)!r}: {error.strerror}.",
            "Name a script, notebook or folder that you can read.",
        ) from None
    names = Names(_site(site))
    if path.suffix == ".ipynb":
        return _notebook(path, content, names)
    return _script(path, content, names)


def _site(name: str | None) -> Any:
    """Return the site; None where there is none that can be read, unless it was named."""
    try:
        return load_site(name)
    except (SiteError, UsageError):
        if name is not None:
            raise
        return None


def _script(path: Path, content: bytes, names: Names) -> Migrated:
    encoding, text = _decoded(path, content)
    tree = _parsed(text)
    if isinstance(tree, SyntaxError):
        where = named(path, tree.lineno)
        raise UsageError(
            f"{where} is not Python 3: {tree.msg}.",
            "Python 2 needs changing first; a notebook's name ends with .ipynb.",
        )
    if trains(tree):
        return Migrated(content, 0, tuple(remarks_of_training(tree)), training=True)
    source = Text(text)
    edits = edits_of(tree, source)
    remarks = tuple(names.remarks(tree))
    mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    return Migrated(mark + source.changed(edits).encode(encoding), len(edits), remarks)


def _decoded(path: Path, content: bytes) -> tuple[str, str]:
    """Return a script's encoding, and its text without a byte order mark."""
    try:
        if path.suffix == ".py":
            check_program(path)
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = content.decode(encoding)
    except NotReadable as error:
        raise UsageError(
            f"Cannot read {named(path, error.line)}: {error}.", "Correct that line first."
        ) from None
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UsageError(
            f"Cannot read {str(path)!r} as Python: {error}.",
            "Correct the file first: python -m py_compile FILE shows where.",
        ) from None
    return encoding.removesuffix("-sig"), text.removeprefix("\ufeff")


def _parsed(text: str) -> ast.Module | SyntaxError:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the person's own text, such as "\d"
            return ast.parse(text)
    except SyntaxError as error:
        return error
    except (ValueError, RecursionError, MemoryError) as error:
        return SyntaxError(str(error))


def _notebook(path: Path, content: bytes, names: Names) -> Migrated:
    notebook = _read_notebook(path, content)
    changed, remarks = 0, list[Remark]()
    number = 0
    for cell in _cells(path, notebook):
        if cell.get("cell_type") != "code":
            continue
        number += 1
        key = "source" if "source" in cell else "input"
        given = cell.get(key, "")
        text = given if isinstance(given, str) else "".join(given)
        new, count, found = _cell(text, names)
        remarks += [replace(remark, cell=number) for remark in found]
        changed += count
        if count:
            cell[key] = new if isinstance(given, str) else new.splitlines(keepends=True)
    if not changed:
        return Migrated(content, 0, tuple(remarks))
    mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    return Migrated(mark + _written(notebook, content), changed, tuple(remarks))


def _written(notebook: dict[str, Any], before: bytes) -> bytes:
    """Return a notebook's JSON, written as it was: indentation, escapes, ends of lines."""
    escaped = before.removeprefix(codecs.BOM_UTF8).isascii()
    text = json.dumps(notebook, indent=_indent(before), ensure_ascii=escaped)
    if before.endswith(b"\n"):
        text += "\n"
    if b"\r\n" in before:
        text = text.replace("\n", "\r\n")
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a character, which JSON can only have escaped
        return json.dumps(notebook, indent=_indent(before)).encode()


def _read_notebook(path: Path, content: bytes) -> dict[str, Any]:
    try:
        notebook = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UsageError(
            f"{str(path)!r} is not UTF-8, so it is not a notebook.",
            "Pass a notebook that Jupyter saved.",
        ) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{str(path)!r} is not a notebook: it is not JSON ({error}).",
            "Pass a notebook that Jupyter saved.",
        ) from None
    if not isinstance(notebook, dict):
        raise UsageError(
            f"{str(path)!r} is not a notebook: it has no cells.",
            "Pass a notebook that Jupyter saved.",
        )
    about = notebook.get("metadata")
    about = about if isinstance(about, dict) else {}
    for key, name in (("language_info", "name"), ("kernelspec", "language")):
        part = about.get(key)
        language = part.get(name) if isinstance(part, dict) else None
        if isinstance(language, str) and language.lower() not in ("python", "ipython"):
            raise UsageError(
                f"The notebook {str(path)!r} is written in {shown(language)}.",
                "hpctf migrates notebooks in Python.",
            )
    return notebook


def _cells(path: Path, notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a notebook's cells; up to format 3 they are in worksheets."""
    sheets = notebook.get("worksheets")
    parts = sheets if isinstance(sheets, list) else [notebook]
    cells = [part.get("cells") for part in parts if isinstance(part, dict)]
    found = [cell for group in cells if isinstance(group, list) for cell in group]
    if not any(isinstance(group, list) for group in cells) or not all(map(_is_cell, found)):
        raise UsageError(
            f"{str(path)!r} is not a notebook: it has no cells.",
            "Pass a notebook that Jupyter saved.",
        )
    return found


def _is_cell(cell: Any) -> bool:
    if not isinstance(cell, dict):
        return False
    text = cell.get("source", cell.get("input", ""))
    parts = text if isinstance(text, list) else [text]
    return all(isinstance(part, str) for part in parts)


def _cell(text: str, names: Names) -> tuple[str, int, list[Remark]]:
    """Return a cell's new text, how much changed, and remarks; magics are left alone."""
    remarks = [
        Remark(line, words.strip(), "hpctf needs none of Azure ML's packages: leave the line out.")
        for line, words in enumerate(text.splitlines(), 1)
        if _INSTALL.match(words)
    ]
    whole = _WHOLE_CELL.match(text)
    if whole and whole[1] not in _PYTHON_CELLS:
        return text, 0, remarks
    tree = _parsed(text)
    if isinstance(tree, SyntaxError):
        tree = _parsed(_without_magics(text))
    if isinstance(tree, SyntaxError):
        if any(is_azure(word) for word in re.findall(r"[\w.]+", text)):
            what = f"the cell is not Python 3 ({tree.msg})"
            instead = "It was left as it is: change its import lines by hand, to hpctf.azureml."
            remarks.append(Remark(tree.lineno or 1, what, instead))
        return text, 0, remarks
    source = Text(text)
    edits = edits_of(tree, source)
    return source.changed(edits), len(edits), [*remarks, *names.remarks(tree)]


def _without_magics(text: str) -> str:
    """Return a cell's text, line by line, with Python in place of magics."""
    lines = []
    goes_on = False
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        magic, assigned = _MAGIC.match(line), _ASSIGNED.match(line)
        continued = (magic or assigned or goes_on) and line.rstrip().endswith("\\")
        if goes_on:
            line = ""
        elif magic:
            line = f"{magic[1]}pass"
        elif assigned:
            line = f"{assigned[1]}None"
        goes_on = bool(continued)
        lines.append(line)
    return "\n".join(lines)


def _indent(content: bytes) -> str | None:
    """Return what a JSON text is indented by; None: it is one line."""
    found = re.match(rb"[^\n]*\n([ \t]+)", content)
    return found[1].decode() if found else None
