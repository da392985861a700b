"""``hpctf site init``: ask Slurm, choose, let sbatch judge, and write a first site file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from hpctf.admin.site_init.draft import draft
from hpctf.admin.site_init.partitions import Fact, TargetDraft, Targets, draft_targets
from hpctf.admin.site_init.sbatch_check import try_targets
from hpctf.admin.site_init.storage import find_place
from hpctf.admin.site_init.yaml_text import Missing, text_of
from hpctf.admin.survey.probe import Probe, probe
from hpctf.errors import SiteError, UsageError, shown
from hpctf.site.discovery import folders
from hpctf.site.layers import Layers, parse_layer
from hpctf.site.loading import default_name
from hpctf.site.model import check_name
from hpctf.site.schema import check
from hpctf.site.yaml_files import named

DEFAULT_NAME = "slurm"
"""The site that is used where nobody names one: its file takes effect at once."""


@dataclass(frozen=True)
class Made:
    """A first site file.

    ``path`` is where it was written; None if it was to be shown only. ``missing`` is what could not
    be found out, ``used`` whether it is the site that is used where none is named.
    """

    name: str
    path: Path | None
    text: str
    missing: tuple[Missing, ...]
    used: bool


def init_site(
    name: str | None = None,
    *,
    to: str | os.PathLike[str] | None = None,
    write: bool = True,
    admin: bool = False,
    force: bool = False,
    tell: Callable[[str], None] = lambda words: None,
) -> Made:
    """Make a site file from what Slurm says of itself, and write it.

    Parameters
    ----------
    name
        The site's: by default that of the file `to`, else ``slurm``.
    to
        The file; by default ``<name>.yaml`` in the user's folder of sites, or in the admin's.
    write
        False: nothing is written.
    admin
        For everybody: the file goes to the admin's folder, and holds nothing that is one
        person's.
    force
        Replace a file that is there.
    tell
        Called with words about what goes on.

    Raises
    ------
    UsageError
        The name cannot be, or the file is there.
    SchedulerError
        There is no Slurm here.
    SiteError
        The file cannot be written.
    """
    chosen = _name(name, to)
    path = _path(chosen, to, admin) if write else None
    if path is not None:
        _check_free(path, chosen, force, shadows=to is None and not admin)
    tell("Asking Slurm ...")
    found = probe()
    targets = draft_targets(found, admin)
    targets = replace(targets, targets=(*targets.targets, *_other_clusters(found, targets)))
    tell(f"Asking sbatch whether it would take jobs on {len(targets.targets)} targets ...")
    tried, refused = try_targets(targets.targets, () if admin else found.accounts)
    place = find_place(admin, os.environ)
    made = draft(found, chosen, replace(targets, targets=tried), refused, place, admin=admin)
    text = text_of(made)
    layer = parse_layer("file", path or folders()["user"] / f"{chosen}.yaml", text)
    check(Layers(chosen, (layer,)))  # nothing is written that hpctf itself refuses
    if path is not None:
        _write(path, text, force)
    used = to is None and default_name() == chosen
    return Made(chosen, path, text, made.missing, used)


def _name(name: str | None, to: str | os.PathLike[str] | None) -> str:
    chosen = name if name is not None else Path(to).stem if to is not None else DEFAULT_NAME
    try:
        check_name("the site's name", chosen)
    except ValueError as error:
        raise UsageError(f"{error}.", "Say 'hpctf site init NAME'.") from None
    if chosen == "local":
        hint = "Choose another name: hpctf site init NAME."
        raise UsageError("'local' is the site without Slurm.", hint)
    return chosen


def _path(name: str, to: str | os.PathLike[str] | None, admin: bool) -> Path:
    if to is None:
        return folders()["admin" if admin else "user"] / f"{name}.yaml"
    path = Path(os.path.expanduser(to))
    if path.is_dir():
        hint = f"Pass --to {path}/{name}.yaml, for example."
        raise UsageError(f"{shown(str(path))} is a folder.", hint)
    return path


def _check_free(path: Path, name: str, force: bool, shadows: bool) -> None:
    """Refuse to write over a file, or over what an admin says, unless told to."""
    if force:
        return
    if os.path.lexists(path):
        raise UsageError(
            f"{named(path)} is there already.",
            "Look at what would be written with --print, or replace it with --force.",
        )
    theirs = folders()["admin"] / f"{name}.yaml"
    if shadows and os.path.exists(theirs):
        raise UsageError(
            f"Your admin describes site {name!r} already, in {named(theirs)}.",
            f"Use it as it is, look at yours with --print, or choose another name than {name!r}.",
        )


def _other_clusters(found: Probe, targets: Targets) -> list[TargetDraft]:
    """Return a target for each other cluster of the same slurmdbd."""
    taken, ours = {one.name for one in targets.targets}, found.config.cluster
    source = "sacctmgr show cluster"
    made = []
    for name in (one.name for one in found.clusters if one.host and ours and one.name != ours):
        description = Fact(f"The default partition of cluster {name}", source)
        facts = {"description": description, "clusters": Fact(name, source)}
        made.append(TargetDraft(f"cluster-{name}" if name in taken else name, facts, {}))
    return made


def _write(path: Path, text: str, force: bool) -> None:
    """Write a file that others may read, whole or not at all; never over another without `force`,
    whoever makes that one meanwhile."""
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "x", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        if force:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    except FileExistsError:
        raise UsageError(f"{named(path)} is there already.", "Replace it with --force.") from None
    except OSError as error:
        raise SiteError(
            f"{named(path)} cannot be written: {error.strerror or error}.",
            "Name a file that you may write with --to FILE, or see the text with --print.",
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
