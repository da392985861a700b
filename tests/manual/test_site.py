"""The documentation as a site: it builds without a warning, and is read without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT, skip_or_fail
from tests.support.browser import tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``make docs`` writes; a warning, such as a link that leads nowhere, is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
    )
    if "No module named mkdocs" in done.stderr:
        skip_or_fail("MkDocs is not installed: make .venv/.test")
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_site_has_every_page_and_the_generated_parts(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    for page in pages:
        name = page.with_suffix(".html") if page.stem != "README" else page.parent / "index.html"
        assert (site / name).is_file(), page
    assert "--max-restarts" in (site / "reference/command-line.html").read_text()
    assert "targets.NAME.gpus" in (site / "reference/site-keys.html").read_text()

    api = (site / "reference/python.html").read_text()
    assert "wait_for_completion" in api
    assert "pip_packages" in api and "{parameters}" not in api, "what is filled in as it is loaded"


def test_the_site_searches_and_loads_nothing_from_elsewhere(site: Path, browser: Browser) -> None:
    with tab(browser, site / "index.html") as here:
        page = here.page
        page.locator("[data-md-component=search-query]").first.click()
        page.keyboard.type("early termination")
        found = page.locator(".md-search-result__link").first
        found.wait_for()
        assert "tuning.html" in str(found.get_attribute("href"))
        assert [url for url in here.requests if not url.startswith("file:")] == []
        assert here.errors == []
