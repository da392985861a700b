"""Which inputs the nodes get copies of, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpctf.errors import UsageError
from hpctf.plan import Staging

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.site.model import Site


def staging_of(estimator: TensorFlow, site: Site) -> Staging | None:
    """Return what the nodes get copies of; None for nothing.

    Raises
    ------
    UsageError
        The container would not see the copies.
    """
    if not estimator.stage:
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
    )


def _check_visible(folder: str) -> None:
    """Refuse what srun cannot mount: it needs the folder's name before the job runs."""
    if "$" in folder:
        raise UsageError(
            f"stage: a container of Pyxis's cannot see staging.folder, which is {folder!r}: its "
            "name is known only once the job runs.",
            "Set staging.folder to a path without variables (--set staging.folder=/local), or use "
            "--input in place of --stage.",
        )
