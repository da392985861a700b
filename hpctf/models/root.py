"""Where a site's models lie."""

from __future__ import annotations

import os
from pathlib import Path

from hpctf.run_folder.layout import check_root
from hpctf.runs.root import runs_root_of
from hpctf.site.loading import load_site
from hpctf.site.locks import refuse_locked
from hpctf.site.model import Site

FOLDER = ".models"
"""Folder of the runs root in which models lie where the site names no other place."""


def models_root_of(
    site: Site | str | None, models_root: str | os.PathLike[str] | None = None
) -> Path:
    """Return the models root: the argument, HPCTF_MODELS_ROOT, the site's, or `FOLDER` in the runs
    root.

    Raises
    ------
    SiteError
        The site has locked its models root, and another one is requested.
    """
    found = site if isinstance(site, Site) else load_site(site)
    chosen = models_root or os.environ.get("HPCTF_MODELS_ROOT")
    if chosen and os.fspath(chosen) != found.models_root:
        how = "models_root=" if models_root else "HPCTF_MODELS_ROOT"
        refuse_locked(found, "models_root", how)
    chosen = chosen or found.models_root
    if not chosen:
        return runs_root_of(found) / FOLDER
    return check_root(os.fspath(chosen), "models_root")
