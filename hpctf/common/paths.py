"""Where the files that come with hpctf lie: templates, site configurations, pages of the
documentation, the node's scripts.

``hpctf/templates``, ``hpctf/site-configs`` and ``hpctf/docs`` are links to the project's top level,
and real folders in a wheel: a checkout, an editable install and a wheel find them under one path.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # not typing's: importing it costs each rank 8 ms
if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TEMPLATES = os.path.join(PACKAGE, "templates")
SITE_CONFIGS = os.path.join(PACKAGE, "site-configs")
DOCS = os.path.join(PACKAGE, "docs")
"""Folder of the documentation's pages; see `hpctf.manual`."""
NODE_START = os.path.join(PACKAGE, "node", "start.py")
NODE_CALL = os.path.join(PACKAGE, "node", "function_call.py")
NODE_SERVER = os.path.join(PACKAGE, "node", "server.py")
AGENT_START = os.path.join(PACKAGE, "tuning", "agent", "start.py")
SCORING_START = os.path.join(PACKAGE, "scoring", "agent", "start.py")
SCORING_WORKER = os.path.join(PACKAGE, "scoring", "worker")
"""Folder of what scores rows, which goes along in a run's snapshot."""
EXPORT_SCRIPTS = os.path.join(PACKAGE, "models", "export", "scripts")
"""Folder of what loads models in the environments that made them."""
ENVIRONMENT_JOB = os.path.join(PACKAGE, "environment", "build_job.py")
SERVICE_START = os.path.join(PACKAGE, "serving", "server", "start.py")
SERVICE_ENTRY = os.path.join(PACKAGE, "serving", "entry", "start.py")
SERVICE_SUCCESSOR = os.path.join(PACKAGE, "serving", "successor.py")
LOCKS = os.path.join(PACKAGE, "environment", "locks")
CLIENT = os.path.join(PACKAGE, "client")
"""Folder of the ``hpctf`` that training scripts import; see `hpctf.client`."""
STARTUP = os.path.join(PACKAGE, "startup")
"""Folder of what each Python of a training reads first; see `hpctf.startup`."""


def cache_folder() -> Path:
    """Return the user's folder of what can be made again: checked sites, compiled templates."""
    return _own("user_cache_dir")


def config_folder() -> Path:
    """Return the user's folder of settings."""
    return _own("user_config_dir")


def _own(kind: str) -> Path:
    """Return a folder of the user's; where nobody knows a home, one that can never be there."""
    from pathlib import Path

    import platformdirs

    try:
        folder = Path(getattr(platformdirs, kind)("hpctf"))
    except RuntimeError:  # neither HOME nor the password database names one
        folder = Path()
    return folder if folder.is_absolute() else Path(os.devnull, "hpctf")


def without_tilde(what: str, path: str) -> str:
    """Return a path with variables and ``~`` expanded; a home that nobody knows is refused."""
    from hpctf.errors import UsageError, shown

    found = os.path.expanduser(os.path.expandvars(path))
    if found.startswith("~"):
        raise UsageError(
            f"{what} {shown(path)} lies in a home that nobody knows here: neither HOME nor the "
            "password database names it.",
            "Set HOME, or name an absolute path.",
        )
    return found
