"""Parts of pages that come from the code: commands, keys of sites, what `hpctf why` says.

A page has ``<!-- hpctf: commands -->`` where such a part belongs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

_PLACE = re.compile(r"^<!-- hpctf: ([\w-]+)(?: ([\w-]+))? -->$", re.MULTILINE)
_OBJECT = re.compile(r"^::: ([\w.]+)\n(?:    .*\n)*", re.MULTILINE)


def complete(text: str) -> str:
    """Return the Markdown of a page with its generated parts."""
    return _PLACE.sub(lambda place: _PARTS[place[1]](place[2] or ""), text)


def without_objects(text: str) -> str:
    """Return Markdown with a command for each ``::: NAME``, which only the site fills in."""
    return _OBJECT.sub(lambda named: f"    python -m pydoc {_public(named[1])}\n", text)


def _public(name: str) -> str:
    """Return the name by which people import what lies in ``hpctf.client.hpctf``."""
    return name.replace("hpctf.client.hpctf.", "hpctf.")


def commands(_: str = "") -> str:
    """Return a section for each command: its usage, what it does, its options."""
    import click

    from hpctf.cli import cli

    context = click.Context(cli, info_name="hpctf")
    return "\n\n".join(_commands(cli, context))


def _commands(group: Any, above: Any) -> Iterator[str]:
    import click

    for name in group.list_commands(above):
        command = group.get_command(above, name)
        if command is None or command.hidden:
            continue
        context = click.Context(command, info_name=name, parent=above)
        yield _command(command, context)
        if isinstance(command, click.Group):
            yield from _commands(command, context)


def _command(command: Any, context: Any) -> str:
    """Return the section of one command."""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"## {context.command_path}", f"```\n{usage}\n```", _paragraphs(command.help or "")]
    records = [param.get_help_record(context) for param in command.get_params(context)]
    rows = [
        (f"`{names}`", words) for names, words in filter(None, records) if "--help" not in names
    ]
    if rows:
        parts.append(_table(("option", "what it does"), rows))
    return "\n\n".join(filter(None, parts))


def _paragraphs(text: str) -> str:
    """Return a help text as Markdown: what `\\b` keeps as it is becomes a block."""
    parts = []
    for part in inspect.cleandoc(text.partition("\f")[0]).split("\n\n"):
        kept = part.startswith("\b")
        parts.append(f"```\n{part[1:].strip(chr(10))}\n```" if kept else part)
    return "\n\n".join(parts)


def site_keys(_: str = "") -> str:
    """Return a table of all keys of site files: type, default, meaning."""
    from hpctf.site.json_schema import site_schema

    schema = site_schema()
    rows = list(_keys(schema["properties"], schema["$defs"], ""))
    return _table(("key", "type", "default", "what it is"), rows)


def _keys(properties: Any, defs: Any, above: str) -> Iterator[tuple[str, str, str, str]]:
    for name, value in properties.items():
        path = f"{above}{name}"
        below = value.get("additionalProperties", {})
        inner = _definition(value, defs) or _definition(below, defs)
        default = f"`{value['default']}`" if value.get("default") not in (None, "") else ""
        kind = "mapping" if inner else _type(value)
        yield f"`{path}`", kind, default, _meaning(name, value.get("description", ""))
        if inner:
            names = "" if _definition(value, defs) else ".NAME"
            yield from _keys(inner["properties"], defs, f"{path}{names}.")


def _definition(value: Any, defs: Any) -> Any:
    """Return what a key's ``$ref`` leads to, also one of several that it may be."""
    options = [value, *value.get("anyOf", [])] if isinstance(value, dict) else []
    names = [option["$ref"].rpartition("/")[2] for option in options if "$ref" in option]
    return defs[names[0]] if names else None


def _type(value: Any) -> str:
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if "anyOf" in value:
        kinds = [_type(one) for one in value["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    kind = value.get("type", "")
    kind = kind[0] if isinstance(kind, list) else kind
    return {"string": "text", "integer": "number", "boolean": "true or false", "array": "list"}.get(
        kind, "mapping" if kind == "object" else kind
    )


def _meaning(name: str, description: str) -> str:
    """Return what a key is; a sentence about it alone is shown without its name."""
    for start in (f"{name} is ", f"{name} are ", f"{name}: "):
        if description.startswith(start):
            words = description.removeprefix(start)
            return words[:1].upper() + words[1:]
    return description


def symptoms(page: str) -> str:
    """Return a table of what `hpctf why` says on one page's subject."""
    from hpctf.runs.explain.symptoms import symptoms_of

    return _table(("`hpctf why` says", "what to do"), symptoms_of(page))


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


_PARTS: dict[str, Callable[[str], str]] = {
    "commands": commands,
    "site-keys": site_keys,
    "symptoms": symptoms,
}
