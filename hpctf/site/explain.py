"""Where each value of a site comes from, what it has overridden, and whether it is locked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpctf.common.secrets import public
from hpctf.errors import UsageError, did_you_mean, shown
from hpctf.site.keys import default_of, dotted, flat, kind_of, split
from hpctf.site.layers import DEFAULT, Layers, Origin
from hpctf.site.locks import locks
from hpctf.site.model import Site
from hpctf.site.schema import check


@dataclass(frozen=True)
class Said:
    """A value, and who says it."""

    value: Any
    origin: Origin

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        origin = self.origin
        file = origin.where if origin.line else None
        where = {"layer": origin.layer, "file": file, "line": origin.line}
        return {"value": self.value, "from": str(origin), **where}


@dataclass(frozen=True)
class Explained:
    """A dotted key of a site, its value, and who says it.

    ``overrode`` is what earlier layers say, the first one first (hpctf's default is the first of
    all), ``lock`` the locked key that covers it, and where it is locked.
    """

    key: str
    said: Said
    overrode: tuple[Said, ...] = ()
    lock: tuple[str, Origin] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        lock = None if self.lock is None else {"key": self.lock[0], "from": str(self.lock[1])}
        overrode = [one.as_json() for one in self.overrode]
        return {"key": self.key, **self.said.as_json(), "overrode": overrode, "locked": lock}


def explain(layers: Layers, key: str | None = None) -> list[Explained]:
    """Return every value of a site, or those of a key and of all under it.

    Raises
    ------
    SiteError
        The site is wrong.
    UsageError
        It has no such key.
    """
    site = check(layers)
    values = flat(site)
    path = () if key is None else split(key, site.targets)
    chosen = [one for one in values if one[: len(path)] == path]
    if not chosen:
        raise _no_such_key(str(key), path, site)
    held = [(split(lock, site.targets), lock, origin) for lock, origin in locks(layers)]
    return [_explained(layers, one, values[one], held) for one in chosen]


def _explained(
    layers: Layers,
    path: tuple[str, ...],
    value: Any,
    held: list[tuple[tuple[str, ...], str, Origin]],
) -> Explained:
    says = [Said(_public(path, plain), origin) for origin, plain in layers.history(path)]
    there, default = default_of(path)
    if there:
        says.insert(0, Said(default, DEFAULT))
    origin = says[-1].origin if says else layers.origin(path)
    lock = next(((lock, where) for under, lock, where in held if path[: len(under)] == under), None)
    return Explained(dotted(path), Said(_public(path, value), origin), tuple(says[:-1]), lock)


def _public(path: tuple[str, ...], value: Any) -> Any:
    """Return a key's value without what is confidential; of a mapping the last name may tell it."""
    return public({path[-1]: value})[path[-1]]


def _no_such_key(key: str, path: tuple[str, ...], site: Site) -> UsageError:
    known = sorted({dotted(one[:end]) for one in flat(site) for end in range(1, len(one) + 1)})
    elsewhere = [one for one in known if one.split(".")[-1] == path[-1]]  # mpi.plugin for plugin
    near = did_you_mean(key, known) or (f" Did you mean {elsewhere[0]!r}?" if elsewhere else "")
    what = "says nothing of" if kind_of(path) is not None else "has no key"
    return UsageError(
        f"Site {site.name!r} {what} {shown(key)}.{near}",
        "'hpctf site explain' without a key shows all of them.",
    )
