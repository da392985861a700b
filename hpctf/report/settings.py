"""What a run was to do, and with what: its plan, its parameters and its packages."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpctf.common.secrets import HIDDEN, is_secret, labels, without_secrets
from hpctf.errors import HpctfError
from hpctf.runs.compare.comparison import packages_of, versions_of

if TYPE_CHECKING:
    from hpctf.run import Run
    from hpctf.run_folder.layout import RunFolder

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Settings:
    """Names and values, in the order in which they are shown.

    ``parameters`` are the script's or function's own arguments, ``plan`` what the machine was to
    give, ``variables`` the person's environment variables, ``software`` what it ran with.
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
        parameters=labels(record.get("parameters")),
        plan=_told(_plan(plan)),
        roles=[_role(role) for role in plan["roles"]],
        components=[_component(n, one) for n, one in enumerate(plan["components"])],
        variables=[
            (name, HIDDEN if is_secret(name) else value)
            for name, value in sorted(plan["entry"]["environment"].items())
        ],
        software=_told(_software(run, record)),
        packages=_packages(run.folder),
    )


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
        *sorted(versions_of(run.folder.state).items()),
        ("Environment", str(record.get("environment") or "")),
        ("Modules", " ".join(launch["modules"])),
        ("Container", container["image"] if container else ""),
        ("hpctf", str(versions.get("hpctf") or "")),
        ("Python of hpctf", str(versions.get("python") or "")),
        ("git commit", str(record.get("git_commit") or "")),
    ]


def _packages(folder: RunFolder) -> Pairs:
    with contextlib.suppress(HpctfError, OSError):
        return list(packages_of(folder.path).items())
    return []
