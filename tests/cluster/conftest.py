"""Makes the ``cluster`` fixture known to the tests in this directory."""

from __future__ import annotations

from .fixture import cluster

__all__ = ["cluster"]
