"""``hpctf site init``: a first site file, from what Slurm says of itself."""

from __future__ import annotations

import click

from hpctf.cli.common import answer_json, json_option, say


@click.command("init")
@click.argument("name", required=False)
@click.option("--to", metavar="FILE", help="Write to this file.")
@click.option("--print", "show", is_flag=True, help="Print the file's text; write nothing.")
@click.option("--admin", is_flag=True, help="For everybody: write to the admin's folder.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@json_option
def init(
    name: str | None, to: str | None, show: bool, admin: bool, force: bool, as_json: bool
) -> None:
    """Write a first site file, by asking Slurm.

    NAME is the site's, by default slurm: the site that is used where none is named. What could
    not be found out is listed on stderr, and at the top of the file.
    """
    from hpctf.admin.site_init.init import init_site
    from hpctf.errors import UsageError

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
