"""What the doctor finds: one `Check` a question, and all of them as a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from hpctf.site.model import Site

State = Literal["ok", "failed", "skipped"]
Tell = Callable[[str], None]

OK, FAILED, SLURM_AWAY = 0, 1, 3
"""Exit codes: all is well, something is not, Slurm cannot be asked at all."""


@dataclass(frozen=True)
class Check:
    """One question and its answer.

    ``name`` is what was looked at, such as ``runs root``: the same in every report. ``detail`` is
    what was found, or why the check was skipped; ``remedy`` what to do now, only of failed checks,
    and of skipped ones that can be had.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""


def ok(name: str, detail: str) -> Check:
    """Return a check that went well."""
    return Check(name, "ok", detail)


def failed(name: str, detail: str, remedy: str) -> Check:
    """Return a check that found something wrong, with the way out."""
    return Check(name, "failed", detail, remedy)


def skipped(name: str, reason: str, remedy: str = "") -> Check:
    """Return a check that could not be made, or means nothing here."""
    return Check(name, "skipped", reason, remedy)


@dataclass
class Report:
    """All checks of one examination, and the settings that were found to work.

    ``site`` is its name and ``asked`` what it was requested by, a name or a file; ``measured``
    holds the figures of the job by kind; ``proposals`` settings by dotted key, of which those
    that ``settings`` has locked may not be written.
    """

    site: str
    asked: str = ""
    settings: Site | None = None
    checks: list[Check] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    proposals: dict[str, Any] = field(default_factory=dict)
    slurm_away: bool = False

    def add(self, *checks: Check) -> None:
        """Add checks."""
        self.checks += checks

    def replace(self, check: Check) -> None:
        """Let a check answer in place of the earlier ones of its name: it has seen more."""
        names = [one.name for one in self.checks]
        place = names.index(check.name) if check.name in names else len(names)
        self.checks = [one for one in self.checks if one.name != check.name]
        self.checks.insert(place, check)

    def state_of(self, name: str) -> State | None:
        """Return the state of the check of that name, or None."""
        return next((check.state for check in self.checks if check.name == name), None)

    @property
    def failures(self) -> list[Check]:
        """The checks that found something wrong."""
        return [check for check in self.checks if check.state == "failed"]

    @property
    def exit_code(self) -> int:
        """0: nothing is wrong; 1: something is; 3: Slurm cannot be asked."""
        return SLURM_AWAY if self.slurm_away else FAILED if self.failures else OK

    def as_json(self) -> dict[str, Any]:
        """Return the report, ready for JSON."""
        checks = [vars(check) for check in self.checks]
        found = {"checks": checks, "measured": self.measured, "proposals": self.proposals}
        return {"site": self.site, "ok": not self.failures, **found}
