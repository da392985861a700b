"""The site as a person names it: a name or file, and the keys that they set."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctf.estimator.request import as_json
from hpctf.site.discovery import is_path
from hpctf.site.loading import default_name, load_site
from hpctf.site.model import Site
from hpctf.site.settings import Settings


@dataclass(frozen=True)
class ChosenSite:
    """A site by the words that it was requested with, so that they can be said again.

    Parameters
    ----------
    name
        A site's name or file; None: HPCTF_SITE, the project's or the usual one.
    settings
        Keys that are set over all else.
    project
        The folder whose ``hpctf.yaml`` counts.
    keep
        Whether what has been checked may be kept (`hpctf.site.loading.load_site`).
    """

    name: str | os.PathLike[str] | None = None
    settings: Settings | None = None
    project: Path | None = None
    keep: bool = True

    def load(self) -> Site:
        """Return the site as it is now."""
        return load_site(self.name, settings=self.settings, project=self.project, keep=self.keep)

    def as_json(self) -> dict[str, Any]:
        """Return it for the record: a file by its absolute path."""
        name = os.fspath(self.name or os.environ.get("HPCTF_SITE") or default_name(self.project))
        path = os.path.abspath(os.path.expanduser(name)) if is_path(name) else name
        return {"site": path, "settings": as_json(self.settings or [])}
