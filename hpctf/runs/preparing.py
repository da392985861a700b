"""Making a run's environment before the run: here, or in a job that the run waits for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hpctf.errors import SiteError

if TYPE_CHECKING:
    from hpctf.planner import Planned
    from hpctf.site.model import Site


def prepare(planned: Planned, site: Site, tell: Callable[[str], None]) -> None:
    """Have the run's environment there, or refuse the run.

    Raises
    ------
    SiteError
        There is no such environment.
    """
    if planned.spec is None:
        return
    from hpctf.environment.store import Store

    if not Store(site).is_ready(planned.spec):
        raise SiteError(
            f"The environment {planned.spec.key} is not in the store of site {site.name!r}.",
            "Name the interpreter of an environment that is there (--python).",
        )
