"""Which inputs the nodes get copies of, and where."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hpctf.errors import UsageError
from hpctf.plan import Staging

if TYPE_CHECKING:
    from hpctf.environment.activation import Entering
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.site.model import Site


def staging_of(estimator: TensorFlow, site: Site, entering: Entering) -> Staging | None:
    """Return what the nodes get copies of; None for nothing.

    Raises
    ------
    UsageError
        The container would not see the copies, or hpctf builds no environment that could be staged.
    """
    kind = _kind(estimator, site, entering)
    if not estimator.stage and not kind:
        return None
    settings = site.staging
    if estimator.container is not None and site.containers.runtime == "pyxis":
        _check_visible(settings.folder)
    return Staging(
        {name: estimator.inputs[name] for name in estimator.stage},
        folder=settings.folder,
        keep=settings.keep,
        compare=settings.compare,
        fallback=settings.fallback,
        environment=os.path.dirname(entering.python.partition("/bin/python")[0]) if kind else "",
        environment_kind=kind,
    )


def _kind(estimator: TensorFlow, site: Site, entering: Entering) -> str:
    """Return what image of the environment nodes get: ``squashfs``, ``tar`` or none."""
    wanted, of_site = estimator.stage_environment, site.environments.stage
    if wanted and not entering.environment:
        raise UsageError(
            "stage_environment (--stage-env) is for environments that hpctf builds, and this run "
            "has another one.",
            "Name the packages (--pip, --framework-version), or leave --stage-env out.",
        )
    if wanted is False or not entering.environment:
        return ""
    if of_site == "off":
        return "squashfs" if wanted else ""
    return of_site


def _check_visible(folder: str) -> None:
    """Refuse what srun cannot mount: it needs the folder's name before the job runs."""
    if "$" in folder:
        raise UsageError(
            f"stage: a container of Pyxis's cannot see staging.folder, which is {folder!r}: its "
            "name is known only once the job runs.",
            "Set staging.folder to a path without variables (--set staging.folder=/local), or use "
            "--input in place of --stage.",
        )
