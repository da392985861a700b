"""Slow work shows how far it has come, and quick work shows nothing."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator

import pytest

from hpctf.common import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def shown_nowhere_afterwards() -> Iterator[None]:
    yield
    progress.show_on(None)


def of(stream: io.StringIO, **more: object) -> str:
    progress.show_on(stream)
    assert list(progress.followed([100, 200, 300], "Copying", **more)) == [100, 200, 300]
    return stream.getvalue()


def test_quick_work_and_a_library_show_nothing() -> None:
    assert of(io.StringIO()) == of(Terminal()) == ""
    progress.show_on(None)
    assert list(progress.followed([1, 2], "Copying")) == [1, 2]


def test_in_a_pipe_a_line_tells_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_AFTER_S", 0.0)
    monkeypatch.setattr(progress, "_EVERY_S", 0.0)

    assert of(io.StringIO()) == "Copying: 33 %\nCopying: 66 %\n"
    assert of(io.StringIO(), size=int) == "Copying: 16 %\nCopying: 50 %\n"


def test_on_a_terminal_a_bar_comes_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_AFTER_S", 0.0)

    said = of(Terminal(), size=int)

    assert "Copying" in said and "600 bytes" in said
    assert said.endswith("\x1b[2K") or "\x1b[?25h" in said


def test_a_bar_has_colors_unless_there_is_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_AFTER_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    color = re.compile(r"\x1b\[(?:\d*;)*[349]\d[;m]")
    assert color.search(of(Terminal()))

    monkeypatch.setenv("NO_COLOR", "1")
    assert not color.search(of(Terminal()))


def test_what_is_said_meanwhile_stands_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_AFTER_S", 0.0)
    stream = Terminal()
    progress.show_on(stream)

    for number in progress.followed([1, 2, 3], "Copying"):
        for _ in progress.followed([1, 2, 3], "Within"):
            pass
        print(f"Copied {number}", file=sys.stderr)

    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue()).replace("\r", "\n")
    assert {"Copied 2", "Copied 3"} <= set(lines.split("\n"))
    after = stream.getvalue().partition("Copied 2")[2]
    assert "Copying" in after and "Within" not in after


def test_work_that_fails_takes_its_bar_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_AFTER_S", 0.0)
    stream = Terminal()
    progress.show_on(stream)

    with pytest.raises(RuntimeError):
        for item in progress.followed([1, 2, 3], "Copying"):
            if item == 3:
                raise RuntimeError

    assert "\x1b[?25h" in stream.getvalue()
