"""What a run was to do, and with what: its plan, its parameters and its packages."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpctf.client.hpctf.within import open_file
from hpctf.common.files import read_json
from hpctf.common.secrets import HIDDEN, is_secret, without_secrets

if TYPE_CHECKING:
    from hpctf.run import Run

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Settings:
    """Names and values, in the order in which they are shown.

    ``parameters`` are the script's own arguments, ``plan`` what was asked of the machine,
    ``variables`` the person's environment variables, ``software`` what it ran with.
    """

    parameters: dict[str, str]
    plan: Pairs
    roles: list[list[str]]
    components: list[list[str]]
    variables: Pairs
    software: Pairs
    packages: Pairs


def settings_of(run: Run, record: dict[str, Any]) -> Settings:
    """Return what a run was asked to be; `record` is its ``run.json``."""
    plan = run.plan
    return Settings(
        parameters=parameters_of(plan["entry"]),
        plan=_told(_plan(plan)),
        roles=[_role(role) for role in plan["roles"]],
        components=[_component(n, one) for n, one in enumerate(plan["components"])],
        variables=[
            (name, HIDDEN if is_secret(name) else value)
            for name, value in sorted(plan["entry"]["environment"].items())
        ],
        software=_told(_software(run, record)),
        packages=_packages(run),
    )


def parameters_of(entry: dict[str, Any]) -> dict[str, str]:
    """Return a script's arguments by name: ``--epochs 5``, ``--epochs=5``, ``--fast``; others by
    their place. Those of a function are in its pickle, which is not read for a report."""
    if entry["kind"] == "function":
        return {}
    command = [str(word) for word in entry["command"]]
    words = command[2 if command[0] == entry["python"] else 1 :]  # after the script
    found: dict[str, str] = {}
    name = ""
    for place, word in enumerate(words, 1):
        if word.startswith("-") and not _is_number(word):
            name, equals, value = word.partition("=")
            found[name] = value if equals else ""
            name = "" if equals else name
        elif name:
            found[name] = f"{found[name]} {word}".strip()
        else:
            found[f"argument {place}"] = word
    return {key: HIDDEN if is_secret(key) else value for key, value in found.items()}


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _told(pairs: Pairs) -> Pairs:
    return [(name, value) for name, value in pairs if value]


def _plan(plan: dict[str, Any]) -> Pairs:
    launch, interruption = plan["launch"], plan["interruption"]
    return [
        ("Backend", plan["backend"]),
        ("Site", plan["site"]),
        ("Target", plan["target"]),
        ("Runs", shlex.join(without_secrets(str(word) for word in plan["entry"]["command"]))),
        ("Launched by", " ".join([launch["method"], *launch["options"]])),
        ("Time limit", f"{plan['time_limit_s']} s" if plan["time_limit_s"] else ""),
        ("TF_CONFIG", "yes" if plan["tf_config"] else "no"),
        ("Warned by", interruption["signal"] or ""),
        ("Restarts allowed", str(interruption["max_restarts"])),
        ("Resumed from", plan["resumed_from"] or plan.get("resumed_outputs") or ""),
    ]


def _role(role: dict[str, Any]) -> list[str]:
    decides = "yes" if role["decides"] else "no"
    gpus = "yes" if role["uses_gpu"] else "no"
    return [role["name"], str(role["count"]), str(role["component"]), role["runs"], decides, gpus]


def _component(number: int, component: dict[str, Any]) -> list[str]:
    words = [f"--{key}={value}" if value else f"--{key}" for key, value in component["directives"]]
    return [str(number), str(component["nodes"]), str(component["tasks"]), " ".join(words)]


def _software(run: Run, record: dict[str, Any]) -> Pairs:
    entry, launch = run.plan["entry"], run.plan["launch"]
    container = entry["container"]
    versions = record.get("versions") or {}
    return [
        ("Python of the training", entry["python"]),
        *sorted(_versions(run).items()),
        ("Environment", str(record.get("environment") or "")),
        ("Modules", " ".join(launch["modules"])),
        ("Container", container["image"] if container else ""),
        ("hpctf", str(versions.get("hpctf") or "")),
        ("Python of hpctf", str(versions.get("python") or "")),
        ("git commit", str(record.get("git_commit") or "")),
    ]


def _versions(run: Run) -> dict[str, str]:
    """Return what the first rank of the last start said of its software, if it was asked."""
    found: dict[str, Any] = {}
    for path in sorted(run.folder.state.glob("software-*.json")):
        with contextlib.suppress(OSError, ValueError):
            found = read_json(path)["versions"]
    return {str(name): str(version) for name, version in found.items()}


def _packages(run: Run) -> Pairs:
    """Return names and versions of the lock file, if hpctf built the environment."""
    try:
        with open_file(run.folder.path / "environment.lock") as stream:
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = [line.split(" ;")[0] for line in lines if line and not line.startswith(("#", "-"))]
    pairs = [tuple(line.replace(" @ ", "==").partition("==")[::2]) for line in found]
    return [(name.strip(), version.strip()) for name, version in pairs]
