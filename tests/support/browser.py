"""A real browser, to look at pages as people do: Debian's Chromium, without a window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import HANGS_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = "/usr/bin/chromium"
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium, and end it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Its sandbox needs rights that root in a container has not; it opens our own pages alone.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for one file's tests: while it is open, asyncio.run is refused in this process."""
    if shutil.which(CHROMIUM) is None:
        from tests.conftest import skip_or_fail

        skip_or_fail("Debian's chromium is not installed")
    with chromium() as started:
        yield started


@dataclass
class Tab:
    """An open page, and all that went wrong in it.

    ``requests`` are the addresses that it asked for besides its own, ``errors`` what its console
    said of errors and warnings, and exceptions that nobody caught.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextmanager
def tab(browser: Browser, address: str | Path, **options: Any) -> Iterator[Tab]:
    """Open a page, and close it; when a test fails, print what stood there.

    Parameters
    ----------
    address
        A URL, or the path of a file.
    options
        Playwright's for a context: ``viewport``, ``color_scheme``, ``has_touch`` ...
    """
    url = address.absolute().as_uri() if isinstance(address, Path) else address
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    context.set_default_timeout(HANGS_S * 1000)
    opened = Tab(context.new_page())
    page = opened.page
    page.on("request", lambda asked: _note_request(opened, asked.url, url))
    page.on("pageerror", lambda error: opened.errors.append(str(error)))
    page.on("console", lambda said: _note_error(opened, said.type, said.text))
    try:
        page.goto(url)
        yield opened
    except Exception:
        print("the page:", page.evaluate("document.body.innerText"), *opened.errors, sep="\n")
        raise
    finally:
        context.close()


def _note_request(opened: Tab, asked: str, own: str) -> None:
    if asked != own and not asked.startswith(("data:", "blob:")):
        opened.requests.append(asked)


def _note_error(opened: Tab, kind: str, text: str) -> None:
    if kind in ("error", "warning"):
        opened.errors.append(text)
