"""What the tests of pages rest upon: the browser tells what a page asks for and what fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.browser import PHONE, tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_a_page_is_shown_in_the_size_and_scheme_asked_for(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<style>@media (prefers-color-scheme: dark) { body { color: white } }</style>")
    with tab(browser, page, viewport=PHONE, color_scheme="dark") as opened:
        assert opened.page.evaluate("innerWidth") == PHONE["width"]
        colour = opened.page.evaluate("getComputedStyle(document.body).color")
        assert colour == "rgb(255, 255, 255)"
        assert (opened.requests, opened.errors) == ([], [])


def test_requests_and_errors_of_a_page_are_told(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    (tmp_path / "other.js").write_text("console.error('from the script')")
    page.write_text("<script src='other.js'></script><script>missing()</script>")
    with tab(browser, page) as opened:
        assert opened.requests == [(tmp_path / "other.js").as_uri()]
        assert "from the script" in opened.errors
        assert any("missing is not defined" in error for error in opened.errors)
