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
_OF_ONE_RUN = {
    *("run_id", "run_folder", "experiment", "version", "entry", "environment"),
    *("after", "handovers", "staging"),
}
"""Keys of a plan that say which run it is, or what the request says, too."""


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
    """What two runs do not share, section by section; None: not requested.

    ``runs`` are their ids. Of metrics there are the last values of all, also of those that agree.
    """

    runs: tuple[str, str]
    parameters: tuple[Value, ...] | None = None
    code: CodeDifference | None = None
    environment: tuple[Value, ...] | None = None
    metrics: tuple[Metric, ...] | None = None


def difference(a: RunFolder, b: RunFolder, only: Collection[str] = SECTIONS) -> Difference:
    """Return what two runs do not share, in the sections that are wanted.

    Values of environment variables and options whose names speak of tokens, passwords, secrets and
    keys are not given.

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
    first, second = records = (a.read_record(), b.read_record())
    parameters: tuple[Value, ...] | None = None
    if "parameters" in only:
        planned = _different(_planned(a), _planned(b))
        parameters = (*_different(_asked(first), _asked(second)), *planned)
    return Difference(
        (a.id, b.id),
        parameters,
        code_difference(a, b, records) if "code" in only else None,
        _different(_software(a, first), _software(b, second)) if "environment" in only else None,
        _metrics(a, b) if "metrics" in only else None,
    )


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
    flat = _flat({"plan": plan})
    for name, value in flat.items():
        if isinstance(value, str):
            for path in (str(run.path), run.plan["run_folder"]):
                value = value.replace(path, "RUN_FOLDER")
            flat[name] = value.replace(run.id, "RUN")
    return flat


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
    found = []
    for name in {**a, **b}:
        pair = [a.get(name), b.get(name)]
        if pair[0] == pair[1] or all(value in (None, [], {}) for value in pair):
            continue
        if is_secret(name.rpartition(".")[2]):
            pair = [None if value is None else HIDDEN for value in pair]
        found.append(Value(name, *map(public, pair)))
    return tuple(found)


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
    metrics = []
    for name in mine | theirs:
        pair: list[Any] = [of[name].value if name in of else None for of in (mine, theirs)]
        numbers = {type(value) for value in pair} <= {int, float}
        metrics.append(Metric(name, pair[0], pair[1], pair[1] - pair[0] if numbers else None))
    return tuple(metrics)
