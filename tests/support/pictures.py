"""``--pictures`` writes docs/pictures from what the tests see."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT

PICTURES = ROOT / "docs/pictures"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--pictures``."""
    parser.addoption("--pictures", action="store_true", help="write docs/pictures from this run")


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where pictures of pages go: to the docs if they are asked for, else nowhere that stays."""
    return PICTURES if request.config.getoption("--pictures", default=False) else tmp_path
