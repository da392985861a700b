"""What MkDocs asks while it builds the site (mkdocs.yml): its navigation, and the pages' text."""

from __future__ import annotations

import os
import re
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hpctf.manual.generated import complete  # noqa: E402
from hpctf.manual.pages import entries  # noqa: E402

REPOSITORY = "https://github.com/hpctf/hpctf/blob/main"

_LINK = re.compile(r"\]\((\.\./[^)#]*)")
_FENCE = re.compile(r"^(```\w+) \S+$", re.MULTILINE)


def on_config(config: Any) -> Any:
    """Make the navigation of what docs/README.md lists."""
    config.nav = [{"Home": "README.md"}]
    for section, listed in groupby(entries(), key=lambda entry: entry.section):
        config.nav.append({section: [{entry.title: _file(entry.name)} for entry in listed]})
    return config


def _file(name: str) -> str:
    folder = ROOT / "docs" / name
    return f"{name}/README.md" if folder.is_dir() else f"{name}.md"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Add the generated parts; let links that leave docs/ lead to the repository."""
    text = _FENCE.sub(r"\1", complete(markdown))  # tests read what follows the language
    folder = Path("docs", page.file.src_uri).parent

    def redirect(link: re.Match[str]) -> str:
        path = os.path.normpath(folder / link[1])
        return link[0] if path.startswith("docs/") else f"]({REPOSITORY}/{path}"

    return _LINK.sub(redirect, text)
