"""Who drives a study: one process at a time, and another one once that is silent.

The ledger says who, in its order. The driver shows that it is alive by the time stamp of a file of
its own, ``state/driver.TERM``. Whoever waits for its place takes it at once if the driver was a
process of this machine and has ended, else once the stamp has not changed for a while. A driver
that was only held up finds that out before it writes to the ledger, or submits, the next time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from hpctf.agents.silence import Silence
from hpctf.common.link_locks import holder_name, is_dead
from hpctf.tuning.progress import Progress
from hpctf.tuning.study import Study

BEAT_S = 2.0
"""How often a driver sets its time stamp."""

LOST_S = 8.0
"""How long the stamp is unchanged until another driver takes over: four beats."""


class LeaseLost(Exception):
    """Another process drives the study now."""


class Lease:
    """What one process knows of who drives the study.

    Parameters
    ----------
    clock
        Returns seconds; for tests.
    """

    def __init__(self, study: Study, clock: Callable[[], float] = time.monotonic) -> None:
        self._study = study
        self._me = holder_name()
        self._silence = Silence(LOST_S, clock)

    @property
    def stamp(self) -> Path:
        """The file whose time stamp tells that the driver is alive."""
        return self._study.folder.state / f"driver.{self._study.ledger.progress.term}"

    def take(self) -> bool:
        """Become the driver, unless another process is; return whether this one is now.

        Raises
        ------
        RunFolderError
            The file system refuses.
        """
        ledger = self._study.ledger
        with ledger.held() as progress:
            if progress.driver and not self._is_gone(progress):
                return False
            before = self.stamp
            ledger.append("driver", term=progress.term + 1, holder=self._me)
            with contextlib.suppress(OSError):
                self.stamp.touch()
                before.unlink(missing_ok=True)
        ledger.guard = self.check
        return True

    def check(self, progress: Progress) -> None:
        """Raise `LeaseLost` if another process drives the study by now."""
        if progress.driver != self._me:
            raise LeaseLost

    def release(self) -> None:
        """Leave the study to the next driver, which need not wait then."""
        ledger = self._study.ledger
        ledger.append("driver", term=ledger.progress.term, holder="")
        ledger.guard = None

    def _is_gone(self, progress: Progress) -> bool:
        """Whether the driver is known to have ended, or has been silent for too long."""
        is_silent = self._silence.look(self.stamp)
        return is_dead(progress.driver) or is_silent
