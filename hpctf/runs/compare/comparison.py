"""What two runs do not share: parameters, code, environment, metrics."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctf.client.hpctf.within import is_readable_within
from hpctf.common.files import read_json
from hpctf.common.secrets import HIDDEN, is_secret, public
from hpctf.errors import UsageError, did_you_mean
from hpctf.run_folder.layout import RunFolder
from hpctf.runs.compare.code import CodeDifference, code_difference
from hpctf.tracking.metrics import Reading

SECTIONS = ("parameters", "code", "environment", "metrics")

_NOT_COMPARED = {"function", "resume_from", "script_params", "arguments"}
_OF_ONE_RUN = {"run_id", "run_folder", "experiment", "version", "entry", "environment"}
"""Keys of a plan that say which run it is, or what the request says, too."""

Pair = tuple[Any, Any]


@dataclass(frozen=True)
class Value:
    """One thing that two runs have different values of; None: it has none."""

    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Metric:
    """The last values of one metric, and how much more the second run's is, if both are numbers."""

    name: str
    a: Any
    b: Any
    difference: float | None


@dataclass(frozen=True)
class Difference:
    """What two runs do not share, section by section; None: not asked for.

    Parameters
    ----------
    runs
        Their ids.
    parameters, environment
        What differs.
    code
        Files that differ, and what git said.
    metrics
        Last values of all metrics, also of those that agree.
    """

    runs: tuple[str, str]
    parameters: tuple[Value, ...] | None = None
    code: CodeDifference | None = None
    environment: tuple[Value, ...] | None = None
    metrics: tuple[Metric, ...] | None = None


def difference(a: RunFolder, b: RunFolder, only: Collection[str] = SECTIONS) -> Difference:
    """Return what two runs do not share.

    Values of environment variables and options whose names speak of tokens, passwords, secrets and
    keys are not given.

    Parameters
    ----------
    only
        The sections wanted.

    Raises
    ------
    UsageError
        There is no such section.
    """
    for name in only:
        if name not in SECTIONS:
            raise UsageError(
                f"There is no section {name!r}.{did_you_mean(name, list(SECTIONS))}",
                f"The sections: {', '.join(SECTIONS)}.",
            )
    records = (a.read_record(), b.read_record())
    return Difference(
        (a.id, b.id),
        _parameters(a, b, records) if "parameters" in only else None,
        code_difference(a, b, records) if "code" in only else None,
        _environment(a, b, records) if "environment" in only else None,
        _metrics(a, b) if "metrics" in only else None,
    )


def _parameters(a: RunFolder, b: RunFolder, records: Pair) -> tuple[Value, ...]:
    asked = [_asked(record) for record in records]
    planned = [_planned(run) for run in (a, b)]
    return (*_different(*asked), *_different(*planned))


def _asked(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request as names and values; a script's words by option, as other listings do."""
    request = record.get("request") or {}
    kept = {name: value for name, value in request.items() if name not in _NOT_COMPARED}
    return _flat({"arguments": record.get("parameters") or {}, **kept})


def _planned(run: RunFolder) -> dict[str, Any]:
    """Return what of a plan is not the run's own name, and not in the request word by word."""
    plan = {name: value for name, value in run.plan.items() if name not in _OF_ONE_RUN}
    plan["components"] = [
        {**component, "directives": dict(component["directives"])}
        for component in plan["components"]
    ]
    own = {str(run.path): "RUN_FOLDER", run.plan["run_folder"]: "RUN_FOLDER", run.id: "RUN"}
    flat = _flat({"plan": plan})
    return {name: _without(value, own) for name, value in flat.items()}


def _without(value: Any, own: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for text, name in own.items():
            value = value.replace(text, name)
    return value


def _flat(value: Any, above: str = "") -> dict[str, Any]:
    """Return nested mappings, and lists of mappings, as dotted names and values."""
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
        value = {str(number): inner for number, inner in enumerate(value)}
    if not isinstance(value, Mapping):
        return {above: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{above}.{key}" if above else str(key))
    return found


def _different(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Value, ...]:
    names = [*a, *(name for name in b if name not in a)]
    return tuple(
        _hidden(Value(name, a.get(name), b.get(name)))
        for name in names
        if not _same(a.get(name), b.get(name))
    )


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) or (a in (None, [], {}) and b in (None, [], {}))


def _hidden(value: Value) -> Value:
    if is_secret(value.name.rpartition(".")[2]):
        return Value(value.name, *(None if one is None else HIDDEN for one in (value.a, value.b)))
    return Value(value.name, public(value.a), public(value.b))


def _environment(a: RunFolder, b: RunFolder, records: Pair) -> tuple[Value, ...]:
    return _different(*(_software(run, rec) for run, rec in zip((a, b), records, strict=True)))


def _software(run: RunFolder, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run ran in: packages of its lock, and versions that its ranks found."""
    plan = run.plan
    found = {
        "environment": record.get("environment"),
        "python": None if record.get("environment") else plan["entry"]["python"],
        "container": (plan["entry"].get("container") or {}).get("image"),
        "modules": " ".join(plan["launch"]["modules"]) or None,
    }
    found |= {f"versions.{name}": text for name, text in record.get("versions", {}).items()}
    found |= {f"found.{name}": text for name, text in versions_of(run.state).items()}
    found |= {f"packages.{name}": text for name, text in packages_of(run.path).items()}
    return found


def versions_of(state: Path) -> dict[str, str]:
    """Return the versions that the first rank of the last attempt had, by what they are called."""
    for path in sorted(state.glob("software-*.json"), reverse=True):
        try:
            found = read_json(path)["versions"].items()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        return {str(name): str(version) for name, version in found}
    return {}


def packages_of(folder: Path) -> dict[str, str]:
    """Return the packages of a run's lock file by name; none if it has no lock."""
    from hpctf.environment.lock import read_lock
    from hpctf.environment.store import LOCK_FILE

    if not is_readable_within(folder / LOCK_FILE):
        return {}
    lock = read_lock(folder / LOCK_FILE)
    packages = {}
    for line in lock.packages:
        match = re.match(r"([A-Za-z0-9._-]+)\s*(?:==|@)\s*(.*)", line)
        name, version = match.groups() if match else (line, "")
        packages[name.lower()] = version
    for address in lock.conda:
        name = address.partition("#")[0].rpartition("/")[2]
        stem, _, rest = name.rpartition("-")
        packages[f"conda {stem.rpartition('-')[0]}"] = f"{stem.rpartition('-')[2]}-{rest}"
    if lock.spec.horovod:
        packages["horovod"] = lock.spec.horovod
    return packages


def _metrics(a: RunFolder, b: RunFolder) -> tuple[Metric, ...]:
    mine, theirs = (Reading(one.path).last_metrics() for one in (a, b))
    names = [*mine, *(name for name in theirs if name not in mine)]
    return tuple(
        _metric(
            name,
            mine[name].value if name in mine else None,
            theirs[name].value if name in theirs else None,
        )
        for name in names
    )


def _metric(name: str, a: Any, b: Any) -> Metric:
    numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in (a, b))
    return Metric(name, a, b, b - a if numbers else None)
