"""Pages as HTML files, which a browser shows without a network or a server."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path
from typing import Any

from hpctf._version import __version__
from hpctf.common.files import write_atomic
from hpctf.common.paths import DOCS, cache_folder
from hpctf.manual.generated import complete, without_objects
from hpctf.manual.pages import INDEX, Page, pages

_STYLE = """
:root { color-scheme: light dark; }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.6 system-ui, sans-serif; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
pre { overflow-x: auto; padding: .8rem; border: 1px solid #8884; border-radius: 4px; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border: 1px solid #8884; padding: .3rem .6rem; text-align: left; vertical-align: top; }
img { max-width: 100%; }
"""
_REPOSITORY = "https://github.com/hpctf/hpctf/blob/main/"


def write_pages() -> Path:
    """Write all pages into the user's cache, and return their folder.

    Raises
    ------
    OSError
        The cache cannot be written.
    """
    folder = cache_folder() / f"docs-{__version__}"
    for page in pages().values():
        target = folder / page.path.relative_to(DOCS).with_suffix(".html")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, _as_html(page))
    return folder


def address_of(page: Page, folder: Path) -> str:
    """Return the address of a page that `write_pages` has written."""
    return (folder / page.path.relative_to(DOCS).with_suffix(".html")).as_uri()


def _as_html(page: Page) -> str:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(without_objects(complete(page.text)))
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", anchor(tokens[number + 1].content))
        for child in token.children or []:
            _redirect(child, page)

    body = parser.renderer.render(tokens, parser.options, {})
    up = "../" * page.path.relative_to(DOCS).as_posix().count("/")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>'
        f"{html.escape(page.title)} - hpctf</title><style>{_STYLE}</style></head>\n"
        f'<body><nav><a href="{up}{INDEX}.html">hpctf {__version__}: all pages</a></nav>\n'
        f"<main>{body}</main></body></html>\n"
    )


def anchor(heading: str) -> str:
    """Return what GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-")


def _redirect(token: Any, page: Page) -> None:
    """Let a link lead to the HTML of a page, and all else to where it is."""
    name = {"link_open": "href", "image": "src"}.get(token.type)
    if name is None:
        return
    target, mark, place = str(token.attrGet(name)).partition("#")
    if not target or "://" in target or target.startswith("mailto:"):
        return
    path = os.path.normpath(page.path.parent / target)
    inside = path.startswith(DOCS + os.sep)
    if inside and path.endswith(".md"):
        target = target.removesuffix(".md") + ".html"
    else:
        # A picture is hpctf's own file; what is not in docs/ is in the repository alone.
        relative = os.path.relpath(path, os.path.dirname(DOCS))
        target = Path(path).as_uri() if inside else _REPOSITORY + relative.removeprefix("../")
    token.attrSet(name, target + mark + place)
