"""Which MLflow store is meant, and whether its server answers at all."""

from __future__ import annotations

import urllib.error
import urllib.request

from hpctf.common.secrets import without_credentials
from hpctf.errors import ExportError

DEFAULT_URI = "sqlite:///mlflow.db"
"""MLflow's own default since 3.7; its folder store (``./mlruns``) is in maintenance mode only."""

_PATIENCE_S = 10.0


def reachable(uri: str) -> None:
    """Ask a server for a sign of life, at once; whatever it answers is one.

    Raises
    ------
    ExportError
        It gave none. MLflow itself would try again for minutes.
    """
    if not uri.startswith(("http://", "https://")):
        return
    server = without_credentials(uri)
    try:
        urllib.request.urlopen(f"{server.rstrip('/')}/health", timeout=_PATIENCE_S)
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError) as error:
        raise ExportError(
            f"The MLflow server at {server} cannot be reached: {getattr(error, 'reason', error)}.",
            "Start it (mlflow server), name another one (--to), or export to a file: "
            f"--to {DEFAULT_URI}",
        ) from None


def look_at(uri: str) -> str:
    """Return how to look at what lies there."""
    if uri.startswith(("http://", "https://")):
        return f"look at it: {uri}"
    return f"look at it: mlflow ui --backend-store-uri {uri}"
