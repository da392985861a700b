"""Which folders of the host a container sees."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpctf.common.paths import PACKAGE
from hpctf.errors import UsageError

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.site.model import Site


@dataclass(frozen=True)
class Bind:
    """A folder or file of the host's, and where a container sees it.

    ``ours`` tells whether hpctf binds it of itself, rather than the site.
    """

    source: str
    target: str
    read_only: bool = False
    ours: bool = True

    @property
    def words(self) -> str:
        """``SOURCE:TARGET``, with ``:ro`` where it is read-only."""
        return f"{self.source}:{self.target}{':ro' if self.read_only else ''}"


def binds_of(estimator: TensorFlow, site: Site, run_folder: str) -> list[Bind]:
    """Return what a training must see, each folder once.

    Raises
    ------
    UsageError
        A path that no option of a container's runtime can name.
    """
    binds = [_own(run_folder), _own(PACKAGE, read_only=True)]
    binds += [_own(path) for path in estimator.inputs.values()]
    if estimator.stage and site.containers.runtime == "pyxis":
        binds.append(_own(site.staging.folder))
    binds += [_of_site(path) for path in site.containers.binds]
    made: dict[str, Bind] = {}
    for bind in binds:
        made.setdefault(bind.target, bind)
    return list(made.values())


def _own(path: str, *, read_only: bool = False) -> Bind:
    if "," in path or ":" in path:
        raise _unnameable(path)
    return Bind(path, path, read_only)


def _of_site(words: str) -> Bind:
    words = os.path.expandvars(os.path.expanduser(words))
    source, *more = words.split(":")
    if "," in words or len(more) > 2:
        raise _unnameable(words)
    target = more[0] if more else source
    return Bind(source, target, read_only=more[1:] == ["ro"], ours=False)


def _unnameable(path: str) -> UsageError:
    return UsageError(
        f"{path!r} cannot be seen in a container: commas and colons part the folders of --bind.",
        "Reach it by a link without them, or run without a container.",
    )
