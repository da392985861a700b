"""Names that MLflow takes: its rule, and what becomes of names that break it."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections import Counter
from collections.abc import Iterable

LONGEST = 250
"""Characters of a name (mlflow/utils/validation.py, MAX_ENTITY_KEY_LENGTH)."""

_REFUSED = re.compile(r"[^/\w.\- :]")


def allowed_names(names: Iterable[str]) -> dict[str, str]:
    """Return for each name the one that it has in MLflow.

    MLflow takes letters, digits and ``/ _ . - : space``, and no path that leads elsewhere, such as
    ``../loss``. Each other character becomes ``_``; where two names would be one, or one is too
    long, the end of a renamed one tells them apart.
    """
    cleaned = {name: _cleaned(name) for name in names}
    claimed = Counter(cleaned.values())
    return {
        name: clean
        if len(clean) <= LONGEST and (name == clean or claimed[clean] == 1)
        else _told_apart(clean, name)
        for name, clean in cleaned.items()
    }


def _cleaned(name: str) -> str:
    leads_elsewhere = name.startswith(("/", "..")) or name in ("", ".")
    if posixpath.normpath(name) == name and not leads_elsewhere and not _REFUSED.search(name):
        return name
    parts = [part for part in _REFUSED.sub("_", name).split("/") if part]
    return "/".join("_" * len(part) if part in (".", "..") else part for part in parts) or "_"


def _told_apart(clean: str, name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{clean[: LONGEST - 7]}-{digest}"
