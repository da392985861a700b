"""One rank, from start to record.

It takes its role from its rank, starts the person's process (or TensorFlow's standard server)
with the environment that follows, passes signals on, starts a crashed worker again if the plan
says so, ends once the deciding roles have ended if its own does not decide, and records how it
went. What keeps the result is imported while the training is already on its way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

from hpctf.common.files import append_record, read_confided
from hpctf.common.paths import NODE_SERVER
from hpctf.errors import HpctfError, RunFolderError
from hpctf.node import identity, process
from hpctf.node.completion import (
    Ends,
    attempt_of,
    has_failed,
    is_cancelled,
    is_superseded,
    record_failure,
)
from hpctf.node.messages import say
from hpctf.node.signals import AskedToEnd, Signals, number_of

TYPE_CHECKING = False  # not typing's: importing it costs each rank 8 ms
if TYPE_CHECKING:
    from typing import Any

    from hpctf.node.result import ResultKeeper
    from hpctf.node.staging.held import Copies
    from hpctf.node.system import Sampler

_PLAN = "plan.json"
HEARTBEAT_S = 30.0
FOLLOW_S = 0.2
"""How often a rank that does not decide, or that was asked to end, looks what the others do."""
LOCAL_S = 1.0
"""How often a rank without Slurm looks whether its controller is still there."""


def run_rank(run_folder: str) -> int:
    """Run this rank's part of a run and return its exit status.

    Looking closely at the plan takes as long as all else that comes before the training: so a rank
    trusts it, and looks only once something has failed that should not.
    """
    try:
        return _run_rank(run_folder)
    except Exception as error:
        wrong = _wrong_with_plan(run_folder, error)
        if wrong is None and not isinstance(error, HpctfError):
            raise
        say(wrong or str(error))
        return getattr(error, "exit_code", RunFolderError.exit_code)


def _wrong_with_plan(run_folder: str, error: Exception) -> str | None:
    """Return what is wrong with the run's plan; None if nothing is."""
    if sys.version_info < (3, 10):  # a container's own: the check needs a later one
        why = f"The plan of the run cannot be used: {type(error).__name__}: {error}."
        return None if isinstance(error, HpctfError) else why
    from hpctf.run_folder.documents import read_plan  # novm: 3.10 or later gets here

    try:
        whole = read_plan(run_folder)
    except HpctfError as wrong:
        return str(wrong)
    if isinstance(error, KeyError) and whole != read_confided(os.path.join(run_folder, _PLAN)):
        return f"{_PLAN} lacks {error}: an older hpctf made it. Submit the run again."
    return None


def _run_rank(run_folder: str) -> int:
    try:
        plan = read_confided(os.path.join(run_folder, _PLAN))
    except OSError as error:
        host = os.uname().nodename
        say(f"{host} cannot read the run folder: {error}")
        return process.NOT_EXECUTABLE
    os.umask(int(plan["umask"], 8))  # mpirun's daemons, a site's prologue may have others
    signals = Signals(number_of(plan["interruption"]["signal"]))
    me = identity.identify(plan, os.environ)
    return Rank(plan, me, run_folder, signals).run()


class Rank:
    """This rank of a run."""

    def __init__(
        self, plan: dict[str, Any], me: identity.Identity, run_folder: str, signals: Signals
    ) -> None:
        self._plan = plan
        self._me = me
        self._run_folder = run_folder
        self._signals = signals
        self._state = os.path.join(run_folder, "state", f"{me.name}.jsonl")
        self._attempt = attempt_of(os.environ)
        self._role = identity.role_named(plan, me.role)
        self._keeper: ResultKeeper | None = None
        self._copies: Copies | None = None
        self._what: tuple[list[str], dict[str, str]] | None = None

    def run(self) -> int:
        """Run the process to its end, and once more after each crash that the plan forgives."""
        restarts = 0
        while True:
            try:
                child = self._start(restarts)
            except AskedToEnd as asked:
                return self._stopped_early(asked.number)
            except (HpctfError, OSError) as error:
                return self._cannot_start(error)
            sampler = self._sampler(child)
            self._keeper = self._keeper or _result_keeper(self._run_folder, self._me)
            if sampler is not None:
                sampler.start()
            ended = child.wait(Watch(self, child))
            if sampler is not None:
                sampler.finish()
            if not self._comes_back(ended, restarts):
                return self._finish(ended)
            restarts += 1
            how = {"exit_code": ended.exit_code, "signal": ended.signal}
            self._record("restarting", **how, restart=restarts)

    def beat(self) -> None:
        """Say that the rank is alive: by the time stamp of its state file, which does not grow."""
        with contextlib.suppress(OSError):
            os.utime(self._state)

    def is_superseded(self) -> bool:
        """Whether the run goes on in another start of the job, so that this one must not."""
        return is_superseded(self._run_folder, self._attempt)

    def deciders(self) -> Ends | None:
        """Return who has to end before this rank may, or None if it decides itself."""
        if self._role["decides"]:
            return None
        deciding = [role for role in self._plan["roles"] if role["decides"]]
        return Ends(self._run_folder, deciding, self._attempt)

    @property
    def grace_s(self) -> float:
        """Seconds that the rank may go on after the deciding ones have ended."""
        return float(self._role["grace_s"])

    def is_lost(self) -> bool:
        """Whether the job has failed of itself, goes on in another start, or was cancelled."""
        failed = has_failed(self._run_folder, self._attempt)
        return failed or is_cancelled(self._run_folder) or self.is_superseded()

    def _prepare(self) -> tuple[list[str], dict[str, str]]:
        if self._plan.get("staging"):
            from hpctf.node.staging.held import Copies

            self._copies = Copies(self._run_folder, self._attempt)
            self._plan = self._copies.moved(self._plan)
        env = identity.environment(self._plan, self._me, os.environ, self._run_folder)
        if self._copies is not None:
            env.update(self._copies.variables())
        if self._plan["tf_config"]:
            from hpctf.node.ports import settle

            env["TF_CONFIG"] = settle(self._plan, self._me, os.environ, self._run_folder)
        entry = self._plan["entry"]
        command = entry["command"]
        if self._role["runs"] == "server":
            # Workers must notice a lost chief, rather than fail at its first absence
            # (TensorFlow's guide to parameter server training).
            env["GRPC_FAIL_FAST"] = "use_caller"
            command = [entry["python"], NODE_SERVER]
        if not entry["container"] and "CONDA_PREFIX" not in env:
            return command, env
        return self._inside(command, env)

    def _inside(self, command: list[str], env: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        from hpctf.node import container

        entry = self._plan["entry"]
        if not entry["container"]:
            return container.activated(command, entry["python"]) or command, env
        place = os.path.join(self._run_folder, "state", self._me.name)
        persons, gpu = entry["environment"], self._role["uses_gpu"]
        return container.contained(entry["container"], command, env, persons, place, gpu)

    def _start(self, restarts: int) -> process.Process:
        self._what = self._what or self._prepare()
        command, env = self._what
        folder = os.path.join(self._run_folder, "snapshot")
        child = process.Process(command, folder, env, self._log, self._signals, self._manners())
        self._record_start(child.pid, **({"restart": restarts} if restarts else {}))
        return child

    def _record_start(self, pid: int | None, **more: Any) -> None:
        """Put a start on record, and when the one before was last seen: its stamp goes now."""
        seen = None
        with contextlib.suppress(OSError):
            found = os.stat(self._state)
            seen = round(found.st_mtime, 3) if found.st_size else None
        self._record("started", host=self._me.host, rank=self._me.rank, pid=pid, seen=seen, **more)

    def _sampler(self, child: process.Process) -> Sampler | None:
        """Return what samples the process's use of the node, if the plan says how often."""
        every_s = self._plan.get("system_metrics_s")
        if not every_s:
            return None
        from hpctf.node.system import Sampler

        assert self._what is not None
        return Sampler(
            os.path.join(self._run_folder, "metrics", "system", f"{self._me.name}.jsonl"),
            child.pid,
            env=self._what[1],
            every_s=every_s,
            about={"attempt": self._attempt, "host": self._me.host},
            alone=self._plan["launch"]["method"] == "srun",  # mpirun's ranks share a task's
        )

    def _manners(self) -> process.Manners:
        rules, container = self._plan["interruption"], self._plan["entry"]["container"]
        return process.Manners(
            warning=number_of(rules["signal"]),
            tell=number_of(rules["tell"]) or signal.SIGTERM,
            grace_s=rules["grace_s"],
            holds=self._role["serves"],
            spares=bool(container) and not container.get("replaced"),
        )

    def _comes_back(self, ended: process.Ended, restarts: int) -> bool:
        crashed = bool(ended.status) and ended.asked is None
        return crashed and restarts < self._role["max_restarts"] and not self.is_lost()

    @property
    def _log(self) -> str:
        return os.path.join(self._run_folder, "logs", f"{self._me.name}.log")

    def _record(self, event: str, **more: Any) -> None:
        """Append to the rank's state file; a full disk must not end the training."""
        record = {"event": event, "time": time.time(), "attempt": self._attempt, **more}
        try:
            append_record(self._state, record)
        except OSError as error:
            say(f"{self._me.name}: {event} is not on record: {error}")

    def _finish(self, ended: process.Ended) -> int:
        """Put the end on record, keep the result, and return the exit status. Who was asked to end
        has not failed: the launcher would end the others at once, and those may be writing their
        checkpoints. Of a start that is superseded nothing is kept."""
        if self.is_superseded():
            say(f"{self._me.name}: ended, for the job has been started again without this node")
            return ended.status
        from hpctf.node.memory import out_of_memory

        oom, full = None, False
        if ended.status:
            oom, full = out_of_memory(), _is_full(self._run_folder)
        self._record("ended", **ended._asdict(), oom=oom, full=full)
        if ended.status and ended.asked is None:
            with contextlib.suppress(OSError):
                record_failure(self._run_folder, self._attempt, self._me.name)
        keeper = self._keeper or _result_keeper(self._run_folder, self._me)
        try:
            keeper.keep(ended)
        except OSError as error:
            say(f"{self._me.name}: its result is not kept: {error}")
        if self._copies is not None and ended.asked not in (None, process.END):
            self._copies.leave()
        return ended.status if ended.asked is None else 0

    def _stopped_early(self, number: int) -> int:
        """Put on record that a signal came before there was a process to pass it on to."""
        self._record_start(None)
        warned = number == number_of(self._plan["interruption"]["signal"])
        how = process.WARNING if warned else signal.Signals(number).name
        return self._finish(process.Ended(None, number, how))

    def _cannot_start(self, error: Exception) -> int:
        """Say in the rank's own log, and on record, why nothing could be started."""
        code = process.NOT_FOUND if isinstance(error, FileNotFoundError) else process.NOT_EXECUTABLE
        if isinstance(error, HpctfError):
            code = error.exit_code
        message = f"{self._me.name} on {self._me.host} could not start: {error}"
        try:
            with open(self._log, "a", encoding="utf-8", errors="replace") as log:
                log.write(f"hpctf: {message}\n")
        except OSError:
            say(message)
        self._record_start(None)
        return self._finish(process.Ended(code, None, None))


class Watch:
    """What a rank does while its process runs; called, it returns the seconds to its next turn.

    It beats, ends a process that only serves once the deciding ranks have ended, and takes back
    a promised grace once the job is lost.
    """

    def __init__(self, rank: Rank, child: process.Process) -> None:
        self._rank = rank
        self._child = child
        self._deciders = rank.deciders()
        self._beat_at = time.monotonic() + HEARTBEAT_S
        self._end_at: float | None = None
        self._controller = os.environ.get("SUBMITIT_LOCAL_JOB_ID")

    def __call__(self) -> float:
        now = time.monotonic()
        if now >= self._beat_at:
            if self._rank.is_superseded():
                self._child.kill()
            else:
                self._rank.beat()
            self._beat_at = now + HEARTBEAT_S
        self._follow(now)
        if self._controller:
            from hpctf.common.processes import start_time

            if start_time(int(self._controller)) is None:
                self._child.hurry(process.ALONE)  # nobody else would end this process
        if self._child.asked and self._rank.is_lost():
            self._child.hurry()
        return min(self._pause(), self._beat_at - now)

    def _follow(self, now: float) -> None:
        if self._deciders is None or not self._deciders.all():
            return
        if self._end_at is None:
            self._end_at = now + self._rank.grace_s
        if now >= self._end_at:
            self._child.ask_to_end()
            self._end_at = float("inf")

    def _pause(self) -> float:
        following = self._deciders is not None and self._end_at != float("inf")
        if following or self._child.asked:
            return FOLLOW_S
        return LOCAL_S if self._controller else HEARTBEAT_S


def _is_full(folder: str) -> bool:
    """Whether nothing can be written any more: then no log says so."""
    with contextlib.suppress(OSError):
        return os.statvfs(folder).f_bavail == 0
    return False


def _result_keeper(run_folder: str, me: identity.Identity) -> ResultKeeper:
    """Return what keeps the rank's result."""
    from hpctf.node.result import ResultKeeper

    return ResultKeeper(run_folder, me)
