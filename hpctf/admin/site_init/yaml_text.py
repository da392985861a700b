"""What a first site file is made of, and its text: the source of each setting in a comment."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

_WIDTH = 100


@dataclass(frozen=True)
class Line:
    """One setting of the file.

    ``path`` are its keys from the top, such as ``("mpi", "plugin")``, ``source`` is where it comes
    from: the comment behind it. Unless it is ``active``, it stands in the file as a comment, for
    the reader to choose.
    """

    path: tuple[str, ...]
    value: object
    source: str
    active: bool = True


@dataclass(frozen=True)
class Missing:
    """Something that could not be found out, and how a person can."""

    what: str
    how: str

    def __str__(self) -> str:
        return f"{self.what}: {self.how}"


@dataclass(frozen=True)
class Draft:
    """A site file to be: its settings in order, and what is missing in it."""

    lines: tuple[Line, ...]
    missing: tuple[Missing, ...]
    heading: tuple[str, ...] = ()


def text_of(draft: Draft) -> str:
    """Return the file's text: the heading, what is missing, and the settings."""
    made = [_comment(line) for line in draft.heading]
    if draft.missing:
        made += ["#", "# What could not be found out, and how you can:"]
    for one in draft.missing:
        words = _printable(str(one))
        made += textwrap.wrap(words, _WIDTH, initial_indent="# - ", subsequent_indent="#   ")
    return "\n".join([*made, "", *_settings(draft.lines)]) + "\n"


def _settings(lines: tuple[Line, ...]) -> list[str]:
    """Write settings below the keys that they share; a section of which nothing is active is a
    comment as a whole, since a key without a value would be null."""
    used = {line.path[:depth] for line in lines if line.active for depth in range(len(line.path))}
    made: list[str] = []
    opened: tuple[str, ...] = ()
    for line in lines:
        sections = line.path[:-1]
        if sections[:1] != opened[:1]:
            made.append("")
        for depth, key in enumerate(sections):
            if opened[: depth + 1] != sections[: depth + 1]:
                made.append(_row(depth, f"{_plain(key)}:", sections[: depth + 1] in used))
        opened = sections
        words = f"{_plain(line.path[-1])}: {_plain(line.value)}"
        row = _row(len(sections), words, line.active, inside=sections in used)
        made.append(f"{row}  {_comment(line.source)}")
    return made


def _row(depth: int, words: str, active: bool, inside: bool = False) -> str:
    indent = "  " * depth
    if active:
        return f"{indent}{words}"
    return f"{indent}# {words}" if inside else f"# {indent}{words}"


def _plain(value: object) -> str:
    """Return a value in YAML's flow style, on one line."""
    import yaml

    dumped: str = yaml.safe_dump(value, default_flow_style=True, width=1_000_000)
    return dumped.removesuffix("...\n").strip()


def _comment(words: str) -> str:
    return f"# {_printable(words)}".rstrip()


def _printable(words: str) -> str:
    """Return words without what would end a comment's line, or is not to be seen."""
    return " ".join("".join(c if c.isprintable() else " " for c in words).split())
