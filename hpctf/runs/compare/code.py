"""How the code of two runs differs: their snapshots, file by file, and what git said of them."""

from __future__ import annotations

import difflib
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctf.client.hpctf.within import is_readable_within, open_file
from hpctf.common.files import same_bytes
from hpctf.common.secrets import hidden_in_code
from hpctf.errors import UnreadableRun
from hpctf.run_folder.layout import RunFolder
from hpctf.runs.provenance import snapshot_contents
from hpctf.source.snapshot import contents

MOST_TEXT = 1_000_000
"""Bytes of the largest file whose lines are compared."""

_MOST_LINES = 20_000
_BLOCK = 1 << 20


@dataclass(frozen=True)
class FileDifference:
    """A file that two snapshots do not share.

    Parameters
    ----------
    change
        ``added``, ``removed`` or ``changed``, from the first run to the second.
    a, b
        What each side has: ``size`` and ``sha256``, or where a ``link`` leads; None: nothing.
    diff
        The unified diff, in which lines are `added` and `removed`; None of binary and large files,
        and of links.
    """

    name: str
    change: str
    a: dict[str, Any] | None
    b: dict[str, Any] | None
    added: int = 0
    removed: int = 0
    diff: str | None = None


@dataclass(frozen=True)
class CodeDifference:
    """How the code of two runs differs: what git said of each source folder (None outside of git),
    the files that differ, by name, and the runs whose snapshots are gone: then nothing is told of
    files."""

    git: tuple[dict[str, Any] | None, dict[str, Any] | None]
    files: tuple[FileDifference, ...] = ()
    missing: tuple[str, ...] = ()


def code_difference(
    a: RunFolder, b: RunFolder, records: tuple[dict[str, Any], dict[str, Any]]
) -> CodeDifference:
    """Return how the code of two runs differs, as it was when they were submitted."""
    git = (records[0]["git"], records[1]["git"])
    missing = tuple(one.id for one in (a, b) if not one.snapshot.is_dir())
    if missing:
        return CodeDifference(git, missing=missing)
    names = sorted({*_names(a), *_names(b)})
    found = [_file(a.snapshot / name, b.snapshot / name, name) for name in names]
    function = _functions(records)
    return CodeDifference(git, tuple(one for one in (function, *found) if one is not None))


def _names(folder: RunFolder) -> list[str]:
    """Return the files and links that were in a snapshot before the training wrote there."""
    try:
        known = snapshot_contents(folder)
    except (OSError, UnreadableRun):
        known = contents(folder.snapshot)
    names = []
    for name in known:
        path = folder.snapshot / name
        leads_out = os.path.isabs(name) or os.pardir in name.split(os.sep)  # anybody's record
        if name != "outputs" and not leads_out and (path.is_symlink() or not path.is_dir()):
            names.append(name)
    return names


def _functions(records: tuple[dict[str, Any], dict[str, Any]]) -> FileDifference | None:
    texts = [(record.get("request") or {}).get("function") or {} for record in records]
    a, b = (one.get("text") or one.get("name") for one in texts)
    if a == b:
        return None
    one, other = (None if text is None else dict[str, Any]() for text in (a, b))
    return _of_texts("function", one, other, a or "", b or "")


def _file(a: Path, b: Path, name: str) -> FileDifference | None:
    """Return how a file differs; None if it does not."""
    one, other = _look(a), _look(b)
    if one == other:
        if one is None or "link" in one:
            return None
        with open_file(a) as mine, open_file(b) as theirs:
            if same_bytes(mine, theirs):
                return None
    old, new = _text(a, one), _text(b, other)
    one, other = _with_digest(a, one), _with_digest(b, other)
    if old is None or new is None:
        return FileDifference(name, _change(one, other), one, other)
    return _of_texts(name, one, other, old, new)


def _of_texts(
    name: str, a: dict[str, Any] | None, b: dict[str, Any] | None, old: str, new: str
) -> FileDifference:
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    heads = ("/dev/null" if a is None else f"a/{name}", "/dev/null" if b is None else f"b/{name}")
    lines = [
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        for line in difflib.unified_diff(before, after, *heads)
    ]
    added, removed = (sum(line.startswith(sign) for line in lines[2:]) for sign in "+-")
    text = hidden_in_code("".join(lines))
    return FileDifference(name, _change(a, b), a, b, added, removed, text)


def _change(a: object, b: object) -> str:
    return "added" if a is None else "removed" if b is None else "changed"


def _look(path: Path) -> dict[str, Any] | None:
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return {"link": os.readlink(path)}
    except OSError:
        return None
    return {"size": status.st_size} if is_readable_within(path) else None


def _text(path: Path, look: dict[str, Any] | None) -> str | None:
    """Return a file's text, empty where there is none; None if it is a link, large or binary."""
    if look is None:
        return ""
    if "link" in look or look["size"] > MOST_TEXT:
        return None
    with open_file(path) as stream:
        data = stream.read(MOST_TEXT + 1)
    if b"\0" in data or data.count(b"\n") > _MOST_LINES:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _with_digest(path: Path, look: dict[str, Any] | None) -> dict[str, Any] | None:
    if look is None or "link" in look:
        return look
    digest = hashlib.sha256()
    with open_file(path) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return {**look, "sha256": digest.hexdigest()}
