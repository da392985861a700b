"""The process that scores, in the environment of the model: asked and answered a line at a time."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Callable
from typing import Any

from hpctf.node.identity import LIBRARIES
from hpctf.run_folder.layout import RunFolder
from hpctf.scheduler.programs import environment_of

_LOOK_S = 0.25
_END_S = 5.0


class WorkerDied(Exception):
    """The worker has ended before it answered; the words say how."""


class Worker:
    """A worker of a run, started when it is first asked.

    Parameters
    ----------
    agent
        The number of its agent: its output goes to ``logs/worker-AGENT.log``.
    """

    def __init__(self, folder: RunFolder, agent: int) -> None:
        self._folder = folder
        self._log = folder.logs / f"worker-{agent}.log"
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, what: dict[str, Any], goes_on: Callable[[], bool]) -> dict[str, Any] | None:
        """Return the worker's answer; None if it is not waited for any more.

        Parameters
        ----------
        goes_on
            Called several times a second: whether to wait on.

        Raises
        ------
        WorkerDied
            There is no worker that could answer.
        """
        child = self._child or self._start()
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdin.write(json.dumps(what).encode() + b"\n")
            child.stdin.flush()
        except OSError:
            raise WorkerDied(self._buried(child)) from None
        while not select.select([child.stdout], [], [], _LOOK_S)[0]:
            if not goes_on():
                self.end()
                return None
        line = child.stdout.readline()
        if not line.endswith(b"\n"):
            raise WorkerDied(self._buried(child))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """End the worker, whatever it does: a part that is not whole is not there."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def _start(self) -> subprocess.Popen[bytes]:
        entry = self._folder.plan["entry"]
        env = {**environment_of("rank"), "PYTHONUNBUFFERED": "1", **entry["environment"]}
        if LIBRARIES in os.environ:
            env["LD_LIBRARY_PATH"] = os.environ[LIBRARIES]
        with open(self._log, "ab") as log:
            self._child = subprocess.Popen(
                [*entry["command"], str(self._folder.path)],
                cwd=self._folder.snapshot,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        return self._child

    def _buried(self, child: subprocess.Popen[bytes]) -> str:
        """Return how the worker has ended."""
        try:
            code = child.wait(_END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait()
        self._child = None
        if code >= 0:
            return f"the process that scores ended with {code}"
        name = signal.Signals(-code).name
        memory = "; was there too little memory?" if code == -signal.SIGKILL else ""
        return f"the process that scores was ended by {name}{memory}"
