"""Waiting until every node has its copies: until then each one can still remove its own.

Once a node's process has ended, nothing of the job's runs there until the ranks come: if the job is
cancelled before, the copies would stay.

The batch script makes ``state/staged-<attempt>``, empty: whoever opens a file that was there before
sees what others have written, also on NFS, where a new name may take half a minute to be seen. Each
node makes an entry of its own in a folder beside it; who makes the last one sees all of them, and
says so in the file.
"""

from __future__ import annotations

import contextlib
import os
import time

ALL, BROKEN = "all", "broken"

_FIRST_S = 0.05
_LONGEST_S = 2.0


class Barrier:
    """The nodes of one start of a job; `name` is this one's among `nodes`."""

    def __init__(self, run_folder: str, attempt: int, name: str, nodes: int) -> None:
        self._file = os.path.join(run_folder, "state", f"staged-{attempt}")
        self._name = name
        self._nodes = nodes

    def wait(self) -> bool:
        """Say that this node is ready, and return once all are: False if one has failed.

        Without the file, which a template of the site's may not make, nobody waits.
        """
        if self._nodes == 1 or not os.path.exists(self._file):
            return True
        folder = f"{self._file}.nodes"
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, self._name), "w", encoding="utf-8"):
            pass
        if len(os.listdir(folder)) >= self._nodes:
            self._say(ALL)
        pause = _FIRST_S
        while not self._said():
            time.sleep(pause)
            pause = min(1.2 * pause, _LONGEST_S)
        return self._said() == ALL

    def is_broken(self) -> bool:
        """Whether another node has failed."""
        return self._said() == BROKEN

    def break_(self) -> None:
        """Say that this node has failed, so that no other goes on."""
        if os.path.exists(self._file):
            with contextlib.suppress(OSError):
                self._say(BROKEN)

    def _said(self) -> str:
        try:
            with open(self._file, encoding="utf-8") as stream:
                return stream.read()
        except OSError:
            return ""

    def _say(self, words: str) -> None:
        with open(self._file, "w", encoding="utf-8") as stream:
            stream.write(words)
