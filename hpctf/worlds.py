"""Whether the ranks of an mpi run worked together: the worlds that they were in, compared.

`hpctf.startup` puts on record, in each rank's state file, the world that Horovod or mpi4py has
really started there, and what the script tried to import. A script that does without Horovod where
its import fails, or whose MPI library does not know the launcher, trains alone on each rank and
ends well: nothing else tells.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hpctf.files import read_records
from hpctf.verdict import RankState

SKIP = "HPCTF_SKIP_PREFLIGHT"

_LIBRARIES = {"horovod": "Horovod", "mpi4py": "mpi4py"}
_MOST_FILES = 500
_MOST_BYTES = 1_000_000
_WORDS_OF_RANKS = re.compile(
    rb"rank|procid|nodeid|localid|tf_config|cluster_?resolver|multiworker|parameterserver"
    rb"|\bshard\b|current_task",
    re.IGNORECASE,
)
"""Words of a script that knows that it is one of several: each rank may then do a part."""

_LISTED = 4


@dataclass
class Seen:
    """What one rank has left: its worlds by library as (size, rank), and what it imported."""

    worlds: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    own: set[str] = field(default_factory=set)
    """Libraries that the script itself has started, and not a process of its own making."""
    parts: set[str] = field(default_factory=set)
    """Libraries that the script gave a part of the world, as it likes."""
    imported: set[str] = field(default_factory=set)
    refused: str = ""

    def world(self, library: str) -> tuple[int, int]:
        """Return the largest world: a child process may have had one of its own."""
        return max(self.worlds.get(library, [(0, 0)]))


def judge(
    run_folder: str, plan: dict[str, Any], ranks: Iterable[RankState], attempt: int
) -> tuple[str, str]:
    """Return (why the ranks of a run that has ended well did not train together, a note).

    Both are empty where there is nothing to say. Where ranks never looked for each other, but the
    script tells them apart, each may have done a part: then there is a note alone.
    """
    seen = _seen(run_folder, plan, ranks, attempt)
    return (_why_apart(seen, run_folder, plan), _note(seen, plan)) if seen else ("", "")


def _why_apart(seen: dict[str, Seen], run_folder: str, plan: dict[str, Any]) -> str:
    if _together(seen):
        return ""
    for name, one in seen.items():
        if one.refused:
            return f"{name}: {one.refused}"
    return _other_worlds(seen) or _no_world(seen, run_folder, plan)


def _note(seen: dict[str, Seen], plan: dict[str, Any]) -> str:
    """Return what to say of a run whose ranks each worked by themselves, as they may have to."""
    imported = {module for one in seen.values() for module in one.imported}
    started = {library for one in seen.values() for library in {*one.worlds, *one.parts}}
    if started and "horovod" in imported and "Horovod" not in started:
        return f"the script looks for Horovod, but no rank has started it: only {min(started)}"
    if started:
        return ""
    if "tensorflow" in imported:
        return f"its {len(seen)} ranks did not exchange anything: each worked by itself"
    if _is_program(plan):
        return (
            f"whether its {len(seen)} ranks worked together is not known: no Python of theirs has "
            "started Horovod or mpi4py where hpctf could see it"
        )
    return ""


def _seen(
    run_folder: str, plan: dict[str, Any], ranks: Iterable[RankState], attempt: int
) -> dict[str, Seen]:
    """Return what each rank has left; nothing where ranks are not to find each other by MPI."""
    entry = plan["entry"]
    names = [(rank.name, rank.host) for rank in ranks]
    skips = entry["environment"].get(SKIP, os.environ.get(SKIP)) == "1"
    if plan["backend"] != "mpi" or len(names) < 2 or skips:
        return {}
    return {
        f"{name} on {host}": _read(os.path.join(run_folder, "state", f"{name}.jsonl"), attempt)
        for name, host in names
    }


def _read(path: str, attempt: int) -> Seen:
    seen = Seen()
    for record in read_records(path):
        if record.get("attempt") != attempt:
            continue
        event, library = record.get("event"), str(record.get("library"))
        size, rank = record.get("size"), record.get("rank")
        if event == "world" and not record.get("child"):
            seen.own.add(library)
        if event == "world" and record.get("part"):
            seen.parts.add(library)
        elif event == "world" and isinstance(size, int) and isinstance(rank, int):
            seen.worlds.setdefault(library, []).append((size, rank))
        elif event == "imports":
            seen.imported.add(str(record.get("module")))
        elif event == "refused":
            seen.refused = str(record.get("reason"))
    return seen


def _libraries(seen: dict[str, Seen]) -> list[str]:
    """Return the libraries whose worlds count: those that the scripts have started themselves, or
    if there are none, those of their child processes; but for any given a part of the world.

    A child may start a library by chance, as h5py starts MPI, in a world of its own.
    """
    started = {library for one in seen.values() for library in one.worlds}
    own = {library for one in seen.values() for library in one.own}
    parts = {library for one in seen.values() for library in one.parts}
    return sorted((started & own or started) - parts)


def _together(seen: dict[str, Seen]) -> bool:
    """Whether each library that was started had all ranks in one world, or a part by choice."""
    libraries = _libraries(seen)
    if not libraries:
        return any(one.parts for one in seen.values())
    return all(_is_one_world(seen, library) for library in libraries)


def _is_one_world(seen: dict[str, Seen], library: str) -> bool:
    """Whether all ranks that left a word of a library's world were in the one of the run.

    A rank that has left none, its disk being full, was in it if the others were.
    """
    worlds = [one.world(library) for one in seen.values() if one.worlds.get(library)]
    numbers = [rank for _, rank in worlds]
    return all(size == len(seen) for size, _ in worlds) and len(set(numbers)) == len(numbers)


def _other_worlds(seen: dict[str, Seen]) -> str:
    """Return which rank saw what, where a library's worlds were not the run's."""
    for library in _libraries(seen):
        if _is_one_world(seen, library):
            continue
        saw = list(_saw(seen, library))
        more = f" and {len(saw) - _LISTED} more" if len(saw) > _LISTED else ""
        return (
            f"its {len(seen)} ranks were not in one world of {library}: "
            f"{', '.join(saw[:_LISTED])}{more}. What each has trained is its own. Set the launcher "
            "that fits in the site file (mpi: {launcher, plugin}); hpctf doctor --job finds out "
            "which does"
        )
    return ""


def _saw(seen: dict[str, Seen], library: str) -> Iterator[str]:
    for name, one in seen.items():
        if one.worlds.get(library):
            size, rank = one.world(library)
            yield f"{name} was " + ("alone" if size == 1 else f"rank {rank} of {size}")


def _no_world(seen: dict[str, Seen], run_folder: str, plan: dict[str, Any]) -> str:
    """Return why nobody joined the others, if the script wanted to, or trains as if alone."""
    imported = {module for one in seen.values() for module in one.imported}
    wanted = [label for module, label in _LIBRARIES.items() if module in imported]
    way_out = (
        f"--env {SKIP}=1 lets such a run complete; --backend single trains one model on one node"
    )
    if wanted:
        return (
            f"its {len(seen)} ranks each trained alone: the script looks for "
            f"{' and '.join(wanted)}, but no rank has started it. Either its import failed and the "
            "script went on without (import it outside of try, to see why), or hvd.init() was not "
            f"called. {way_out}"
        )
    if "tensorflow" in imported and not _may_tell_ranks_apart(run_folder, plan):
        return (
            f"its {len(seen)} ranks each trained alone: the script uses TensorFlow, but neither "
            "Horovod nor mpi4py, and does not look at its rank. Train with import hpctf.keras as "
            f"hvd, or with hpctf.strategy(). {way_out}"
        )
    return ""


def _is_program(plan: dict[str, Any]) -> bool:
    entry = plan["entry"]
    return bool(entry["command"][0] != entry["python"])


def _may_tell_ranks_apart(run_folder: str, plan: dict[str, Any]) -> bool:
    """Whether a script may know that it is one of several; a function's text is not known."""
    if plan["entry"]["kind"] != "script":
        return True
    return tell_ranks_apart(_texts(os.path.join(run_folder, "snapshot")))


def tell_ranks_apart(texts: Iterable[bytes]) -> bool:
    """Whether a script, by its texts, knows that it is one of several."""
    return any(_WORDS_OF_RANKS.search(text) for text in texts)


def _texts(folder: str) -> Iterator[bytes]:
    """Yield the code of a snapshot."""
    read = 0
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            if not name.endswith((".py", ".sh")) or os.path.islink(path):
                continue
            read += 1
            if read > _MOST_FILES:
                return
            try:
                with open(path, "rb") as stream:
                    yield stream.read(_MOST_BYTES)
            except OSError:
                continue
