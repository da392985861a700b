"""``hpctf docs``: the documentation, in a browser or in the terminal."""

from __future__ import annotations

import os
import sys
from itertools import groupby
from typing import TYPE_CHECKING

import click

from hpctf.cli.common import say

if TYPE_CHECKING:
    from hpctf.manual.pages import Page

SHOWN = 15
"""Most places that a search shows."""


@click.command()
@click.argument("page", required=False)
@click.option("--search", metavar="WORDS", help="List the places that contain all of these words.")
@click.option("--print", "printing", is_flag=True, help="Print the page; do not open a browser.")
def docs(page: str | None, search: str | None, printing: bool) -> None:
    """Open a page of the documentation; without PAGE, list all pages.

    Where there is no browser, as on a login node, hpctf prints the page.
    """
    from hpctf.manual.pages import find_page

    if search is not None:
        _search(search)
    elif page is None:
        _list()
    else:
        found = find_page(page)
        if printing or not _open(found, page.partition("#")[2]):
            _print(found)


def _list() -> None:
    from hpctf.manual.pages import entries

    listed = list(entries())
    width = max(len(entry.name) for entry in listed)
    for section, lines in groupby(listed, key=lambda entry: entry.section):
        click.echo(f"{section}")
        for entry in lines:
            click.echo(f"  {entry.name:{width}}  {entry.title}")
        click.echo()
    say("Read one: hpctf docs PAGE. Search them: hpctf docs --search WORDS")


def _search(words: str) -> None:
    from hpctf.errors import UsageError, shown
    from hpctf.manual.pages import search

    found = search(words)
    if not found:
        raise UsageError(
            f"No page has all of these words: {shown(words)}.",
            "Search for fewer of them, or list all pages: hpctf docs",
        )
    for match in found[:SHOWN]:
        click.echo(f"{match.page.name}: {match.heading or match.page.title}")
        if match.line:
            click.echo(f"    {match.line[:160]}")
    if len(found) > SHOWN:
        say(f"{len(found) - SHOWN} more places have them. Search for more words to see fewer.")


def _open(page: Page, place: str) -> bool:
    """Open a page in a browser, and return whether there is one that shows windows."""
    if not sys.stdout.isatty() or not _has_windows():
        return False
    import webbrowser

    from hpctf.manual.html import address_of, write_pages

    try:
        address = address_of(page, write_pages())
        opened = webbrowser.open(address + (f"#{place}" if place else ""))
    except OSError:  # a home that is full or read-only still leaves the terminal
        return False
    if opened:
        say(f"Opened {address}")
    return opened


def _has_windows() -> bool:
    """Whether a browser can open a window: webbrowser would also start one within the terminal."""
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def _print(page: Page) -> None:
    """Print a page: through a pager in a terminal, as Markdown elsewhere."""
    from hpctf.manual.generated import complete, without_objects

    text = without_objects(complete(page.text))
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    from rich.markdown import Markdown

    from hpctf.common.terminal import console

    screen = console()
    with screen.pager(styles=_pager_keeps_styles()):
        screen.print(Markdown(text, hyperlinks=False))


def _pager_keeps_styles() -> bool:
    """Whether the pager shows colors: less does if told to, and others may not."""
    os.environ.setdefault("LESS", "-R -F -X")
    return "R" in os.environ["LESS"] and os.environ.get("PAGER", "less").split()[0] == "less"
