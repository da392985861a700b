"""A store, a folder of wheels and a site for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.stand_in_wheels import make_site, make_wheels


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheels that stand in for TensorFlow and what people add."""
    return make_wheels(tmp_path_factory.mktemp("wheels"))


@pytest.fixture
def site(tmp_path: Path, wheels: Path) -> Path:
    """The file of a site without network, whose packages are those wheels."""
    return make_site(tmp_path, wheels)
