"""What the job of a run's agents starts: these, each with its share of the job.

One that is killed is started again, and goes on with what it had. Slurm's signals are passed
on to all. A job that was warned of its time limit asks Slurm to be started again if work is left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from hpctf.agents.process import OUT_OF_TIME, signals_of_agent
from hpctf.node.identity import GPU_VARIABLES
from hpctf.node.messages import say
from hpctf.scheduler.programs import FOLDER, ask

MOST_RESTARTS = 5
"""How often one process is started again before it has lived for a while."""
_LIVED_S = 60.0

_ASK_AGAIN_S = 5.0
_ASK_FOR_S = 300.0
_TAKEN_OFF_S = 120.0
"""Seconds that Slurm has to take a requeued job off its node."""


def supervise(
    start: str, what: str, run: str, task: int, count: int, *, comes_back: bool = False
) -> int:
    """Run the agents of one job, and return the job's exit code.

    Parameters
    ----------
    start
        The script that an agent is: called with `what`, the run's folder and the agent's number.
    what
        What it is called: ``agent``, or ``driver``.
    task
        Which of the run's jobs this is.
    count
        How many agents share the job.
    comes_back
        Whether one that has failed is started again, too, not only one that was killed: nobody
        takes its place.
    """
    signals = signals_of_agent()
    first = task * count
    agents = [
        _Slot([start, what, run, str(first + slot)], slot, count, comes_back)
        for slot in range(count)
    ]
    is_ending = False
    while any(agent.is_alive() for agent in agents):
        for number in signals.wait(1.0):
            if number != signal.SIGCHLD:
                is_ending = True
                for agent in agents:
                    agent.tell(number)
        for agent in agents:
            agent.bring_back(is_ending)
    codes = [agent.status for agent in agents]
    if OUT_OF_TIME in codes:
        return _start_again()
    return next((code for code in codes if code), 0)


class _Slot:
    """A process's place in a job: its CPUs and GPUs, and the process that fills it."""

    def __init__(self, words: list[str], slot: int, count: int, comes_back: bool) -> None:
        _, what, _, number = words
        self._command = [sys.executable, "-I", "-S", *words]
        self._name = f"{what} {number}"
        self._comes_back = comes_back
        self._env = {**os.environ, **gpus_of_slot(os.environ, slot, count)}
        self._cpus = cpus_of_slot(sorted(os.sched_getaffinity(0)), slot, count)
        self._restarts = 0
        self._begin()

    @property
    def status(self) -> int:
        """The shell's exit status of the last process."""
        code = self._child.returncode
        return code if code >= 0 else 128 - code

    def is_alive(self) -> bool:
        return self._child.poll() is None

    def tell(self, number: int) -> None:
        if self.is_alive():
            self._child.send_signal(number)

    def bring_back(self, is_ending: bool) -> None:
        """Start the agent again if somebody has killed it, unless the job ends."""
        code = self._child.poll()
        if code is None or is_ending or not self._is_to_come_back(code):
            return
        if time.monotonic() - self._began > _LIVED_S:
            self._restarts = 0
        if self._restarts >= MOST_RESTARTS:
            return
        self._restarts += 1
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        say(f"{self._name} {how}: started again ({self._restarts})")
        self._begin()

    def _is_to_come_back(self, code: int) -> bool:
        """Whether a process that has ended so is needed."""
        return code < 0 or (self._comes_back and code not in (0, OUT_OF_TIME))

    def _begin(self) -> None:
        self._began = time.monotonic()
        self._child = subprocess.Popen(
            self._command, env=self._env, cwd=FOLDER, start_new_session=True
        )
        os.sched_setaffinity(self._child.pid, self._cpus)


def cpus_of_slot(cpus: list[int], slot: int, count: int) -> list[int]:
    """Return a slot's share of the CPUs: slots share them evenly, or all if there are too few."""
    each = len(cpus) // count
    return cpus[slot * each : (slot + 1) * each] if each else cpus


def gpus_of_slot(env: os._Environ[str] | dict[str, str], slot: int, count: int) -> dict[str, str]:
    """Return the variables that show a slot its share of the GPUs; slots that are more than there
    are GPUs share one."""
    if count == 1:
        return {}
    shares = {}
    for name in GPU_VARIABLES:
        devices = [device for device in env.get(name, "").split(",") if device]
        if not devices:
            continue
        each = len(devices) // count
        mine = devices[slot * each : (slot + 1) * each]
        shares[name] = ",".join(mine or [devices[slot * len(devices) // count]])
    return shares


def _start_again() -> int:
    """Have the job started again; return the exit code if that does not come."""
    job_id = os.environ["SLURM_JOB_ID"]
    until = time.monotonic() + _ASK_FOR_S
    while True:
        done = ask(["scontrol", "requeue", job_id])
        if done.returncode == 0:
            time.sleep(_TAKEN_OFF_S)
            return OUT_OF_TIME
        words = done.stderr.strip()
        if "Unable to contact" not in words or time.monotonic() > until:
            say(f"Slurm would not start the job again: {words}")
            return OUT_OF_TIME
        time.sleep(_ASK_AGAIN_S)
