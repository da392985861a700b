"""`hpctf docs`: pages in a pipe, in a terminal and in a browser."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hpctf.manual.html import write_pages
from hpctf.manual.pages import pages
from tests.conftest import ROOT
from tests.support.projects import hpctf
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


def test_in_a_pipe_a_page_is_its_markdown(tmp_path: Path) -> None:
    done = hpctf("docs", "job-files", cwd=tmp_path)
    assert done.stdout == (ROOT / "docs/job-files.md").read_text()


def test_without_a_page_all_are_listed_by_section(tmp_path: Path) -> None:
    done = hpctf("docs", cwd=tmp_path)
    assert re.search(r"^How-to guides\n(  .+\n)*  tuning +Tuning$", done.stdout, re.MULTILINE)
    assert "hpctf docs --search" in done.stderr


def test_a_search_names_pages_and_lines(tmp_path: Path) -> None:
    done = hpctf("docs", "--search", "early termination", cwd=tmp_path)
    assert done.stdout.startswith("tuning: ")
    nothing = hpctf("docs", "--search", "xyzzy", cwd=tmp_path)
    assert (nothing.returncode, nothing.stdout) == (2, "") and "'xyzzy'" in nothing.stderr


@pytest.fixture
def display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A browser that writes down the address that it is to open."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{browser} %s")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "opened"


def test_where_there_is_a_browser_the_page_is_opened_there(tmp_path: Path, display: Path) -> None:
    terminal = Terminal("docs", "tuning#where-a-study-is-kept", cwd=tmp_path)
    assert terminal.ends() == 0
    wait_until(display.exists)
    address = urlsplit(display.read_text().strip())
    assert address.fragment == "where-a-study-is-kept"
    assert 'id="where-a-study-is-kept"' in Path(address.path).read_text()


def test_a_login_node_without_a_browser_shows_the_page_in_a_pager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PAGER", "cat")
    terminal = Terminal("docs", "job-files", cwd=tmp_path)
    assert terminal.ends() == 0
    assert b"Job files" in terminal.sent and b"# Job files" not in terminal.sent


def test_html_pages_link_to_each_other_and_show_their_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = write_pages()
    assert len([*folder.rglob("*.html")]) == len(pages())
    for path in folder.rglob("*.html"):
        for link in re.findall(r'(?:href|src)="([^"]+)"', path.read_text()):
            target = urlsplit(link)
            if target.scheme in ("http", "https"):
                continue
            file = Path(os.path.normpath(path.parent / target.path)) if target.path else path
            assert file.exists(), f"{path.name}: {link}"
            if target.fragment:
                assert f'id="{target.fragment}"' in file.read_text(), f"{path.name}: {link}"
