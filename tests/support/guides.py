"""Pages that tests carry out: fenced blocks that say what is to be done with them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what is to be done with it, and its lines."""

    language: str
    task: str
    body: str
    line: int

    @property
    def commands(self) -> list[str]:
        lines = self.body.splitlines()
        assert all(line.startswith("$ ") for line in lines), f"line {self.line}: commands alone"
        return [line[2:] for line in lines]


def blocks(text: str) -> Iterator[Block]:
    form = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    for found in form.finditer(text):
        yield Block(found[1], found[2] or "", found[3], text.count("\n", 0, found.start()) + 1)
