"""One request for a training, made through the command line, a job file, and Python.

Each way gives the plan that it would submit, or `Refused`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, TensorFlow, cli
from hpctf.common.units import seconds_of
from hpctf.errors import HpctfError
from hpctf.plan import Plan

CAPTURE = """\
import json, os, sys
def text(data):
    return data.decode("latin-1")
seen = {
    "argv": [text(os.fsencode(word)) for word in sys.argv],
    "environment": {text(name): text(value) for name, value in os.environb.items()},
    "here": text(os.getcwdb()),
    "files": [text(name) for name in os.listdir(b".")],
}
with open("outputs/seen.json", "w") as stream:
    json.dump(seen, stream)
"""
"""A script that writes down, byte by byte, what it was given."""


@dataclass(frozen=True)
class Refused:
    """An error, and what a person reads of it."""

    said: str
    exit_code: int


@dataclass(frozen=True)
class Ways:
    """The three ways to ask."""

    place: Path
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def named(self, way: str) -> Callable[..., Plan | Refused]:
        """Return the way of that name: ``command line``, ``job file`` or ``python``."""
        ways = {"command line": self.command_line, "job file": self.job_file}
        return ways.get(way, self.python)

    def python(self, **asked: Any) -> Plan | Refused:
        """Ask by the Python API."""
        try:
            return self.experiment(asked).plan(estimator(asked), asked.get("name")).plan
        except HpctfError as error:
            return Refused(str(error), error.exit_code)

    def experiment(self, asked: dict[str, Any]) -> Experiment:
        """Return the experiment that is asked for."""
        name = asked.get("experiment", "train")
        return Experiment(name, asked.get("site", "slurm"), self.place / "runs")

    def command_line(self, **asked: Any) -> Plan | Refused:
        """Ask by ``hpctf submit`` with options."""
        return self._answer(*words(asked))

    def job_file(self, **asked: Any) -> Plan | Refused:
        """Ask by ``hpctf submit JOB.yaml``."""
        keys = {"variables": "env", "arguments": "args"}
        content = {"site": "slurm", "source_dir": str(self.place), "script": "train.py", **asked}
        file = self.place / "jobs/job.yaml"
        file.parent.mkdir(exist_ok=True)
        lines = [f"{keys.get(key, key)}: {flow(value)}" for key, value in content.items()]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return self._answer(str(file))

    def _answer(self, *given: str) -> Plan | Refused:
        self.monkeypatch.setattr(sys, "argv", ["hpctf", "submit", "--dry-run", "--json", *given])
        self.capsys.readouterr()
        code = cli._run()
        out, err = self.capsys.readouterr()
        if code:
            assert out == ""
            return Refused(err, code)
        return Plan.from_json(json.dumps(json.loads(out)["plan"]))


def flow(value: Any) -> str:
    """Return YAML with every text in double quotes, and escaped where it is not plain."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(key)}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(one) for one in value) + "]"
    return '"' + "".join(_escaped(char) for char in value) + '"'


def _escaped(char: str) -> str:
    if char.isascii() and char.isprintable() and char not in '"\\':
        return char
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\U{ord(char):08x}"


def estimator(asked: dict[str, Any]) -> TensorFlow:
    """Return the estimator that is asked for, in the command line's words."""
    time = asked.get("time")
    return TensorFlow(
        asked.get("source_dir", "."),
        entry_script=asked.get("script", "train.py"),
        script_params=asked.get("script_params"),
        arguments=asked.get("arguments"),
        environment_variables=asked.get("variables"),
        inputs=asked.get("inputs"),
        compute_target=asked.get("target"),
        mem=asked.get("mem"),
        max_run_duration_seconds=None if time is None else seconds_of(time),
        python=asked.get("python"),
        sbatch=asked.get("sbatch"),
    )


def words(asked: dict[str, Any], site: str | None = "slurm") -> list[str]:
    """Return the words of ``hpctf submit`` that ask for the same."""
    asked = {"site": site, **asked} if site else asked
    given = ["--source-dir", asked.get("source_dir", ".")]
    for name in ("site", "experiment", "name", "target", "mem", "time", "python"):
        if name in asked:
            given += [f"--{name}", asked[name]]
    for option, mapping in (("--env", "variables"), ("--input", "inputs"), ("--sbatch", "sbatch")):
        for key, value in asked.get(mapping, {}).items():
            given += [option, f"{key}={value}"]
    return [*given, "--", asked.get("script", "train.py"), *asked.get("arguments", [])]


def bytes_of(text: str) -> str:
    """Return text as `CAPTURE` writes it."""
    return os.fsencode(text).decode("latin-1")
