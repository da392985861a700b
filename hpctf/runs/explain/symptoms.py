"""Every symptom that `hpctf why` knows, by the page of docs/troubleshooting about it."""

from __future__ import annotations

from hpctf.runs.explain import log_patterns, reasons

OTHER_PAGES = ("time-limit", "interrupted", "environment-build", "staging")
"""Pages of what is seen by other means than a line of a log or a reason of Slurm's."""


def symptoms() -> dict[str, list[tuple[str, str]]]:
    """Return, for each page, pairs of what a symptom means and what can be done."""
    found: dict[str, list[tuple[str, str]]] = {page: [] for page in OTHER_PAGES}
    for symptom in log_patterns.known():
        pair = (_shown(symptom.meaning), _shown(symptom.advice))
        found.setdefault(symptom.page, []).append(pair)

    for name, reason in reasons.REASONS.items():
        explained = reasons.explain(name, "JOB")
        pair = (f"`{name}`: {reason.meaning}", explained.advice)
        found.setdefault(explained.page, []).append(pair)
    return found


def symptoms_of(page: str) -> list[tuple[str, str]]:
    """Return the pairs of one page, each once."""
    return list(dict.fromkeys(symptoms()[page]))


def _shown(text: str) -> str:
    """Return a text with ``…`` where `hpctf why` names something."""
    for place in ("{1}", "{python}", "{instead}"):
        text = text.replace(place, "…")
    return text
