"""Somebody with two registered models, on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpctf import Model
from tests.conftest import skip_or_fail
from tests.support.built import SITE, own_environment

RECORDED = Path(__file__).resolve().parents[1] / "support/recorded"
"""Models made with onnx.helper (its README says how)."""


@dataclass(frozen=True)
class Here:
    """Somebody's folder, with models in ``runs``."""

    home: Path

    @property
    def env(self) -> dict[str, str]:
        return {"HPCTF_RUNS_ROOT": str(self.home / "runs"), "HPCTF_SITE": str(SITE)}

    @property
    def place(self) -> dict[str, Any]:
        """Where commands run."""
        return {"cwd": self.home, "env": self.env}


@pytest.fixture(scope="session")
def scoring_python() -> str:
    """The interpreter of hpctf's own environment that scores."""
    try:
        return own_environment("scoring")
    except Exception as error:
        skip_or_fail(f"the environment that scores cannot be made: {error}")
        raise


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scoring_python: str) -> Here:
    found = Here(tmp_path)
    for name, value in found.env.items():
        monkeypatch.setenv(name, value)
    for name in ("linear", "two"):
        Model.register(RECORDED / f"{name}.onnx", name)
    return found
