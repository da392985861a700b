"""Finding a site by name, and keeping what has been checked once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import hpctf
from hpctf.checks import check_path
from hpctf.errors import SiteError, UsageError, did_you_mean, shown
from hpctf.files import read_json, write_json
from hpctf.resources import SITE_CONFIGS, cache_folder
from hpctf.site import model
from hpctf.site.model import Site, Target, site_from
from hpctf.site.reading import NotReadable, named, read_text

ADMIN_FOLDER = "/etc/hpctf/sites"


def folders() -> list[Path]:
    """Return the folders that hold site files; a later one's file hides an earlier one's."""
    import platformdirs

    return [
        Path(SITE_CONFIGS),
        Path(ADMIN_FOLDER),
        Path(platformdirs.user_config_dir("hpctf")) / "sites",
    ]


def site_files() -> dict[str, Path]:
    """Return the file of every site that can be named, by name."""
    return {path.stem: path for folder in folders() for path in sorted(folder.glob("*.yaml"))}


def default_site_name() -> str:
    """Return ``slurm`` where there is an ``sbatch``, else ``local``."""
    return "slurm" if shutil.which("sbatch") else "local"


def load_site(name: str | os.PathLike[str] | None = None, *, keep: bool = True) -> Site:
    """Return the site of that name, or of that YAML file.

    Parameters
    ----------
    name
        A site's name, or the path of a YAML file (it holds a ``/`` or ends in ``.yaml``). By
        default HPCTF_SITE's value; without that, see `default_site_name`.
    keep
        Whether a file that has been checked may be kept in the user's cache folder.

    Raises
    ------
    UsageError
        No such site.
    SiteError
        Its YAML is wrong: every error is listed with its line.
    """
    wanted = (
        os.fspath(name) if name is not None else os.environ.get("HPCTF_SITE") or default_site_name()
    )
    if os.sep in wanted or wanted.endswith((".yaml", ".yml")):
        check_path("site", wanted)
        return read_site(Path(os.path.expanduser(wanted)), keep=keep)
    for folder in reversed(folders()):
        path = folder / f"{wanted}.yaml"
        if os.path.isfile(path):
            return read_site(path, keep=keep)
    known = sorted(site_files())
    raise UsageError(
        f"There is no site {shown(wanted)}.{did_you_mean(wanted, known)}",
        f"Known sites: {', '.join(known)}. A path to a YAML file is taken as well.",
    )


def read_site(path: Path, *, keep: bool = True) -> Site:
    """Return the site of a file, checked now or when the same text was read before.

    What has been checked is kept in the user's cache folder under a name made of the text: the
    check costs more time than all else that submitting does.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise SiteError(f"The site file {named(path)} does not exist.") from None
    except NotReadable as error:
        raise SiteError(
            f"The site file {named(path, error.line)} cannot be read: {error}."
        ) from None
    kept = _kept_file(text)
    try:
        site = site_from(read_json(kept))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        from hpctf.site.schema import parse_site

        site = parse_site(path, text)
        if keep:
            with contextlib.suppress(OSError):
                kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_json(kept, asdict(site))
    if site.templates is None:
        return site
    templates = path.absolute().parent / Path(site.templates).expanduser()
    return replace(site, templates=str(templates))


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


def _kept_file(text: str) -> Path:
    rules = Path(model.__file__).stat().st_mtime_ns
    key = hashlib.sha256(f"{hpctf.__version__} {rules}\n{text}".encode()).hexdigest()[:20]
    return cache_folder() / "sites" / f"{key}.json"
