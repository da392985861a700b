"""``hpctf site``: what sites there are, and what one says."""

from __future__ import annotations

from dataclasses import asdict

import click

from hpctf.cli.common import answer_json, json_option
from hpctf.errors import SiteError


@click.group()
def site() -> None:
    """List and show sites."""


@site.command("list")
@json_option
def list_sites(as_json: bool) -> None:
    """List the sites that --site can name; * marks the one used by default."""
    import os

    from hpctf.site.load import default_site_name, read_site, site_files

    used = os.environ.get("HPCTF_SITE") or default_site_name()
    rows = []
    for name, path in sorted(site_files().items()):
        try:
            description = read_site(path).description
        except SiteError as error:
            description = f"cannot be used: {error.message}"
        rows.append(
            {"name": name, "description": description, "file": str(path), "default": name == used}
        )
    if as_json:
        answer_json(rows)
        return
    for row in rows:
        click.echo(f"{'*' if row['default'] else ' '} {row['name']:16} {row['description']}")


@site.command("show")
@click.argument("name", required=False)
@json_option
def show_site(name: str | None, as_json: bool) -> None:
    """Show all that a site says, defaults included."""
    from hpctf.site.load import load_site

    found = load_site(name)
    content = asdict(found)
    if as_json:
        answer_json(content)
        return
    import json

    import yaml

    plain = json.loads(json.dumps(content))  # tuples become lists
    click.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), nl=False)
