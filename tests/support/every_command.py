"""Every command of hpctf's that there is, each as somebody would call it: what a new command does
is tried as soon as it is in the tree of commands."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from hpctf.cli import cli
from tests.conftest import ROOT
from tests.support.built import COMPILED
from tests.support.waiting import HANGS_S

OF_ARGUMENTS = {
    "[RUN]": "RUN",
    "[RUN]...": "RUN",
    "RUN": "RUN",
    "RUN...": "RUN",
    "RUN|EXPERIMENT...": "RUN",
    "RUN|EXPERIMENT [RUN]...": "RUN",
    "A": "RUN",
    "B": "OTHER",
    "KEY=VALUE...": "by=me",
}
"""What stands for an argument of a command about runs."""

WHERE = {"export mlflow": "sqlite:///OUT"}
"""What a command's ``--to`` is, where it is not a path."""

AS_THEY_END = {
    "archive": ["--yes"],
    "resubmit": ["--dry-run"],
    "tensorboard": ["--python", "/bin/false"],
    "export tensorboard": ["--python", "/bin/false"],
}
"""Options without which a command would ask, go on, or need another environment."""

ELSE = {
    "submit": ["SCRIPT", "--dry-run"],
    "migrate": ["SCRIPT"],
    "init": ["a-project"],
    "config": [],
    "completion": ["bash"],
    "env build": ["--pip", "tiny", "--dry-run"],
    "env list": [],
    "env lock": ["nothing"],
    "env remove": ["nothing"],
    "env show": ["nothing"],
    "models register": ["digits", "SCRIPT"],
    "models list": [],
    "models show": ["nothing"],
    "models download": ["nothing"],
    "models alias": ["nothing", "champion"],
    "models mlflow": ["nothing", "--to", "mlflow-model"],
    "models export": ["nothing"],
    "models rm": ["nothing:1", "--yes"],
    "models deploy": ["nothing"],
    "services list": [],
    "services call": ["nothing", "--data", "{}"],
    "services logs": ["nothing"],
    "services update": ["nothing"],
    "services stop": ["nothing"],
    "services tunnel": ["nothing"],
    "score": ["nothing", "SCRIPT", "--out", "scores"],
    "site explain": [],
    "site init": ["--print"],
    "site list": [],
    "site schema": [],
    "site show": [],
    "site validate": [],
    "doctor": [],
    "docs": ["tuning"],
    "tune start": ["SCRIPT", "--metric", "loss", "--param", "lr=uniform(0, 1)", "--dry-run"],
    "tune status": ["nothing"],
    "tune best": ["nothing"],
    "tune stop": ["nothing"],
    "tune resume": ["nothing"],
    "tune set": ["nothing", "--parallel", "1"],
    "tune plot": ["nothing"],
    "tune export": ["nothing"],
    "tune report": ["nothing"],
}
"""How the commands are called that are about no run."""

LAST = ("archive",)
"""Commands after which the run is no longer there."""


def leaves(
    group: click.Group = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield the name and the command of all that are no groups."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


def about_runs() -> list[list[str]]:
    """Return the commands that name runs, as words in which RUN, OTHER and OUT stand for a run,
    another one and a path that is free; each also with ``--json``, if it has that."""
    calls = []
    for path, command in leaves():
        arguments = [one for one in command.params if isinstance(one, click.Argument)]
        metavars = [one.metavar or "" for one in arguments]
        if not any("RUN" in metavar or metavar == "A" for metavar in metavars):
            continue
        filled = [
            OF_ARGUMENTS[metavar] if argument.required else OF_ARGUMENTS.get(metavar)
            for argument, metavar in zip(arguments, metavars, strict=True)
        ]
        options = {name for one in command.params for name in one.opts}
        words = [*path, *(word for word in filled if word)]
        words += AS_THEY_END.get(" ".join(path), [])
        if "--to" in options:
            words += ["--to", WHERE.get(" ".join(path), "OUT")]
        calls.append(words)
        if "--json" in options and " ".join(path) not in LAST:
            calls.append([*words, "--json"])
    return sorted(calls, key=lambda words: " ".join(words[:1]) in LAST)


def about_else() -> list[list[str]]:
    """Return the commands about no run; one that is new must be put into the table above."""
    named = {words[0] if words[0] != "export" else " ".join(words[:2]) for words in about_runs()}
    calls = []
    for path, command in leaves():
        if " ".join(path) in named:
            continue
        words = [*path, *ELSE[" ".join(path)]]
        calls.append(words)
        if any("--json" in one.opts for one in command.params):
            calls.append([*words, "--json"])
    return calls


def filled(words: list[str], run: str, other: str, out: Path) -> list[str]:
    """Return the words of a command about a run, another one and a path."""
    meant = {"RUN": run, "OTHER": other, "OUT": str(out), "sqlite:///OUT": f"sqlite:///{out}"}
    return [meant.get(word, word) for word in words]


@dataclass(frozen=True)
class Said:
    """What a command ended with, and what it printed on stdout and stderr."""

    words: list[str]
    code: int
    text: str


_ALL = """
import json, os, sys, traceback
import hpctf.cli
found = []
for words in json.load(sys.stdin):
    with open("said", "w+") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        sys.argv = ["hpctf", *words]
        try:
            code = hpctf.cli._run()
        except SystemExit as ending:
            code = ending.code
        except BaseException:
            traceback.print_exc()
            code = 99
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        file.seek(0)
        found.append((words, code or 0, file.read()))
with open("all-said", "w") as file:
    json.dump(found, file)
"""


def run_all(
    calls: Sequence[Sequence[str]], python: str, cwd: Path, env: Mapping[str, str]
) -> list[Said]:
    """Run commands one after the other, in one process of a Python that has their libraries."""
    done = subprocess.run(
        [python, "-c", _ALL],
        input=json.dumps([list(words) for words in calls]),
        env={**os.environ, "PYTHONPATH": str(ROOT), **COMPILED, **env},
        cwd=cwd,
        stderr=subprocess.PIPE,
        text=True,
        timeout=HANGS_S,
    )
    assert done.returncode == 0, done.stderr
    said = [Said(*one) for one in json.loads((cwd / "all-said").read_text())]
    for name in ("said", "all-said"):
        (cwd / name).unlink()
    return said
