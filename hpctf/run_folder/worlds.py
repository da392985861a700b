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
from functools import cached_property
from typing import Any, NamedTuple

from hpctf.common.files import read_records
from hpctf.run_folder.rank_states import RankState

SKIP = "HPCTF_SKIP_PREFLIGHT"

_LIBRARIES = {"horovod": "Horovod", "mpi4py": "mpi4py"}
_TRAIN = {"tensorflow", "keras"}
_FOR_FILES = {"adios2", "h5netcdf", "h5py", "netCDF4", "wandb"}
"""Packages that start MPI for themselves, wherever mpi4py is there: a script that does not use
mpi4py as well knows nothing of that world."""
_MOST_FILES = 500
_MOST_BYTES = 1_000_000
_COMMENTS = re.compile(rb"^\s*#.*$", re.MULTILINE)
_TELLS_APART = re.compile(
    rb"RANK|(?i:procid|nodeid|localid|tf_config|cluster_?resolver|multiworker|parameterserver)"
)
"""Words of a script that knows that it is one of several: each rank may then do a part. Their
variables' names, and no ``rank`` of a matrix or of an absent Horovod's."""
_TELLS_APART_BY_HPCTF = re.compile(rb"\b(?:rank|shard|current_task)\b")

_LISTED = 4
_WAY_OUT = f"--env {SKIP}=1 lets such a run complete; --backend single trains one model on one node"


class World(NamedTuple):
    """A world that a library has started: the script's own, or a child process's."""

    own: bool
    size: int
    rank: int


@dataclass
class Seen:
    """What one rank has left: its worlds by library, and what it imported."""

    worlds: dict[str, list[World]] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    """Libraries that the script gave a part of the world, as it likes, and the largest's size."""
    imported: set[str] = field(default_factory=set)
    by_chance: set[str] = field(default_factory=set)
    """Libraries that a package has started for itself."""
    refused: str = ""
    """Why hpctf ended a process, and no world came after."""

    def world(self, library: str) -> World:
        """Return the largest world, the script's own before those of child processes."""
        return max(self.worlds.get(library, [World(False, 0, 0)]))

    @property
    def own(self) -> set[str]:
        """Libraries that the script itself has started."""
        return {name for name, worlds in self.worlds.items() if any(one.own for one in worlds)}


def judge(
    run_folder: str, plan: dict[str, Any], ranks: Iterable[RankState], attempt: int
) -> tuple[str, str]:
    """Return (why the ranks of a run that has ended well did not train together, a note).

    Both are empty where there is nothing to say. Where ranks never looked for each other, but the
    script tells them apart, each may have done a part: then there is a note alone.
    """
    seen = _seen(run_folder, plan, ranks, attempt)
    if not seen:
        return "", ""
    texts = _Texts(run_folder, plan)
    for one in seen.values():
        if "mpi4py" in one.by_chance and not texts.name(b"mpi4py"):
            one.worlds.pop("mpi4py", None)
    return _why_apart(seen, texts), _note(seen, plan)


def _why_apart(seen: dict[str, Seen], texts: _Texts) -> str:
    for name, one in seen.items():
        if one.refused:
            return f"{name}: {one.refused}"
    if _together(seen):
        return ""
    return _other_worlds(seen) or _no_world(seen, texts)


def _note(seen: dict[str, Seen], plan: dict[str, Any]) -> str:
    """Return what to say of a run whose ranks each worked by themselves, as they may have to."""
    imported = {module for one in seen.values() for module in one.imported}
    started = {library for one in seen.values() for library in {*one.worlds, *one.parts}}
    if started and "horovod" in imported and "Horovod" not in started:
        return f"the script looks for Horovod, but no rank has started it: only {min(started)}"
    if started:
        return ""
    if imported & _TRAIN:
        return f"its {len(seen)} ranks did not exchange anything: each worked by itself"
    if plan["entry"]["command"][0] != plan["entry"]["python"]:  # a program of another kind
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
        if event == "world" and record.get("part") and isinstance(size, int):
            seen.parts[library] = max(seen.parts.get(library, 0), size)
        elif event == "world" and isinstance(size, int) and isinstance(rank, int):
            seen.refused = ""  # it was tried again
            world = World(not record.get("child"), size, rank)
            seen.worlds.setdefault(library, []).append(world)
            if record.get("by") in _FOR_FILES:
                seen.by_chance.add(library)
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
        return any(size > 1 for one in seen.values() for size in one.parts.values())
    return all(_is_one_world(seen, library) for library in libraries)


def _is_one_world(seen: dict[str, Seen], library: str) -> bool:
    """Whether all ranks that left a word of a library's world were in the one of the run.

    A rank that has left none, its disk being full, was in it if the others were.
    """
    worlds = [one.world(library) for one in seen.values() if one.worlds.get(library)]
    numbers = [world.rank for world in worlds]
    return all(world.size == len(seen) for world in worlds) and len(set(numbers)) == len(numbers)


def _other_worlds(seen: dict[str, Seen]) -> str:
    """Return which rank saw what, where a library's worlds were not the run's."""
    for library in _libraries(seen):
        if _is_one_world(seen, library):
            continue
        saw = []
        for name, one in seen.items():
            if one.worlds.get(library):
                _, size, rank = one.world(library)
                saw.append(f"{name} was " + ("alone" if size == 1 else f"rank {rank} of {size}"))
        more = f" and {len(saw) - _LISTED} more" if len(saw) > _LISTED else ""
        return (
            f"its {len(seen)} ranks were not in one world of {library}: "
            f"{', '.join(saw[:_LISTED])}{more}. What each has trained is its own. Set the launcher "
            "that fits in the site file (mpi: {launcher, plugin}); hpctf doctor --job finds out "
            "which does"
        )
    return ""


def _no_world(seen: dict[str, Seen], texts: _Texts) -> str:
    """Return why nobody joined the others, if the script wanted to, or trains as if alone."""
    imported = {module for one in seen.values() for module in one.imported}
    parts = sorted({library for one in seen.values() for library in one.parts})
    wanted = [label for module, label in _LIBRARIES.items() if module in imported]
    alone = f"its {len(seen)} ranks each trained alone: the script"
    if parts:
        return (
            f"{alone} gave each a world of {parts[0]} of its own (hvd.init(comm=...)). {_WAY_OUT}"
        )
    if wanted:
        return (
            f"{alone} looks for {' and '.join(wanted)}, but no rank has started it. Either its "
            "import failed and the script went on without (import it outside of try, to see why), "
            f"or hvd.init() was not called. {_WAY_OUT}"
        )
    if not imported & _TRAIN or texts.tell_ranks_apart():
        return ""
    named = [label for module, label in _LIBRARIES.items() if texts.name(module.encode())]
    if named:
        return (
            f"{alone} can train with {' and '.join(named)}, but no rank has imported it. Pass the "
            f"option with which it does. {_WAY_OUT}"
        )
    return (
        f"{alone} uses TensorFlow, but neither Horovod nor mpi4py, and does not look at its rank. "
        f"Train with import hpctf.keras as hvd, or with hpctf.strategy(). {_WAY_OUT}"
    )


class _Texts:
    """The text of what a run has run: of its scripts, or the names within its function."""

    def __init__(self, run_folder: str, plan: dict[str, Any]) -> None:
        self._folder = run_folder
        self._is_function = plan["entry"]["kind"] != "script"

    @cached_property
    def _texts(self) -> list[bytes]:
        texts = list(_texts_in(os.path.join(self._folder, "snapshot")))
        if self._is_function:  # the names that its code uses stand in its pickle
            texts += _read_text(os.path.join(self._folder, "submitit", "payload.pkl"))
        return texts

    def name(self, word: bytes) -> bool:
        """Whether a word stands in any of them."""
        return any(re.search(rb"\b%s\b" % word, _COMMENTS.sub(b"", text)) for text in self._texts)

    def tell_ranks_apart(self) -> bool:
        """Whether what was run may know that it is one of several; it may if its code is not here,
        as that of a function of an installed module."""
        if self._is_function and not any(b"cloudpickle" in text for text in self._texts):
            return True
        return tell_ranks_apart(self._texts)


def tell_ranks_apart(texts: Iterable[bytes]) -> bool:
    """Whether a script, by its texts, knows that it is one of several."""
    for text in texts:
        code = _COMMENTS.sub(b"", text)
        if _TELLS_APART.search(code):
            return True
        if b"hpctf" in code and _TELLS_APART_BY_HPCTF.search(code):
            return True
    return False


def _texts_in(folder: str) -> Iterator[bytes]:
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
            yield from _read_text(path)


def _read_text(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as stream:
            return [stream.read(_MOST_BYTES)]
    except OSError:
        return []
