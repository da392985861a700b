"""What the run folder says of a job: which start of it is on, who runs, who ended how.

The nodes and the login side read the same files through this one module.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

from hpctf.cluster_spec import ROLE_NAMES
from hpctf.common.files import read_records, tail
from hpctf.common.forms import fitting
from hpctf.errors import RunFolderError
from hpctf.run_folder.failure_lines import (
    LOOK_BACK,
    failure_lines,
    holds_exception,
    is_of_another,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SIGNAL_BASE = 128
_MOST_RANKS = 1_000_000
JOB_STATE = "job.jsonl"
"""File in ``state/`` to which the batch script and `hpctf.node.conclude` append."""


class StateRecord(TypedDict, total=False):
    """A line of ``state/job.jsonl`` or of a rank's state file."""

    event: str
    time: float
    attempt: int
    job_id: str
    host: str
    start_time: str
    exit_code: int | None
    signal: int | None
    asked: str | None
    oom: dict[str, int | None] | None
    restart: int
    reason: str
    cause: str
    seen: float


def state_records(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yield the records of a state file, without values that are of another type than they must."""
    for record in read_records(path):
        yield fitting(record, StateRecord)


@dataclass(frozen=True)
class RankState:
    """One rank, as its state file tells.

    ``state`` is ``NotStarted``, ``Running``, ``Completed``, ``Failed``, or ``Canceled`` for one
    that ended because it was asked to; ``asked`` says by whom (see `hpctf.node.process.Ended`);
    times are seconds since the epoch. ``restarts`` counts how often it was started again in its
    place. ``oom`` tells what the kernel killed for want of memory (`hpctf.node.memory`), ``full``
    whether the run folder's file system was full when it failed. ``refused`` is what its script was
    refused first by an exception (`hpctf.startup.this_rank`): one that caught it has gone on.
    """

    role: str
    index: int
    state: str = "NotStarted"
    host: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    asked: str | None = None
    started: float | None = None
    ended: float | None = None
    attempt: int = 0
    restarts: int = 0
    oom: dict[str, int | None] | None = None
    full: bool = False
    refused: str = ""

    @property
    def name(self) -> str:
        """``worker-0`` and so on."""
        return f"{self.role}-{self.index}"

    @property
    def status(self) -> int:
        """Exit status in the shell's sense: 128 + the signal's number for a signal."""
        if self.exit_code is not None:
            return self.exit_code
        return SIGNAL_BASE + self.signal if self.signal else 0


@dataclass(frozen=True)
class JobRecord:
    """What the job itself has put on record of its latest start.

    ``attempt`` is Slurm's count of restarts, None before the first start. ``exit_code`` and
    ``reason`` are its last word, once there is one; ``requeued`` says why it asked to be started
    again, and ``own_restarts`` how often it has. ``start_time`` is a local controller's, see
    `hpctf.scheduler.local`.
    """

    attempt: int | None = None
    job_id: str | None = None
    host: str | None = None
    start_time: str | None = None
    started: float | None = None
    exit_code: int | None = None
    reason: str = ""
    requeued: str | None = None
    own_restarts: int = 0


def read_job(run_folder: str | os.PathLike[str]) -> JobRecord:
    """Return what ``state/job.jsonl`` says; every start supersedes what was said before."""
    job = JobRecord()
    for record in state_records(os.path.join(run_folder, "state", JOB_STATE)):
        event = record.get("event")
        if event == "started":
            job = JobRecord(
                attempt=int(record.get("attempt") or 0),
                job_id=record.get("job_id"),
                host=record.get("host"),
                start_time=record.get("start_time"),
                started=record.get("time"),
                own_restarts=job.own_restarts,
            )
        elif record.get("attempt", job.attempt) != job.attempt:
            continue  # of a start that lives on, on a node that Slurm has lost
        elif event == "requeued":
            cause = str(record.get("cause") or "")
            job = replace(job, requeued=cause, own_restarts=job.own_restarts + 1)
        elif event == "ended":
            reason = str(record.get("reason") or "")
            job = replace(job, exit_code=record.get("exit_code"), reason=reason)
    return job


def read_ranks(
    run_folder: str | os.PathLike[str], plan: dict[str, Any], attempt: int | None = None
) -> list[RankState]:
    """Return the state of every rank of a run, in rank order.

    Only the start `attempt` of the job counts, by default the latest on record: what ranks left in
    another is passed over.
    """
    folder = os.path.join(run_folder, "state")
    if attempt is None:
        attempt = read_job(run_folder).attempt
    return [_read_rank(folder, role, index, attempt) for role, index in ranks_of(plan)]


def ranks_of(plan: dict[str, Any]) -> list[tuple[str, int]]:
    """Return (role name, index) of every rank of ``plan.json``, in rank order.

    Raises
    ------
    RunFolderError
        A role has a name that no plan of hpctf's has: ranks' files are named by it.
    """
    for role in plan["roles"]:
        if role["name"] not in ROLE_NAMES or role["count"] not in range(_MOST_RANKS):
            name, count = repr(role["name"])[:80], repr(role["count"])[:20]
            raise RunFolderError(
                f"plan.json: a run has no {count} ranks of role {name}.",
                "The run folder was changed by something else; submit the run again: "
                "hpctf resubmit RUN.",
            )
    return [(role["name"], index) for role in plan["roles"] for index in range(role["count"])]


def _read_rank(folder: str, role: str, index: int, attempt: int | None) -> RankState:
    state = RankState(role, index)
    for record in state_records(os.path.join(folder, f"{role}-{index}.jsonl")):
        if attempt not in (None, record.get("attempt", attempt)):
            continue
        event = record.get("event")
        if event == "started":
            number = record.get("attempt") or 0
            state = RankState(
                role,
                index,
                "Running",
                host=record.get("host"),
                started=record.get("time"),
                attempt=number,
                restarts=record.get("restart") or 0,
                # On record once, also if the rank comes back in its place and meets it again.
                refused=state.refused if number == state.attempt else "",
            )
        elif event == "refusal" and not state.refused:
            state = replace(state, refused=" ".join(str(record.get("reason")).split()).rstrip("."))
        elif event == "ended":
            state = replace(
                state,
                exit_code=record.get("exit_code"),
                signal=record.get("signal"),
                asked=record.get("asked"),
                ended=record.get("time"),
                oom=record.get("oom"),
                full=bool(record.get("full")),
            )
            ending = "Failed" if state.status else "Completed"
            if state.asked not in (None, "end"):
                ending = "Canceled"
            state = replace(state, state=ending)
    return state


def first_failure(ranks: Iterable[RankState]) -> RankState | None:
    """Return the rank that failed first of itself.

    A rank that somebody asked to end counts only when no other failed: launchers end every rank
    once one has failed.
    """
    failed = [rank for rank in ranks if rank.state in ("Failed", "Canceled") and rank.status]
    return min(failed, key=lambda r: (r.asked is not None, r.ended or 0.0), default=None)


def first_interrupted(ranks: Iterable[RankState], plan: dict[str, Any]) -> RankState | None:
    """Return the deciding rank that was first asked to end, unless one had failed before.

    Ranks that fail afterwards do so for want of those that are gone.
    """
    decides = {role["name"] for role in plan["roles"] if role["decides"]}
    ended = [rank for rank in ranks if rank.state in ("Failed", "Canceled")]
    ended.sort(key=lambda rank: rank.ended or 0.0)
    if not ended or ended[0].asked is None:
        return None
    return next((rank for rank in ended if rank.state == "Canceled" and rank.role in decides), None)


def describe_end(rank: RankState) -> str:
    """Return ``exit code 7`` or ``signal 9 (SIGKILL)``, and that memory or disk was short."""
    how = f"exit code {rank.exit_code}"
    if rank.signal:
        import signal

        try:
            name = signal.Signals(rank.signal).name
        except ValueError:
            name = "unknown"
        how = f"signal {rank.signal} ({name})"
    if rank.oom:
        how += ", out of memory"
    return f"{how}, the run folder's file system being full" if rank.full else how


def tell_failure(
    failed: RankState,
    run_folder: str | os.PathLike[str],
    ranks: Iterable[RankState] = (),
    lines: int = 20,
) -> str:
    """Return who failed, where and how, and what its log says of it.

    Where that log only says that another rank was gone, what the log of that one of `ranks` says.
    """
    words = f"{failed.name} on {failed.host} failed with {describe_end(failed)}."
    teller = who_tells(failed, run_folder, ranks)
    if teller is not failed:
        words += f" It ended because {teller.name} on {teller.host} had failed."
    log = log_of(teller, run_folder)
    said = failure_lines(tail(log, LOOK_BACK), lines)
    if not said:
        return f"{words} Its log is empty: {log}"
    return "\n".join([f"{words} From {log}:", *(f"  {line}" for line in said)])


def log_of(rank: RankState, run_folder: str | os.PathLike[str]) -> str:
    """Return the path of a rank's log."""
    return os.path.join(run_folder, "logs", f"{rank.name}.log")


def who_tells(
    failed: RankState, run_folder: str | os.PathLike[str], ranks: Iterable[RankState]
) -> RankState:
    """Return the rank whose log says why: ranks that wait for a failed one may end before it."""
    if is_of_another(failure_lines(tail(log_of(failed, run_folder), LOOK_BACK))):
        for rank in ranks:
            if rank.state in ("Failed", "Canceled") and rank.status and rank is not failed:
                lines = failure_lines(tail(log_of(rank, run_folder), LOOK_BACK))
                if holds_exception(lines) and not is_of_another(lines):
                    return rank
    return failed
