"""What Slurm's commands say, asked once for all of a person's processes that follow runs.

A person may wait for many runs, watch some and have cards of others in notebooks, on several login
nodes, while one slurmctld serves the whole cluster. So those who follow share the answers, in files
of a private folder, and together put so many questions a minute at most. Where Slurm is slow, or
says that it was asked too much, they ask less often still.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any, NamedTuple

from hpctf.common.files import PRIVATE_FILE, write_atomic
from hpctf.common.folders import private_folder
from hpctf.common.locks import locked
from hpctf.errors import SchedulerError
from hpctf.scheduler import commands

PER_MINUTE = 4
"""Questions that a person's processes put together, unless their site says otherwise."""

_WINDOW_S = 60.0
_SHARE = 0.75
"""How much of the questions a minute goes into answers that are merely old. The rest is left for
what has changed since."""
_LOOK_S = 0.5
"""Seconds between two looks for an answer that may not be asked for yet."""
_REST = 10.0
"""How many times as long as a question took the next one is put off: a slow slurmctld is busy."""
_BACK_OFF_S = (30.0, 300.0)
"""Seconds of silence after Slurm has said that it is asked too much, at first and at most."""
_TOO_MUCH = re.compile(r"rate.?limit|back.?off|timed? ?out|did not answer", re.IGNORECASE)
"""What Slurm's commands, and ours of them, say then (slurm.conf(5), rl_enable)."""
_KEPT_S = 600.0


class _Said(NamedTuple):
    """What a command said, and when it was asked, in seconds since the epoch."""

    asked: float
    output: str
    error: tuple[str, str | None] | None

    def give(self) -> str:
        if self.error:
            raise SchedulerError(*self.error)
        return self.output


class _Asked(NamedTuple):
    """When questions were put lately, when the next one may be, and how long they were put off."""

    times: tuple[float, ...] = ()
    not_before: float = 0.0
    silence_s: float = 0.0


def of_this_person(since: float, per_minute: int = PER_MINUTE) -> SharedAnswers | None:
    """Return the answers that this person's processes share; None for somebody without a home."""
    folder = private_folder()
    if folder is None:
        return None
    return SharedAnswers(folder / "slurm", max(1, per_minute), since)


class SharedAnswers:
    """Answers to a person's questions that all of their processes share.

    Parameters
    ----------
    folder
        A private folder; it is made.
    per_minute
        How many questions all of them together may put within any 60 s.
    since
        The answer must be younger than this: what is told of a run has changed then, by the clock
        of this machine, in seconds since the epoch. Besides, it must not be older than what
        `per_minute` allows for.
    """

    def __init__(self, folder: Path, per_minute: int, since: float = 0.0) -> None:
        self._folder = folder
        self._per_minute = per_minute
        self._since = max(since, time.time() - _WINDOW_S / (_SHARE * per_minute))

    def run(self, command: list[str], timeout: float) -> str:
        """Return what a command prints, as `hpctf.scheduler.commands.run` does, once there is an
        answer that is young enough: it may take until a question may be put again."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(self._folder, os.W_OK | os.X_OK):
            return commands.run(command, timeout)
        path = self._folder / f"{hashlib.sha256(json.dumps(command).encode()).hexdigest()}.json"
        while True:
            said = self._young(path)
            if said is None:
                with locked(self._folder / "lock", umask=0o077):
                    said = self._young(path)
                    if said is None and self._may_ask():
                        said = self._ask(command, timeout, path)
            if said is not None:
                return said.give()
            time.sleep(_LOOK_S)

    def _young(self, path: Path) -> _Said | None:
        with contextlib.suppress(OSError, ValueError, TypeError):
            said = _Said(**json.loads(path.read_text()))
            if self._since <= said.asked <= time.time() + 1:
                return said
        return None

    def _may_ask(self) -> bool:
        asked, now = self._asked(), time.time()
        return len(asked.times) < self._per_minute and now >= asked.not_before

    def _asked(self) -> _Asked:
        with contextlib.suppress(OSError, ValueError, TypeError):
            known = _Asked(**json.loads((self._folder / "asked.json").read_text()))
            now = time.time()
            lately = tuple(one for one in known.times if now - _WINDOW_S < one <= now)
            return known._replace(
                times=lately, not_before=min(known.not_before, now + _BACK_OFF_S[1])
            )
        return _Asked()

    def _ask(self, command: list[str], timeout: float, path: Path) -> _Said:
        asked, began = self._asked(), time.time()
        output, error = "", None
        try:
            output = commands.run(command, timeout)
        except SchedulerError as failure:
            error = (failure.message, failure.hint)
        now = time.time()
        silence = 0.0
        if error and _TOO_MUCH.search(error[0]):
            silence = min(_BACK_OFF_S[1], max(_BACK_OFF_S[0], 2 * asked.silence_s))
        rest = max(silence, _REST * (now - began))
        self._keep("asked.json", _Asked((*asked.times, began), now + rest, silence)._asdict())
        said = _Said(began, output, error)
        self._keep(path.name, said._asdict())
        self._forget(now)
        return said

    def _keep(self, name: str, value: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            write_atomic(self._folder / name, json.dumps(value), PRIVATE_FILE, durable=False)

    def _forget(self, now: float) -> None:
        """Remove answers that nobody will want any more: of jobs that were asked for alone."""
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < now - _KEPT_S:
                    path.unlink()
