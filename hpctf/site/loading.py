"""Loading a site, and keeping what has been checked once."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from hpctf._version import __version__
from hpctf.common.command_line import check_path
from hpctf.common.files import PRIVATE_FILE, read_json, write_json
from hpctf.common.paths import cache_folder
from hpctf.common.trusted_path import is_own
from hpctf.errors import UsageError, did_you_mean, shown
from hpctf.site import model
from hpctf.site.discovery import (
    SiteQuery,
    check_site_file,
    find_layers,
    find_project,
    folders,
    is_path,
)
from hpctf.site.layers import Inputs, Layers, digest
from hpctf.site.model import Site, Target, site_from
from hpctf.site.settings import Settings, check_settings, variables
from hpctf.site.yaml_files import read_text

_MOST_KEPT = 200
"""Checked sites that are kept; beyond it the older half goes."""


def default_site_name() -> str:
    """Return ``slurm`` where there is an ``sbatch``, else ``local``."""
    return "slurm" if shutil.which("sbatch") else "local"


def default_name(project: str | os.PathLike[str] | None = None) -> str:
    """Return the name, or the path, of the site that is used where none is named."""
    return find_layers(replace(_asked(None, None, project), variables={}), Inputs()).name


def load_site(
    name: str | os.PathLike[str] | None = None,
    *,
    settings: Settings | None = None,
    project: str | os.PathLike[str] | None = None,
    keep: bool = True,
) -> Site:
    """Return the site of that name, or of that YAML file, with all layers over it.

    Parameters
    ----------
    name
        A site's name, or the path of a YAML file (it holds a ``/`` or ends in ``.yaml``). By
        default HPCTF_SITE's value, else the ``site`` of the project's ``hpctf.yaml``; without
        these, see `default_site_name`.
    settings
        Values by dotted key, over all else: ``{"mpi.plugin": "pmi2"}``.
    project
        The folder whose ``hpctf.yaml``, or whose nearest parent's, is the project's; where there
        is none, the current folder's is.
    keep
        Whether what has been checked may be kept in the user's cache folder.

    Raises
    ------
    UsageError
        No such site, or a setting of a key that no site has.
    SiteError
        A layer is wrong, or changes a locked key: every error is listed with its origin.
    """
    return _load(_asked(name, settings, project), keep)


def load_layers(
    name: str | os.PathLike[str] | None = None,
    *,
    settings: Settings | None = None,
    project: str | os.PathLike[str] | None = None,
) -> Layers:
    """Return the layers of a site, unchecked; the parameters are those of `load_site`."""
    return find_layers(_asked(name, settings, project), Inputs())


def read_site(name: str | os.PathLike[str], *, keep: bool = True) -> Site:
    """Return the site of that name or file as its files alone say it, with what it extends: without
    project, environment and flags."""
    asked = _asked(name, None, None)
    return _load(replace(asked, project=None, variables={}), keep)


def find_target(site: Site, name: str | None) -> tuple[str, Target]:
    """Return (name, target) of a site's compute target; None is the site's default one."""
    chosen = site.default_target if name is None else name
    if chosen not in site.targets:
        known = sorted(site.targets)
        raise UsageError(
            f"Site {site.name!r} has no compute target {shown(chosen)}."
            f"{did_you_mean(chosen, known)}",
            f"Its targets: {', '.join(known)}. For a partition that no target describes: "
            "--sbatch partition=NAME.",
        )
    return chosen, site.targets[chosen]


def _asked(
    name: str | os.PathLike[str] | None,
    settings: Settings | None,
    project: str | os.PathLike[str] | None,
) -> SiteQuery:
    wanted = os.fspath(name) if name is not None else os.environ.get("HPCTF_SITE") or None
    if wanted is not None and is_path(wanted):
        check_path("site", wanted)
        wanted = os.path.abspath(os.path.expanduser(wanted))
    elif wanted == "":
        raise UsageError("The site's name is empty.", "'hpctf site list' lists the sites.")
    said, env = check_settings(settings), variables(os.environ)
    return SiteQuery(wanted, default_site_name(), find_project(project), env, said)


def _load(asked: SiteQuery, keep: bool) -> Site:
    """Return the site, checked now or when all of its layers read the same before. What has been
    checked is kept in the user's cache folder: the check costs more time than all else that
    submitting does."""
    kept = _kept_file(asked)
    try:
        site = _kept_site(kept, asked.project)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        from hpctf.site.schema import check

        inputs = Inputs()
        site = check(find_layers(asked, inputs))
        if keep and is_own(kept.parent):
            with contextlib.suppress(OSError):
                kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                content = {"inputs": inputs.digests, "site": asdict(site)}
                write_json(kept, content, PRIVATE_FILE)  # passwords of indexes and proxies
                _forget_old(kept.parent)
    if site.templates is None:
        return site
    return replace(site, templates=os.path.expanduser(site.templates))


def _kept_file(asked: SiteQuery) -> Path:
    """Return where the checked site is kept: under all that it is looked for by, but the content
    of its files."""
    settings = dict(asked.settings) if isinstance(asked.settings, Mapping) else asked.settings
    settings = settings or None
    relative = "templates" in repr(settings) or "HPCTF_TEMPLATES" in asked.variables
    folder = Path(model.__file__).parent
    rules = [__version__, *((folder / f"{name}.py").stat().st_mtime_ns for name in _RULES)]
    places = [str(folder) for folder in folders().values()]
    found = [asked.name, asked.default, asked.project, asked.variables, settings]
    text = json.dumps([rules, places, found, os.getcwd() if relative else None], default=repr)
    return cache_folder() / "sites" / f"{digest(text)[:20]}.json"


_RULES = ("model", "layers", "discovery", "settings", "schema", "locks", "yaml_files")


def _kept_site(kept: Path, project: str | None) -> Site:
    """Return a kept site; any of the errors that `_load` expects says that none is kept, or that
    one of its files does not hold what it held."""
    if not is_own(kept):
        raise ValueError(kept)
    content = read_json(kept)
    site = site_from(content["site"])
    for path, before in content["inputs"].items():
        try:
            now = digest(read_text(Path(path)))
        except FileNotFoundError:
            now = None
        if now != before:
            raise ValueError(path)
        if now is not None and path != project:
            check_site_file(Path(path))
    return site


def _forget_old(folder: Path) -> None:
    """Remove the older half of what is kept, once that is much."""
    kept = list(folder.glob("*.json"))
    if len(kept) > _MOST_KEPT:
        kept.sort(key=lambda path: path.stat().st_mtime)
        for path in kept[: len(kept) // 2]:
            path.unlink(missing_ok=True)
