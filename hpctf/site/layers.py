"""The layers of a site: who says what, in which file and line, and what comes of all of them.

Package defaults, the admin's folder, the user's folder, the project's ``hpctf.yaml``, the
environment, flags: a later layer wins. Mappings merge key by key; all else is replaced, but for
``locked``, whose lists add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hpctf.errors import SiteError
from hpctf.site.yaml_files import NotReadable, loader_class, named, parse_yaml, read_text

DEEPEST = 6
"""How deep mappings are merged: deeper than the schema goes, and no deeper, since YAML's mappings
may hold themselves."""


@dataclass(frozen=True)
class Origin:
    """Where a value comes from: a file and its line, counted from 1, a variable or an option.

    ``layer`` is ``package``, ``admin``, ``user``, ``file`` (named by its path), ``project``,
    ``environment``, ``flag`` or ``default``.
    """

    layer: str
    where: str
    line: int | None = None

    def __str__(self) -> str:
        return named(Path(self.where), self.line) if self.line else self.where


DEFAULT = Origin("default", "hpctf's default")


@dataclass(frozen=True)
class Layer:
    """What one file, variable or option says: its raw values, as nested mappings.

    ``kind`` and ``where`` are those of its `Origin`, ``text`` the YAML text, for the lines (empty
    for variables and options), ``prefix`` where in it the values lie.
    """

    kind: str
    where: str
    values: dict[Any, Any]
    text: str = ""
    prefix: tuple[str, ...] = ()

    def origin(self, path: Sequence[Any] = ()) -> Origin:
        """Return where the layer says a path, or what lies nearest above it."""
        if not self.text:
            return Origin(self.kind, self.where)
        return Origin(self.kind, self.where, self._line((*self.prefix, *path)))

    @cached_property
    def _nodes(self) -> tuple[Any, Any]:
        loader = loader_class()(self.text)
        return loader, loader.get_single_node()

    def _line(self, path: Sequence[Any]) -> int:
        import yaml

        loader, node = self._nodes
        line = 1
        for part in path:
            if isinstance(node, yaml.MappingNode):
                loader.flatten_mapping(node)  # with what it merges by ``<<``
                pairs = [pair for pair in node.value if pair[0].value == str(part)]
                if not pairs:
                    break
                line, node = pairs[-1][0].start_mark.line + 1, pairs[-1][1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
                if part >= len(node.value):
                    break
                node = node.value[part]
                line = node.start_mark.line + 1
            else:
                break
        return int(line)


def look(values: Any, path: Sequence[Any]) -> tuple[bool, Any]:
    """Return (whether there is something at a path, what it is); numbers are places in lists."""
    for part in path:
        if isinstance(values, dict):
            if part not in values:
                return False, None
            values = values[part]
        elif isinstance(values, list) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            return False, None
    return True, values


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield (path, value) of all that a layer's values set."""
    if isinstance(value, dict) and len(path) < DEEPEST:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


@dataclass(frozen=True)
class Layers:
    """All layers of a site, in the order in which they merge.

    ``name`` is what the site was requested by: a name, or a path; ``first`` the position of the
    first layer that is its own, after those of the site it extends. ``problems`` has a line for
    each variable that makes no layer.
    """

    name: str
    layers: tuple[Layer, ...]
    first: int = 0
    problems: tuple[str, ...] = ()

    def merged(self) -> dict[Any, Any]:
        """Return what comes of all layers."""
        result: dict[Any, Any] = {}
        for layer in self.layers:
            result = merge(result, layer.values)
        return result

    def history(self, path: Sequence[Any]) -> list[tuple[Origin, Any]]:
        """Return who says a path, and what, the first layer first; the last one holds."""
        found = []
        for layer in self.layers:
            says, value = look(layer.values, path)
            if says:
                found.append((layer.origin(path), value))
        return found

    def origin(self, path: Sequence[Any]) -> Origin:
        """Return where the value at a path comes from, or else what lies nearest above it."""
        for end in range(len(path), 0, -1):
            for layer in reversed(self.layers):
                if look(layer.values, path[:end])[0]:
                    return layer.origin(path[:end])
        return self.layers[self.first].origin()


def target_names(layers: Iterable[Layer]) -> list[str]:
    """Return the names of the targets that layers name."""
    found: dict[str, None] = {}
    for layer in layers:
        targets = layer.values.get("targets")
        found |= dict.fromkeys(map(str, targets if isinstance(targets, dict) else ()))
    return list(found)


def merge(lower: dict[Any, Any], upper: dict[Any, Any], depth: int = 0) -> dict[Any, Any]:
    """Return two layers as one."""
    result = dict(lower)
    for key, value in upper.items():
        before, adds_up = result.get(key), depth == 0 and key == "locked"
        if isinstance(before, dict) and isinstance(value, dict) and depth < DEEPEST:
            result[key] = merge(before, value, depth + 1)
        elif adds_up and isinstance(before, list) and isinstance(value, list):
            result[key] = before + [lock for lock in value if lock not in before]
        else:
            result[key] = value
    return result


class Inputs:
    """Reads site files, and keeps what each held: the reason why a kept site may be used again."""

    def __init__(self) -> None:
        self.digests: dict[str, str | None] = {}

    def read(self, path: Path) -> str | None:
        """Return a file's text, or None if there is none. Raises `SiteError` if it is there, and
        cannot be read."""
        try:
            text = read_text(path)
        except FileNotFoundError:
            self.digests[str(path)] = None
            return None
        except NotReadable as error:
            raise SiteError(error.told("site file", path)) from None
        self.digests[str(path)] = digest(text)
        return text


def digest(text: str) -> str:
    """Return what stands for a text among the inputs of a kept site."""
    import hashlib

    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def parse_layer(kind: str, path: Path, text: str, what: str = "a site file") -> Layer:
    """Return the layer that a file's text is. Raises `SiteError` if it is no YAML, or no
    mapping."""
    try:
        raw = parse_yaml(text)
    except NotReadable as error:
        where = named(path, error.line)
        raise SiteError(
            f"{where}: this is not YAML that can be used: {error}.",
            "Correct the line; hpctf site validate FILE checks the whole file.",
        ) from None
    if not isinstance(raw, dict):
        raise SiteError(f"{named(path, 1)}: {what} is a mapping such as 'name: my-cluster'.")
    see_templates_from(path.absolute().parent, raw)
    return Layer(kind, str(path), raw, text)


def nested(path: Sequence[str], value: Any) -> Any:
    """Return a mapping in which a path has a value; without a path, the value."""
    for part in reversed(path):
        value = {part: value}
    return value


def see_templates_from(folder: Path, values: dict[Any, Any]) -> None:
    """Make a relative template folder absolute; ``~`` is expanded when the site is used."""
    templates = values.get("templates")
    if isinstance(templates, str) and not templates.startswith("~"):
        values["templates"] = str(folder / templates)
