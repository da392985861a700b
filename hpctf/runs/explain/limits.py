"""Slurm's reasons that name a limit, such as QOSMaxCpuPerUserLimit: whose, on what, how much.

Sources: Slurm's page "Job Reason Codes"; sacctmgr(1) for the columns that hold the figures.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_RESOURCES = {
    "cpu": ("CPUs", "CPU", "cpu"),
    "mem": ("memory", "memory", "mem"),
    "memory": ("memory", "memory", "mem"),
    "node": ("nodes", "node", "node"),
    "gres": ("GPUs (or other generic resources)", "GPU", "gres/"),
    "license": ("licenses", "license", "license/"),
    "bb": ("burst buffer", "burst buffer", "bb/"),
    "billing": ("billing units", "billing", "billing"),
    "energy": ("energy", "energy", "energy"),
    "unknown": ("some resource", "resource", ""),
    "jobs": ("running jobs", "", ""),
    "submitjob": ("jobs, running or waiting,", "", ""),
    "submitjobs": ("jobs, running or waiting,", "", ""),
    "wall": ("time", "", ""),
    "wallduration": ("time", "", ""),
}
"""What is limited, in plain words; the same before "-minutes"; its name in sacctmgr's lists."""

_FORM = re.compile(
    r"^(?P<owner>Assoc|QOS|)(?P<kind>Grp|Max|Min)(?P<what>SubmitJobs?|WallDuration|Wall|Jobs"
    r"|Cpu|CPU|Memory|Mem|Node|GRES|License|BB|Billing|Energy|Unknown)"
    r"(?P<minutes>RunMinutes|RunMins|Minutes)?(?:Per(?P<scope>Job|Node|User|Account))?"
    r"(?:Limit|NotSatisfied)?$"
)
_SCOPES = {
    "Job": "a job may have",
    "Node": "a job may have on a node",
    "User": "a user may have",
    "Account": "an account may have",
}
_COUNTS = {
    ("Grp", "jobs"): "GrpJobs",
    ("Grp", "submitjobs"): "GrpSubmit",
    ("Grp", "wall"): "GrpWall",
    ("Max", "wallduration"): "MaxWall",
    ("Max", "jobs"): "MaxJobs",
    ("Max", "submitjob"): "MaxSubmit",
    ("Max", "submitjobs"): "MaxSubmit",
}
_OF_ONE_JOB = ("MinTRES", "MaxTRES", "MaxTRESPerNode", "MaxTRESMins", "MaxWall")
_PER = {"User": "PU", "Account": "PA"}


class Limit(NamedTuple):
    """A limit that a job meets.

    ``owner`` is ``qos`` or ``assoc``; ``words`` says what is limited; ``column`` is sacctmgr's, and
    ``resource`` the name before the figure in it, empty where the column is the figure.
    """

    owner: str
    words: str
    column: str
    resource: str

    @property
    def of_one_job(self) -> bool:
        """Whether the job itself is beyond it, whatever else runs."""
        return self.column in _OF_ONE_JOB and "user" not in self.words

    @property
    def subject(self) -> str:
        """Whose limit it is."""
        return "its QOS" if self.owner == "qos" else "its account"

    def figure(self, value: str) -> str:
        """Return the limit in a column's value: ``4`` in ``cpu=4,mem=8G``; empty if there is
        none."""
        if not self.resource:
            return value
        pairs = (pair.partition("=") for pair in value.split(","))
        return ", ".join(
            amount if name == self.resource else f"{amount} {name}"
            for name, _, amount in pairs
            if amount and name.startswith(self.resource)
        )


def parse(reason: str) -> Limit | None:
    """Return the limit that a reason names, or None if it names none."""
    found = _FORM.match(reason)
    if found is None:
        return None
    kind, scope = found["kind"], found["scope"]
    owner = "assoc" if found["owner"] == "Assoc" else "qos"  # Max*PerAccount is the QOS's
    what = found["what"].lower()
    name, single, resource = _RESOURCES[what]
    minutes = (found["minutes"] or "").replace("Mins", "Minutes")
    if minutes:
        name = f"{single}-minutes"
    column = _COUNTS.get((kind, what))
    if column is None:
        column = _tres_column(kind, minutes, scope)
    elif column in ("MaxJobs", "MaxSubmit") and owner == "qos":
        column += _PER.get(scope or "User", "PU")
    words = f"the {name} that {_words(kind, minutes, scope)}"
    return Limit(owner, words, column, resource)


def _tres_column(kind: str, minutes: str, scope: str | None) -> str:
    if kind == "Min":
        return "MinTRES"
    if kind == "Grp":
        return {"": "GrpTRES", "Minutes": "GrpTRESMins", "RunMinutes": "GrpTRESRunMins"}[minutes]
    if minutes == "RunMinutes":
        return f"MaxTRESRunMins{_PER[scope or 'User']}"
    if minutes:
        return "MaxTRESMins"
    columns = {"Node": "MaxTRESPerNode", "User": "MaxTRESPU", "Account": "MaxTRESPA"}
    return columns.get(scope or "", "MaxTRES")


def _words(kind: str, minutes: str, scope: str | None) -> str:
    """Return of whom it is a limit, and on what they do: ``a user may have``."""
    if kind == "Min":
        return "a job must ask for at least"
    if kind == "Max" and minutes == "RunMinutes":
        whose = "an account" if scope == "Account" else "a user"
        return f"{whose}'s running jobs may still take"
    if kind == "Max":
        return _SCOPES[scope or "User"]
    if minutes == "RunMinutes":
        return "all jobs running under it together may take"
    return f"all jobs under it together may {'use up' if minutes else 'have'}"
