"""``hpctf migrate``: scripts and notebooks written for Azure ML."""

from __future__ import annotations

from pathlib import Path

import click

from hpctf.cli.common import answer_json, json_option, out_option, say, site_option
from hpctf.errors import UsageError


@click.command()
@click.argument("file", metavar="SCRIPT|NOTEBOOK", type=click.Path(path_type=Path))
@out_option("A new file to write (default: stdout).")
@site_option
@json_option
def migrate(file: Path, out: Path | None, site: str | None, as_json: bool) -> None:
    """Change the import lines of a submission script or notebook written for Azure ML.

    The changed file is printed on stdout; nothing else in it changes. What hpctf cannot do is
    listed on stderr by line, with what to write instead. Training scripts run as they are.
    """
    from dataclasses import asdict

    from hpctf.common.terminal import data
    from hpctf.migration.migrate import migrate as migrated

    done = migrated(file, site)
    if out is not None:
        _write(out, done.content)
    for remark in done.remarks:
        cell = "" if remark.cell is None else f"cell {remark.cell}, "
        say(f"{file}: {cell}line {remark.line}: {remark.what}: {remark.instead}")
    say(_summary(done.changed, len(done.remarks), done.training))
    if as_json:
        text = done.content.decode("utf-8", "replace")
        remarks = [asdict(remark) for remark in done.remarks]
        answer_json({"changed": done.changed, "remarks": remarks, "text": text})
    elif out is not None:
        click.echo(str(out))
    else:
        data(done.content)


def _write(path: Path, content: bytes) -> None:
    """Write a file that was not there."""
    try:
        with open(path, "xb") as stream:
            stream.write(content)
    except FileExistsError:
        raise UsageError(
            f"{str(path)!r} exists, and hpctf migrate replaces no file.", "Name a new file."
        ) from None
    except OSError as error:
        raise UsageError(
            f"Cannot write {str(path)!r}: {error.strerror}.",
            "Name another folder with --out, or make room there.",
        ) from None


def _summary(changed: int, remarks: int, training: bool) -> str:
    if training:
        return "It is a training script, which runs as it is: nothing was changed."
    lines = "1 import line" if changed == 1 else f"{changed} import lines"
    told = {0: "", 1: "; 1 line needs your hand"}.get(remarks, f"; {remarks} lines need your hand")
    return f"Changed {lines}{told}."
