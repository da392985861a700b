"""Every command of hpctf's that there is, each as somebody would call it: what a new command does
is tried as soon as it is in the tree of commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from hpctf.cli import cli

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


def filled(words: list[str], run: str, other: str, out: Path) -> list[str]:
    """Return the words of a command about a run, another one and a path."""
    meant = {"RUN": run, "OTHER": other, "OUT": str(out), "sqlite:///OUT": f"sqlite:///{out}"}
    return [meant.get(word, word) for word in words]
