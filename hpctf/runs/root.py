"""Where a site's runs lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hpctf.run_folder.layout import check_root

if TYPE_CHECKING:
    from hpctf.site.model import Site


def runs_root_of(site: Site | str | None, runs_root: str | os.PathLike[str] | None = None) -> Path:
    """Return the runs root: the argument, HPCTF_RUNS_ROOT, or the site's.

    A site that is given by name is read only if it must say.

    Raises
    ------
    SiteError
        The site has locked its runs root, and another one is requested.
    """
    chosen = runs_root or os.environ.get("HPCTF_RUNS_ROOT")
    if not chosen or not isinstance(site, (str, type(None))):
        from hpctf.site.loading import load_site
        from hpctf.site.locks import refuse_locked
        from hpctf.site.model import Site

        found = site if isinstance(site, Site) else load_site(site)
        if chosen and os.fspath(chosen) != found.runs_root:
            refuse_locked(found, "runs_root", "runs_root=" if runs_root else "HPCTF_RUNS_ROOT")
        chosen = chosen or found.runs_root
    return check_root(os.fspath(chosen))
