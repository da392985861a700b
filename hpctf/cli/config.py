"""``hpctf config``: where settings come from."""

from __future__ import annotations

import click

from hpctf.cli.common import answer_json, json_option, print_table, set_option, site_option
from hpctf.cli.site import text_of
from hpctf.common.secrets import hidden
from hpctf.site.overview import JobKey, overview


@click.command()
@click.argument("job", required=False, metavar="[JOB.yaml]")
@site_option
@set_option
@click.option("--all", "every", is_flag=True, help="Also show hpctf's defaults.")
@json_option
def config(
    job: str | None, site: str | None, settings: tuple[str, ...], every: bool, as_json: bool
) -> None:
    """Show which files and variables hpctf reads, and each setting with its origin.

    With JOB.yaml, also what that job file sets. hpctf site explain KEY has what a value overrode.
    """
    keys = () if job is None else _keys_of(job)
    found = overview(site, settings, keys)
    if as_json:
        answer_json(found.as_json())
        return
    print_table(("READS", "PLACE", ""), [(one.what, one.place, one.state) for one in found.sources])
    click.echo("")
    rows = [
        (one.key, text_of(one.value), one.origin)
        for one in found.values
        if every or not one.is_default
    ]
    print_table(("SETTING", "VALUE", "FROM"), [tuple(map(hidden, row)) for row in rows])


def _keys_of(job: str) -> tuple[JobKey, ...]:
    from pathlib import Path

    from hpctf.cli.job_file import read_job_file
    from hpctf.cli.submit import submit
    from hpctf.common.secrets import hide

    read = read_job_file(Path(job), submit.params)
    return tuple((job, key, hide(value, set())) for key, value in read.items())
