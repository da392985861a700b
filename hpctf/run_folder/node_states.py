"""What the nodes of a run say of the copies that they make of its data, before its ranks start.

Each node appends to a file of its own, ``state/node-<host>.jsonl``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TypedDict

from hpctf.common.files import read_records
from hpctf.common.forms import fitting

_PREFIX, _SUFFIX = "node-", ".jsonl"


class NodeRecord(TypedDict, total=False):
    """A line of a node's file."""

    event: str
    time: float
    attempt: int
    host: str
    what: str
    needed: int
    copied: int
    environment: dict[str, str]
    places: dict[str, str]
    folder: str
    area: str
    notes: list[str]
    reason: str
    hint: str | None


@dataclass(frozen=True)
class NodeState:
    """One node, as its file tells.

    ``state`` is ``staging``, ``staged`` or ``failed``; ``needed`` and ``copied`` are bytes; times
    are seconds since the epoch; ``what`` is copied; ``reason`` and ``hint`` say what failed.
    """

    host: str
    state: str = "staging"
    started: float | None = None
    ended: float | None = None
    needed: int = 0
    copied: int = 0
    what: str = "data"
    notes: tuple[str, ...] = ()
    reason: str = ""
    hint: str = ""


def node_file(run_folder: str | os.PathLike[str], host: str) -> str:
    """Return the path of a node's file."""
    return os.path.join(run_folder, "state", f"{_PREFIX}{host}{_SUFFIX}")


def read_nodes(run_folder: str | os.PathLike[str], attempt: int | None) -> list[NodeState]:
    """Return the nodes that have begun to make copies in a start of the job, by their names."""
    folder = os.path.join(run_folder, "state")
    found = []
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # somebody else's, or something else lies there
        return []
    for name in names:
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
            host = name[len(_PREFIX) : -len(_SUFFIX)]
            node = _read_node(os.path.join(folder, name), host, attempt)
            if node is not None:
                found.append(node)
    return found


def first_failed(run_folder: str | os.PathLike[str], attempt: int | None) -> NodeState | None:
    """Return the node that failed first to make its copies, if any did."""
    failed = [node for node in read_nodes(run_folder, attempt) if node.state == "failed"]
    return min(failed, key=lambda node: node.ended or 0.0, default=None)


def staging_words(run_folder: str | os.PathLike[str], attempt: int | None) -> str:
    """Return ``staging data on 2 nodes (1.2 of 10.0 GB)``; empty if no node is at it."""
    nodes = [node for node in read_nodes(run_folder, attempt) if node.state == "staging"]
    if not nodes:
        return ""
    words = f"staging {nodes[0].what} on {len(nodes)} {'node' if len(nodes) == 1 else 'nodes'}"
    needed = sum(node.needed for node in nodes)
    if not needed:
        return words
    return f"{words} ({sum(node.copied for node in nodes) / 1e9:.1f} of {needed / 1e9:.1f} GB)"


def _read_node(path: str, host: str, attempt: int | None) -> NodeState | None:
    node = None
    for line in read_records(path):
        record = fitting(line, NodeRecord)
        if attempt not in (None, record.get("attempt", attempt)):
            continue
        event = record.get("event")
        if event == "staging":
            what = record.get("what") or "data"
            node = NodeState(host, started=record.get("time"), what=what)
        if node is None:
            continue
        if event == "copied":
            node = replace(
                node,
                needed=record.get("needed") or node.needed,
                copied=record.get("copied") or 0,
            )
        elif event == "staged":
            notes = tuple(map(str, record.get("notes") or ()))
            node = replace(node, state="staged", ended=record.get("time"), notes=notes)
        elif event == "failed":
            node = replace(
                node,
                state="failed",
                ended=record.get("time"),
                reason=str(record.get("reason") or ""),
                hint=str(record.get("hint") or ""),
            )
    return node
