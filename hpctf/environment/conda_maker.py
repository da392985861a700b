"""Which way a site's conda environments are made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpctf.common.processes import user_name
from hpctf.common.trusted_path import check
from hpctf.environment.build_commands import Commands
from hpctf.environment.conda import Conda, find_conda
from hpctf.environment.indexes import Indexes
from hpctf.environment.rattler import RATTLER, Rattler
from hpctf.environment.store import CACHE, Store
from hpctf.site.model import Site


def conda_maker(
    site: Site,
    store: Store,
    commands: Commands,
    indexes: Indexes,
    work: Path,
    configuration: Mapping[str, Any],
) -> Conda | Rattler:
    """Return what makes conda environments: the site's program, or py-rattler.

    Raises
    ------
    SiteError, UntrustedPath
        As `find_conda`.
    """
    program = find_conda(site.environments, commands, store.trusted)
    offline = site.environments.offline
    if program != RATTLER:
        return Conda(program, commands, indexes, offline, work, configuration)
    cache = store.make(CACHE) / f"conda-{user_name()}"
    check(cache, "py-rattler's cache", store.trusted)
    return Rattler(commands, indexes, offline, work, configuration, cache, store.trusted)
