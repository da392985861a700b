"""The controller of a local run: ``python start.py local RUN_FOLDER``.

submitit's controller starts the ranks; this one also ends all of them once one fails, warns them
before the time limit, starts them again if the plan says so, leaves no process behind, and gives
the job's verdict, as srun and the batch script do on a cluster.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from typing import Any

from submitit.local.local import Controller

from hpctf.common.paths import NODE_START
from hpctf.common.processes import start_time, stat_of
from hpctf.node.completion import LOCAL_ATTEMPT
from hpctf.node.conclude import START_AGAIN, conclude, record
from hpctf.node.messages import say
from hpctf.node.process import KILL_AFTER_S
from hpctf.node.signals import number_of
from hpctf.run_folder.documents import read_plan
from hpctf.run_folder.rank_states import SIGNAL_BASE
from hpctf.scheduler.programs import environment_of

_POLL_S = 0.05
_GRACE_S = KILL_AFTER_S + 2.0
_SET_CHILD_SUBREAPER = 36  # prctl(2)


class RunController(Controller):
    """submitit's controller, with srun's ``--kill-on-bad-exit`` and Slurm's ``--signal``."""

    def __init__(self, folder: str, interruption: dict[str, Any]) -> None:
        super().__init__(folder)  # type: ignore[arg-type]
        self.codes: list[int | None] = []
        self.stopped = self.timed_out = False
        self._warning = number_of(interruption["signal"])
        self._grace_s = interruption["grace_s"]
        signal.signal(signal.SIGTERM, self._stop)

    def wait(self, freq: int = 24) -> list[int | None]:
        """Wait until every rank has ended, one has failed, or the time is up."""
        until = time.monotonic() + self.timeout_s
        warn_at = until - self._grace_s
        while time.monotonic() < until:
            codes = [task.poll() for task in self.tasks]
            if all(code is not None for code in codes) or any(codes):
                return codes
            if self._warning and time.monotonic() >= warn_at:
                self._forward_signal(signal.Signals(self._warning))
                warn_at = until
            time.sleep(_POLL_S)
        self.timed_out = True
        return [task.poll() for task in self.tasks]

    def kill_tasks(self) -> None:
        """End what still runs: SIGTERM, then SIGKILL once the ranks have had their time."""
        self._forward_signal(signal.SIGTERM)
        until = time.monotonic() + _GRACE_S
        while any(task.poll() is None for task in self.tasks) and time.monotonic() < until:
            time.sleep(_POLL_S)
        for task in self.tasks:
            if task.poll() is None:
                task.kill()
                task.wait()
        self.codes = [task.returncode for task in self.tasks]
        super().kill_tasks()
        _end_what_is_left()

    def _stop(self, number: int, frame: object) -> None:
        self.stopped = True
        self._forward_signal(number)  # type: ignore[arg-type]


def run_local(run_folder: str) -> int:
    """Run every rank, as often as the plan allows, and return the job's exit code."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    plan = read_plan(run_folder)
    attempt = 0
    while True:
        os.environ[LOCAL_ATTEMPT] = str(attempt)
        identity = {"job_id": str(os.getpid()), "start_time": start_time(os.getpid())}
        record(run_folder, "started", host=os.uname().nodename, **identity)
        say(f"start {attempt} of process {os.getpid()}")
        code = _start(run_folder, plan)
        if code != START_AGAIN:
            return code
        attempt += 1


def _start(run_folder: str, plan: dict[str, Any]) -> int:
    """Run every rank once, on copies of the data if it is staged, and return the verdict."""
    staging = bool(plan.get("staging"))
    status = _stage("stage", run_folder) if staging else 0
    if status:
        return conclude(run_folder, status, may_restart=False)
    controller = RunController(os.path.join(run_folder, "submitit"), plan["interruption"])
    controller.run(max_retry=1)
    if staging:
        _stage("unstage", run_folder)
    status = next((abs(code) for code in controller.codes if code), 0)
    limit = f"its time limit of {controller.timeout_s} s" if controller.timed_out else None
    return conclude(run_folder, status, limit, may_restart=not controller.stopped)


def _stage(action: str, run_folder: str) -> int:
    """Make the copies of the data, or remove them, in a process of its own, to which signals are
    passed on; return its exit status."""
    command = [sys.executable, "-I", "-S", NODE_START, action, run_folder]
    env = {**environment_of("local"), LOCAL_ATTEMPT: os.environ[LOCAL_ATTEMPT]}
    child = subprocess.Popen(command, env=env, cwd=run_folder)
    before = signal.signal(signal.SIGTERM, lambda number, frame: child.send_signal(number))
    try:
        code = child.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    return code if code >= 0 else SIGNAL_BASE - code


def _end_what_is_left() -> None:
    """Kill what the runs left running: a child of theirs that made itself a daemon is ours
    now (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    while left := _children():
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for pid in left:
            os.waitpid(pid, 0)


def _children() -> list[int]:
    """Return this process's children, zombies included (proc(5): the stat file's fourth field)."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if stat_of(pid)[1:2] == [str(os.getpid())]]
