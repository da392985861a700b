"""Following a run's state while something else is done, such as drawing it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from hpctf.runs.status.wait import wait

if TYPE_CHECKING:
    from hpctf.run import Run
    from hpctf.runs.status.state import Status


class Following:
    """A run's status, kept up to date by a thread that nobody waits for.

    The run folder is looked at often, the scheduler seldom: as `Run.wait_for_completion` does.

    Parameters
    ----------
    run
        The run; it is left alone.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._status: Status | None = None
        self._error: BaseException | None = None
        self._changed = threading.Event()
        threading.Thread(target=self._follow, name="status", daemon=True).start()

    def status(self, timeout: float = 0.0) -> Status | None:
        """Return what is known now, or None before the first answer, waiting for it so long.

        Raises
        ------
        Exception
            What keeps the state from being told, such as a scheduler that is not there.
        """
        deadline = time.monotonic() + timeout
        while self._status is None and self._error is None and time.monotonic() < deadline:
            self._changed.wait(deadline - time.monotonic())
        if self._error is not None:
            raise self._error
        return self._status

    def _follow(self) -> None:
        try:
            wait(self._run, self._keep, None)
        except BaseException as error:
            self._error = error
            self._changed.set()

    def _keep(self, status: Status, waited: float) -> None:
        self._status = status
        self._changed.set()
