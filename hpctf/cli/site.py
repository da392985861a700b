"""``hpctf site``: what sites there are, and what one says."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from hpctf.cli.common import answer_json, json_option, set_option
from hpctf.cli.site_init import init
from hpctf.errors import HpctfError


@click.group()
def site() -> None:
    """List and show sites."""


@site.command("list")
@json_option
def list_sites(as_json: bool) -> None:
    """List the sites that --site can name; * marks the one used by default."""
    from hpctf.resources import SITE_CONFIGS
    from hpctf.site.find import site_files
    from hpctf.site.load import default_name, load_site

    used = default_name()
    rows: list[dict[str, Any]] = []
    for name, paths in site_files().items():
        try:
            description = load_site(name).description
        except HpctfError as error:
            description = f"cannot be used: {error.message}"
        files = [str(path) for path in paths]
        rows.append(
            {
                "name": name,
                "description": description,
                "file": files[-1],
                "files": files,
                "default": name == used,
            }
        )
    if as_json:
        answer_json(rows)
        return
    for row in rows:
        click.echo(f"{'*' if row['default'] else ' '} {row['name']:16} {row['description']}")
        own = [file for file in row["files"] if not file.startswith(f"{SITE_CONFIGS}/")]
        for file in (
            row["files"] if own else ()
        ):  # of a site that comes with hpctf, the name will do
            click.echo(f"{'':19}{file}")


@site.command("show")
@click.argument("name", required=False)
@set_option
@json_option
def show_site(name: str | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Show all that a site says, from all of its layers, defaults included."""
    from hpctf.site.load import load_site

    found = load_site(name, settings=settings)
    content = asdict(found)
    if as_json:
        answer_json(content)
        return
    import json

    import yaml

    plain = json.loads(json.dumps(content))  # tuples become lists
    click.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), nl=False)


site.add_command(init)
