"""``--help`` of commands with many options: in groups, what is used often first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from hpctf.cli.common import Command, Give, together

_GROUP = "hpctf_group"
_OTHERS = "Options"


def in_group(group: str, *options: Give) -> Give:
    """Return what gives a command these options, which ``--help`` lists in a group."""
    give = together(*options)

    def grouped(command: Command) -> Command:
        before = _of(command)
        command = give(command)
        for parameter in _of(command):
            if parameter not in before:
                setattr(parameter, _GROUP, group)
        return command

    return grouped


def _of(command: Any) -> list[click.Parameter]:
    """Return the parameters that a command, or a function that will be one, has so far."""
    if isinstance(command, click.Command):
        return list(command.params)
    return list(getattr(command, "__click_params__", ()))


class GroupedCommand(click.Command):
    """A command whose ``--help`` has a section for each group of options.

    Groups that the command alone has come first, then those of the estimator's parameters. In each
    group, options with a short form come first.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from hpctf.estimator.parameter import GROUPS  # only for --help

        sections: dict[str, list[tuple[bool, tuple[str, str]]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                group = getattr(parameter, _GROUP, _OTHERS)
                sections.setdefault(group, []).append((_is_long(parameter.opts), record))
        own = [group for group in sections if group not in (*GROUPS, _OTHERS)]
        for group in (*own, *GROUPS, _OTHERS):
            rows = sorted(sections.get(group, ()), key=lambda row: row[0])
            if rows:
                with formatter.section(group):
                    formatter.write_dl([record for _, record in rows])


def _is_long(flags: Sequence[str]) -> bool:
    return all(flag.startswith("--") for flag in flags) or "--help" in flags
