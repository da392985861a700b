"""What a first site file is made of: settings, each with its source, and what is not known."""

from __future__ import annotations

from dataclasses import dataclass


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
