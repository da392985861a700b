"""Notes are lines on stderr, or records of the logger ``hpctf`` where a program configures one."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest

from hpctf.common.notes import notify
from hpctf.site.discovery import find_project
from tests.conftest import ROOT, run_python


@pytest.fixture
def suspicious(tmp_path: Path) -> Path:
    """A source folder with an ``hpctf.yaml`` that everybody may write: a note says so."""
    (tmp_path / "hpctf.yaml").touch()
    (tmp_path / "hpctf.yaml").chmod(0o666)
    return tmp_path


@pytest.mark.parametrize(
    ("configured", "line"),
    [
        ("", "note: {path!r} is ignored: "),
        ("logging.basicConfig()", "WARNING:hpctf:{path!r} is ignored: "),
        ("logger.addHandler(logging.StreamHandler())", "{path!r} is ignored: "),
        ("logger.addHandler(logging.NullHandler())", ""),
        ("logger.setLevel(logging.ERROR)", ""),
        ("logging.disable()", ""),
    ],
)
def test_logging_routes_notes_and_silences_them(
    suspicious: Path, configured: str, line: str
) -> None:
    path = str(suspicious / "hpctf.yaml")
    code = f"""import logging; logger = logging.getLogger("hpctf"); {configured}
from hpctf.site.discovery import find_project
assert find_project({str(suspicious)!r}) is None"""
    done = run_python("-c", code)
    assert done.returncode == 0 and done.stdout == ""
    assert done.stderr.startswith(line.format(path=path))
    assert done.stderr.count("\n") == bool(line)


def test_a_note_is_a_record(suspicious: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert find_project(suspicious) is None
    ((logger, level, message),) = caplog.record_tuples
    assert (logger, level) == ("hpctf", logging.WARNING)
    assert message.startswith(repr(str(suspicious / "hpctf.yaml")))


def test_a_note_hides_secrets_and_takes_percent_signs_as_they_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notify("100 %s of https://me:hunter2@example.org")
    assert caplog.messages[0].startswith("100 %s of https://")
    assert "hunter2" not in caplog.text


def test_nothing_notes_past_the_logger() -> None:
    said = set()
    for path in (ROOT / "hpctf").rglob("*.py"):
        name = path.relative_to(ROOT / "hpctf")
        if name.parts[0] not in ("node", "client", "startup"):
            texts = [one for one in ast.walk(ast.parse(path.read_text())) if _is_note(one)]
            said |= {str(name)} if texts else set()
    assert said == {"common/notes.py"}


def _is_note(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and str(node.value).lower().startswith("note: ")


def test_any_handler_can_write_a_note(caplog: pytest.LogCaptureFixture) -> None:
    notify("the file \udce9\x1b[2J is not UTF-8")
    assert caplog.messages == ["the file \\xe9\\x1b[2J is not UTF-8"]
