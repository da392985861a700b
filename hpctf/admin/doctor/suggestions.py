"""Settings that were found to work, as a change of the person's own site file."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctf.common.files import cannot_write, write_atomic
from hpctf.errors import SiteError, UsageError
from hpctf.site.discovery import folders, is_path
from hpctf.site.layers import Inputs, merge, nested, parse_layer
from hpctf.site.locks import lock_of
from hpctf.site.model import Site

_MODE = 0o644
"""A site file holds no secrets, and colleagues may want to read it."""


@dataclass(frozen=True)
class Proposed:
    """A change of a site file.

    ``path`` is the file, ``text`` what it would hold; ``beside`` where it is written instead if
    the file has what a change of its text does not reach, such as aliases. ``diff`` is empty if
    nothing would change.
    """

    path: Path
    text: str
    diff: str
    beside: Path | None
    notes: tuple[str, ...]


def propose(
    settings: Mapping[str, Any], asked: str, site: Site | None, file: str | None = None
) -> Proposed:
    """Return the change that makes a site file say settings, values by dotted key.

    The file is `file`, or else the site's: `asked` is its path, or the site's name, whose file in
    the person's own layer is meant. What the `site` has locked stays as it is. Raises `SiteError`
    if the file is there, and is no YAML mapping.
    """
    path = Path(os.path.expanduser(file)).absolute() if file else own_file(asked)
    held = {} if site is None else {key: lock_of(site, key) for key in settings}
    notes = [
        f"{key}: {settings[key]} works, but {lock} is locked by the site's admin."
        for key, lock in held.items()
        if lock
    ]
    wanted = {key: value for key, value in settings.items() if not held.get(key)}
    before = Inputs().read(path) or ""
    content = parse_layer("user", path, before).values if before.strip() else {}
    if wanted and file and not before and not is_path(asked):
        before, content = "", {"name": path.stem, "extends": asked}
    text, beside = before, None
    if wanted:
        text, whole = _changed(path, before, content, wanted)
        if not whole:
            beside = path.with_name(f"{path.name}.proposed")
            notes.append(f"Cannot put this into {path} as it is written: see {beside}.")
    old, new = (one.splitlines(keepends=True) for one in (before, text))
    diff = "".join(difflib.unified_diff(old, new, str(path), str(beside or path)))
    return Proposed(path, text, diff, beside, tuple(notes))


def write_proposal(proposed: Proposed) -> Path:
    """Write a change, whole or not at all, and return the file that holds it."""
    path = proposed.beside or proposed.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, proposed.text, _MODE)
    except OSError as error:
        raise cannot_write(path, error) from None
    return path


def own_file(site: str) -> Path:
    """Return the file of a site in the person's own layer. Raises `UsageError` if the site is named
    by the path of its file, and so has no layers."""
    if is_path(site):
        raise UsageError(
            f"Site {site!r} is named by its file, and files of your own do not add to it.",
            f"Name the file to write: --write {site}",
        )
    return folders()["user"] / f"{site}.yaml"


def _changed(
    path: Path, before: str, content: dict[str, Any], wanted: Mapping[str, Any]
) -> tuple[str, bool]:
    """Return the text with other values, and whether it keeps all that was there. Values are put
    into the text as it is, comments and all; where that does not come out right (aliases), the
    whole is written anew."""
    import yaml

    merged, text = content, before
    for key, value in wanted.items():
        merged = merge(merged, nested(key.split("."), value))
    for key, value in reversed(list(wanted.items())):  # each goes above its siblings
        text = _put(text, key.split("."), value)
    with contextlib.suppress(SiteError):
        if before and parse_layer("user", path, text).values == merged:
            return text, True
    return str(yaml.safe_dump(merged, sort_keys=False, allow_unicode=True)), not before


def _put(text: str, keys: list[str], value: Any) -> str:
    """Return a YAML text in which a nested key has a value: in its place, above its siblings, or
    in a section of its own at the end."""
    import yaml

    try:
        node: Any = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        return text
    depth = 0
    while isinstance(node, yaml.MappingNode) and depth < len(keys):
        found = [inner for key, inner in node.value if key.value == keys[depth]]
        if not found:
            break
        node, depth = found[-1], depth + 1
    if depth < len(keys) and not (node is None or isinstance(node, yaml.MappingNode)):
        return text
    if depth == len(keys):
        start, end = node.start_mark.index, node.end_mark.index
        return text[:start] + _scalar(value) + text[end:]
    rest = keys[depth:]
    if node is not None and node.flow_style:
        start, inner = node.start_mark.index + 1, nested(rest[1:], value)
        comma = ", " if node.value else ""
        return f"{text[:start]}{rest[0]}: {_scalar(inner)}{comma}{text[start:]}"
    lines = [f"{'  ' * level}{key}:" for level, key in enumerate(rest)]
    lines[-1] += f" {_scalar(value)}"
    if not depth:  # a section of its own
        end = "" if text.endswith("\n") else "\n"
        return "\n".join([f"{text}{end}{lines[0]}", *lines[1:], ""])
    start, margin = node.start_mark.index, "\n" + " " * node.start_mark.column
    return f"{text[:start]}{margin.join(lines)}{margin}{text[start:]}"


def _scalar(value: Any) -> str:
    import json

    return value if isinstance(value, str) and value.isidentifier() else json.dumps(value)
