"""TensorFlow's profiler around some steps of a training, without a word in its script.

A step is a call of one and the same ``tf.function``: Keras's train function, or the script's own.
With a ClusterCoordinator steps are scheduled, and run elsewhere: TensorFlow's standard servers are
then asked for what they do (each has a profiler's service, measured with TensorFlow 2.18 and 2.21).
"""

import atexit
import json
import os
import threading
from functools import wraps
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional

from . import this_rank

STEPS = "HPCTF_PROFILE"
"""First and last step to profile: ``10-20``."""

SERVERS_MS = 2000
"""Milliseconds for which the servers of a cluster are profiled: they count no steps."""


def watch(module: ModuleType) -> None:
    """Begin to count steps, if the run's profile is wanted."""
    wanted = os.environ.pop(STEPS, "")  # not of the script's children
    first, _, last = wanted.partition("-")
    if first.isdigit() and last.isdigit():
        Profile(module, int(first), int(last)).watch()


class Profile:
    """The profile of one process: of its steps from the first to the last; 1 is the one that is
    traced."""

    def __init__(self, tensorflow: Any, first: int, last: int) -> None:
        self._tf = tensorflow
        self._first = first
        self._last = last
        self._calls: Dict[int, int] = {}
        self._followed: Optional[int] = None
        self._undo: List[Callable[[], None]] = []
        self._asking: Optional[threading.Thread] = None
        outputs = os.environ.get("HPCTF_OUTPUTS_DIR", "outputs")
        self.folder = os.path.join(outputs, "profile", this_rank.name())

    def watch(self) -> None:
        """Count the calls from now on."""
        coordinator = self._tf.distribute.coordinator.ClusterCoordinator
        self._count(type(self._tf.function(lambda: None)), "__call__", lambda args: id(args[0]))
        self._count(coordinator, "schedule", lambda args: id(args[1]), servers=True)
        atexit.register(self._end)

    def _count(
        self, owner: Any, name: str, key: Callable[[Any], int], servers: bool = False
    ) -> None:
        own = getattr(owner, name)

        @wraps(own)
        def counted(*args: Any, **kwargs: Any) -> Any:
            if len(args) > servers:
                self._step(key(args), servers)
            return own(*args, **kwargs)

        setattr(owner, name, counted)
        self._undo.append(lambda: setattr(owner, name, own))

    def _step(self, which: int, servers: bool) -> None:
        number = self._calls[which] = self._calls.get(which, 0) + 1
        if self._followed is None and number == self._first:
            self._followed = which
            self._start()
            if servers:
                self._asking = threading.Thread(target=self._ask_servers, daemon=True)
                self._asking.start()
        elif which == self._followed and number == self._last + 1:
            self._stop()

    def _start(self) -> None:
        try:
            self._tf.profiler.experimental.start(self.folder)
        except Exception as error:  # the script profiles by itself
            self._followed = 0
            self._restore()
            this_rank.tell(f"no profile: {error}")

    def _stop(self) -> None:
        self._restore()
        try:
            self._tf.profiler.experimental.stop()
            this_rank.tell(f"profile of steps {self._first}-{self._last}: {self.folder}")
        except Exception as error:
            this_rank.tell(f"no profile: {error}")

    def _restore(self) -> None:
        """Put the methods back: from now on a step costs what it costs without."""
        for undo in self._undo:
            undo()
        self._undo.clear()

    def _ask_servers(self) -> None:
        cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {})
        places = [place for role in ("worker", "ps") for place in cluster.get(role, [])]
        ask = self._tf.profiler.experimental.client.trace
        try:
            ask(",".join("grpc://" + place for place in places), self.folder, SERVERS_MS)
        except Exception as error:
            this_rank.tell(f"no profile of workers and ps: {error}")

    def _end(self) -> None:
        if self._asking is not None:
            self._asking.join()
        if self._followed is None:
            this_rank.tell(f"no profile: no tf.function was called {self._first} times")
        elif self._undo:
            self._stop()
