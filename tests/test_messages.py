"""Every error says what to do about it: in a hint, or in its own sentence."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import hpctf.errors
from tests.conftest import ROOT

ERRORS = {
    name
    for name, error in vars(hpctf.errors).items()
    if isinstance(error, type) and issubclass(error, hpctf.errors.HpctfError)
}
SAYS_WHAT_TO_DO = re.compile(
    r"\b(?:must|needs?|use|pass|takes?|give|name)\b|hpctf \w|such as|did_you_mean|--\w",
    re.IGNORECASE,
)


def errors_without_hint(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and message of each error that is made with a message of its own alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        alone = len(node.args) == 1 and not node.keywords
        written_here = alone and isinstance(node.args[0], ast.Constant | ast.JoinedStr)
        if node.func.id in ERRORS and written_here:
            yield node.lineno, ast.unparse(node.args[0])


@pytest.mark.parametrize(
    "path", sorted((ROOT / "hpctf").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_an_error_says_what_to_do(path: Path) -> None:
    without = [one for one in errors_without_hint(path) if not SAYS_WHAT_TO_DO.search(one[1])]
    assert without == [], "add a hint: what to do about it"
