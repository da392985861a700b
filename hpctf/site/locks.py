"""Locked keys: what a layer has locked, no later layer and no option may change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpctf.errors import SiteError, did_you_mean, shown
from hpctf.site.keys import dotted, keys_at, kind_of, split
from hpctf.site.layers import Layer, Layers, Origin, leaves, look, merge, target_names
from hpctf.site.model import Site


def lock_of(site: Site, key: str) -> str | None:
    """Return the locked key that covers a dotted key, or None: it may be changed.

    A lock covers its key, all under it, and what lies above it, since replacing that would change
    it too.
    """
    path = split(key, site.targets)
    locks = (lock for lock in site.locked if _covers(split(lock, site.targets), path))
    return next(locks, None)


def refuse_locked(site: Site, key: str, what: str) -> None:
    """Refuse an option, named as the person knows it, that would change a locked key."""
    lock = lock_of(site, key)
    if lock is not None:
        raise SiteError(
            f"{what}: site {site.name!r} has locked {lock}, which this would change.",
            f"Leave it out. 'hpctf site explain {lock}' shows who has locked it, and its value.",
        )


def locks(layers: Layers) -> list[tuple[str, Origin]]:
    """Return every locked key, with where it is locked first."""
    found: dict[str, Origin] = {}
    for layer in layers.layers:
        for lock, origin in _locked(layer):
            found.setdefault(lock, origin)
    return list(found.items())


def lock_problems(layers: Layers) -> list[str]:
    """Return what is wrong with the locks: unknown keys, and layers that change locked ones."""
    targets = target_names(layers.layers)
    problems = [
        f"{origin}: locked: a site has no key {shown(lock)}.{_near(lock, targets)}"
        for lock, origin in locks(layers)
        if kind_of(split(lock, targets)) is None
    ]
    held: list[tuple[str, tuple[str, ...], Origin]] = []
    before: dict[Any, Any] = {}
    for layer in layers.layers:
        problems += _broken(layer, held, before)
        before = merge(before, layer.values)
        held += [(lock, split(lock, targets), origin) for lock, origin in _locked(layer)]
    return problems


def _broken(
    layer: Layer, held: list[tuple[str, tuple[str, ...], Origin]], before: dict[Any, Any]
) -> list[str]:
    """Return a line for each locked key that a layer changes; what is said anew is no change."""
    problems = []
    for path, value in leaves(layer.values):
        now = look(before, path)[1]
        if value == {} and (now is None or isinstance(now, dict)):
            continue  # merges nothing
        if now == value and type(now) is type(value):
            continue
        lock = next((one for one in held if _covers(one[1], path)), None)
        if lock is not None:
            stays = "" if now is None else f" It stays {shown(now)}; found {shown(value)}."
            problems.append(
                f"{layer.origin(path)}: {dotted(path)}: this key cannot be changed here: "
                f"{lock[0]} is locked in {lock[2]}.{stays}"
            )
    return problems


def _covers(lock: Sequence[object], path: Sequence[object]) -> bool:
    common = min(len(lock), len(path))
    return tuple(lock[:common]) == tuple(path[:common])


def _locked(layer: Layer) -> list[tuple[str, Origin]]:
    """Return the keys that a layer locks, and where."""
    locked = layer.values.get("locked")
    places = enumerate(locked if isinstance(locked, list) else ())
    return [(lock, layer.origin(("locked", n))) for n, lock in places if isinstance(lock, str)]


def _near(lock: str, targets: list[str]) -> str:
    path = split(lock, targets)
    end = next(end for end in range(1, len(path) + 1) if kind_of(path[:end]) is None)
    return did_you_mean(path[end - 1], keys_at(path[: end - 1]))
