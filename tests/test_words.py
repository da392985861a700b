"""No phrase over which a native reader stumbles comes back: in pages, help texts and messages."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

from tests.conftest import ROOT

BANNED = {
    r"\btold\b": "says, shows, names",
    r"\basked for\b(?!\" means)": "requested",
    r"\bof then\b": "of that time",
    r"\bwhat there is\b": "list ...",
    r"\bgoes? with (the|a) run\b": "is part of the run",
    r"\btrainings\b": "training runs, jobs",
    r"\b[Aa] training (?!run|script|job|set|environment|loop|step|process|data|Python)": "a run",
    r"\bputs? (?:it |them |runs? )?away\b": "archive",
    r"\b[Tt]ell\w* (?:\w+ ){0,3}apart\b": "compare",
    r"\b(?:to|can|cannot|could|not) be had\b": "is (not) available",
    r"\b(?:it|that|this|which) is no (?!longer|different|more|other)": "is not a",
    r"\bany more\b(?! than)": "no longer",
    r"\bnot here\b": "no longer exists, is missing",
    r"\bfor want of\b": "for lack of, out of",
    r"\b[Oo]n the mean\b|\bin the mean\b": "on average",
    r"\bNobody is there\b": "stdin is not a terminal",
    r"\b(?:processes|GPUs|ranks|workers|slots|CPUs|worker|process|rank) a (?:node|GPU)\b": "per",
    r"\b(?:line|row|record|panel|picture|file) a (?:run|second|metric|line|part)\b": "per",
    r"\bbelongs? into\b": "belongs in",
    r"\bagain for more\b": "can be repeated",
    r"\bin (?:its|their) stead\b": "instead",
    r"\bin the place of\b": "instead of",
    r"\bgo(?:es)? on\b": "continues",
    r"\bpassed over\b": "skipped, ignored",
    r"\bin all that\b|\ball that (?:it|they|hpctf) ": "everything",
    r"\b[Ss]ay --|\bsays? so (?:by|with) --": "Pass --",
    r"\bsee(?:s)? to it\b": "makes sure",
    r"\bno known\b": "unknown",
}
"""Patterns, each with what to write instead (style: active voice, one clause per sentence)."""

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def found_in(text: str) -> list[str]:
    """Return the phrases of a text that are banned, with what to write."""
    text = " ".join(text.split())
    return [
        f"{match.group(0)!r} in {text[max(0, match.start() - 40) : match.end() + 30]!r}: {instead}"
        for pattern, instead in BANNED.items()
        for match in re.finditer(pattern, text)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_are_in_plain_words(page: Path) -> None:
    assert found_in(page.read_text()) == []


def texts_of(path: Path) -> Iterator[str]:
    """Yield what a module says to people: its strings of several words, docstrings of commands."""
    tree = ast.parse(path.read_text())
    helps = {id(node.body[0]) for node in ast.walk(tree) if _is_command(node)}
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and id(node) not in helps
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value for part in node.values if isinstance(part, ast.Constant)]
            yield "…".join(map(str, parts))
        elif isinstance(node, ast.Constant) and id(node) not in docstrings:
            yield str(node.value)


def _is_command(node: ast.AST) -> TypeGuard[ast.FunctionDef]:
    """Whether a node is a command's function, whose docstring is its help text."""
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return any(re.search(r"\b(command|group)\b", ast.unparse(one)) for one in decorators)


def modules_with_phrases() -> dict[str, list[str]]:
    """Return the modules of hpctf with banned phrases in what they say."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "hpctf").rglob("*.py")):
        phrases = [phrase for text in texts_of(path) for phrase in found_in(text)]
        if phrases:
            found[str(path.relative_to(ROOT))] = phrases
    return found


def test_messages_and_help_texts_are_in_plain_words() -> None:
    assert modules_with_phrases() == {}
