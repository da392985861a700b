"""``hpctf site``: what sites there are, what one says, from where, and whether it works."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from hpctf.cli.common import answer_json, json_option, print_table, say, set_option, site_option
from hpctf.common.notes import notify
from hpctf.common.secrets import public
from hpctf.errors import HpctfError, SiteError, UsageError


@click.group()
def site() -> None:
    """List, show, explain and validate sites; write a first one."""


@site.command("list")
@json_option
def list_sites(as_json: bool) -> None:
    """List the sites that --site can name; * marks the one used by default."""
    from hpctf.common.paths import SITE_CONFIGS
    from hpctf.site.discovery import site_files
    from hpctf.site.loading import default_name, read_site

    try:
        used = default_name()
    except HpctfError as error:
        used = ""
        notify(error.message)
    rows: list[dict[str, Any]] = []
    for name, paths in site_files().items():
        try:
            description = read_site(name).description
        except HpctfError as error:
            description = f"cannot be used: {error.message}"
        files = [str(path) for path in paths]
        row = {"name": name, "description": description, "file": files[-1], "files": files}
        rows.append({**row, "default": name == used})
    if as_json:
        answer_json(rows)
        return
    for row in rows:
        click.echo(f"{'*' if row['default'] else ' '} {row['name']:16} {row['description']}")
        if row["files"] != [f"{SITE_CONFIGS}/{row['name']}.yaml"]:  # else the name will do
            for file in row["files"]:
                click.echo(f"{'':19}{file}")


@site.command("show")
@click.argument("name", required=False)
@set_option
@json_option
def show_site(name: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Show all settings of a site, from all of its layers, defaults included."""
    from hpctf.site.loading import load_site

    content = public(asdict(load_site(name, settings=settings)))
    if as_json:
        answer_json(content)
        return
    import json

    import yaml

    plain = json.loads(json.dumps(content))  # tuples become lists
    click.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), nl=False)


@site.command("explain")
@click.argument("key", required=False)
@site_option
@set_option
@json_option
def explain_site(
    key: str | None, site: str | None, settings: tuple[str, ...], as_json: bool
) -> None:
    """Show where each value of a site, or those under KEY, comes from, and what it overrode."""
    from hpctf.site.explain import explain
    from hpctf.site.loading import load_layers

    found = explain(load_layers(site, settings=settings), key)
    if as_json:
        answer_json([one.as_json() for one in found])
        return
    rows = []
    for one in found:
        lock = "" if one.lock is None else f"{one.lock[0]} ({one.lock[1]})"
        rows.append((one.key, text_of(one.said.value), str(one.said.origin), lock))
        for before in reversed(one.overrode):
            if before.origin.layer != "default" or before.value not in _NOTHING:
                rows.append(("", f"  over {text_of(before.value)}", str(before.origin), ""))
    locked = any(row[3] for row in rows)
    titles = ("KEY", "VALUE", "FROM", "LOCKED BY")[: 4 if locked else 3]
    print_table(titles, [row[: len(titles)] for row in rows])


@site.command("validate")
@click.argument("name", required=False, metavar="[NAME|FILE]")
@click.option(
    "--no-sbatch", is_flag=True, help="Do not ask Slurm, because the site is another cluster's."
)
@set_option
@json_option
def validate_site(
    name: str | None, no_sbatch: bool, settings: tuple[str, ...], as_json: bool
) -> None:
    """Render every backend for every target, and look at each script and template.

    bash, shellcheck (where it is there) and sbatch --test-only (where there is a Slurm) look at
    the scripts. Exit code 3 if anything is wrong.
    """
    from hpctf.admin.validate import LOOKS, validate
    from hpctf.site.loading import load_layers
    from hpctf.site.schema import problems_of

    layers = load_layers(name, settings=settings)
    wrong, found = problems_of(layers)
    if found is None:
        if as_json:
            answer_json({"site": layers.name, "ok": False, "problems": wrong})
        raise SiteError("\n".join(wrong))
    result = validate(found, layers, ask_slurm=not no_sbatch)
    if as_json:
        told = {"site": result.site, "ok": not result.problems, "problems": result.problems}
        answer_json({**told, "warnings": result.warnings, **asdict(result)})
    else:
        marks = {"ok": "✓", "wrong": "✗", "skipped": "–"}
        rows = []
        for case in result.cases:
            looks = [marks.get(case.looks.get(look, ""), "") for look in LOOKS]
            rows.append((case.target, case.backend, *looks, case.note))
        for file, wrong_there in result.templates.items():
            rows.append((file, "template", "✗" if wrong_there else "✓", *[""] * len(LOOKS)))
        print_table(("TARGET", "BACKEND", *(look.upper() for look in LOOKS), "NOTE"), rows)
    for warning in result.warnings:
        notify(warning)
    if result.problems:
        raise SiteError("\n".join(result.problems))


@site.command("schema")
@click.option("--project", is_flag=True, help="Print the schema of a project's hpctf.yaml instead.")
def print_schema(project: bool) -> None:
    """Print the JSON Schema of site files, for editors."""
    from hpctf.site.json_schema import project_schema, site_schema

    answer_json(project_schema() if project else site_schema())


_NOTHING: tuple[Any, ...] = (None, "", [], {})
"""Defaults that say nothing: that they are overridden is not worth a line."""


def text_of(value: Any) -> str:
    """Return a value as one line of YAML has it."""
    import yaml

    if isinstance(value, str) and value and value.isprintable():
        return value
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").strip()


@site.command("init")
@click.argument("name", required=False)
@click.option("--to", metavar="FILE", help="Write to this file.")
@click.option("--print", "show", is_flag=True, help="Print the file's text; write nothing.")
@click.option("--admin", is_flag=True, help="Write to the admin's folder, for everybody.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@json_option
def init(
    name: str | None, to: str | None, show: bool, admin: bool, force: bool, as_json: bool
) -> None:
    """Write a first site file, by asking Slurm.

    NAME is the site's, by default slurm: the site that is used where none is named. What could
    not be found out is listed on stderr, and at the top of the file.
    """
    from hpctf.admin.site_init.init import init_site

    if show and to is not None:
        raise UsageError("--print writes nothing, and --to names a file to write.", "Choose one.")
    made = init_site(name, to=to, write=not show, admin=admin, force=force, tell=say)
    if as_json:
        answer_json(
            {
                "name": made.name,
                "file": made.path and str(made.path),
                "text": made.text,
                "used_by_default": made.used,
                "missing": [{"what": one.what, "how": one.how} for one in made.missing],
            }
        )
    else:
        click.echo(made.text if show else made.path, nl=not show)
    say("Could not be found out:")
    for one in made.missing:
        say(f"  - {one}")
    if made.path is None:
        return
    words = made.name if to is None else str(made.path)
    if made.used:
        say(f"Next: hpctf site validate {words}, then hpctf doctor --job")
    else:
        say(f"Use it with --site {words}, or: export HPCTF_SITE={words}")
        say(f"Next: hpctf site validate {words}, then hpctf doctor --job --site {words}")
