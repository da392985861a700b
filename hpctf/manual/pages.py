"""Pages of the documentation: found by their names, listed as the first page does, searched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpctf.common.paths import DOCS
from hpctf.errors import UsageError, did_you_mean, shown

INDEX = "README"
"""The page that lists all others; each folder has one."""

_ENTRY = re.compile(r"^- \[(?P<title>[^\]]+)\]\((?P<path>[^)#]+)\.md\)(?:: (?P<words>.+))?$")
_HEADING = re.compile(r"^#+ (.+)$")


@dataclass(frozen=True)
class Page:
    """A page: its name, such as ``tuning`` or ``troubleshooting/cuda``, and its file."""

    name: str
    path: Path

    @property
    def text(self) -> str:
        """Its Markdown, without the parts that `hpctf.manual.generated` adds."""
        return self.path.read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        """Its first heading."""
        return self.text.partition("\n")[0].lstrip("# ")


@dataclass(frozen=True)
class Entry:
    """A line of the index: the section it belongs to, the page's name and title, and more words."""

    section: str
    name: str
    title: str
    words: str


@dataclass(frozen=True)
class Match:
    """Where searched words are: the page, the heading above them, and the first line of them."""

    page: Page
    heading: str
    line: str


def pages() -> dict[str, Page]:
    """Return all pages by their names."""
    top = Path(DOCS)
    found: dict[str, Page] = {}
    for path in sorted(top.rglob("*.md")):
        name = path.relative_to(top).with_suffix("").as_posix()
        name = name.removesuffix(f"/{INDEX}")
        found[name] = Page(name, path)
    return found


def find_page(asked: str) -> Page:
    """Return the page of a name, which may end in ``.md`` or begin with ``docs/``.

    Raises
    ------
    UsageError
        No page has that name; names the nearest.
    """
    known = pages()
    name = asked.partition("#")[0].strip("/").removeprefix("docs/").removesuffix(".md") or INDEX
    if name in known:
        return known[name]

    # The last part is enough where it is one page's alone: out-of-memory.
    last = {page.rpartition("/")[2]: page for page in known}
    if name in last:
        return known[last[name]]

    hint = did_you_mean(name, [*known, *last])
    raise UsageError(
        f"The documentation has no page {shown(asked)}.{hint}",
        "List all pages: hpctf docs. Search them: hpctf docs --search WORDS",
    )


def entries() -> Iterator[Entry]:
    """Yield the lines of the index, in its order."""
    section = ""
    for line in pages()[INDEX].text.splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif entry := _ENTRY.match(line):
            name = entry["path"].removesuffix(f"/{INDEX}")
            yield Entry(section, name, entry["title"], entry["words"] or "")


def search(words: str) -> list[Match]:
    """Return the sections of pages that have all words, those with the most of them first."""
    wanted = words.lower().split()
    found: list[tuple[int, Match]] = []
    for page in pages().values():
        for heading, lines in _sections(page.text):
            text = "\n".join([heading, *lines]).lower()
            counts = [text.count(word) for word in wanted]
            if not all(counts):
                continue
            in_heading = sum(word in heading.lower() for word in wanted)
            best = max(lines, key=lambda line: sum(word in line.lower() for word in wanted))
            found.append((sum(counts) + 20 * in_heading, Match(page, heading, best.strip())))
    return [match for _, match in sorted(found, key=lambda pair: -pair[0])]


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each heading of a page with the lines below it."""
    heading, lines, fenced = "", [""], False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        found = None if fenced else _HEADING.match(line)
        if found is None:
            lines.append(line)
            continue
        yield heading, lines
        heading, lines = found[1], [""]
    yield heading, lines
