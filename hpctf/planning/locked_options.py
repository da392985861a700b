"""What a person asks for, held against the keys that a site has locked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from hpctf.common.units import seconds_of
from hpctf.planning.resources import TARGET_OPTIONS, Resources

if TYPE_CHECKING:
    from hpctf.site.model import Site

Override = tuple[str, str, object]


def refuse_locked_options(
    asked: Resources, overrides: Sequence[Override], site: Site, targets: Iterable[str]
) -> None:
    """Refuse what the person asks for if it changes a locked key; the same value is no change.

    Parameters
    ----------
    overrides
        Parameters that override keys of the site (`hpctf.estimator.parameters.overrides_of`).
    targets
        The targets that the run uses.

    Raises
    ------
    SiteError
        Naming the option and the lock.
    """
    if not site.locked:
        return
    from hpctf.site.locks import refuse_locked

    for name in dict.fromkeys(targets):
        for option, key in [*_of_parameters(overrides, site, name), *_of_sbatch(asked, site, name)]:
            refuse_locked(site, key, option)


def _of_parameters(
    overrides: Sequence[Override], site: Site, name: str
) -> Iterator[tuple[str, str]]:
    target = site.targets[name]
    for option, key, value in overrides:
        section, _, field = key.rpartition(".")
        is_now = attrgetter(field)(target) if section == "target" else attrgetter(key)(site)
        if field == "time_limit" and is_now is not None:
            is_now = seconds_of(is_now)
        if value in (None, is_now):
            continue
        if section != "target":
            yield option, key
            continue

        yield option, f"targets.{name}.{field}"
        directive = TARGET_OPTIONS[field][0]
        if directive in target.directives:
            yield option, f"targets.{name}.directives.{directive}"
        if directive in site.directives:
            yield option, f"directives.{directive}"


def _of_sbatch(asked: Resources, site: Site, name: str) -> Iterator[tuple[str, str]]:
    """Yield the keys that the person's sbatch options would change.

    sbatch takes the beginning of an option's name for the option: ``--part=x`` is a partition.
    """
    target = site.targets[name]
    known = {key for options in TARGET_OPTIONS.values() for key in options}
    known |= {*site.directives, *target.directives}
    known |= {lock.rpartition(".")[2] for lock in site.locked}
    for option, value in asked.sbatch.items():
        meant = {option, *(key for key in known if option and key.startswith(option))}
        for key in sorted(meant):
            for field, options in TARGET_OPTIONS.items():
                if key in options and (key != field or value != getattr(target, field)):
                    yield f"--sbatch {option}", f"targets.{name}.{field}"
            for above, directives in (
                (f"targets.{name}.directives", target.directives),
                ("directives", site.directives),
            ):
                if key not in directives or directives[key] != value:
                    yield f"--sbatch {option}", f"{above}.{key}"
