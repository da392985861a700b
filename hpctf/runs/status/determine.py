"""What state a run is in: from its folder, then what the scheduler says, in that order."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import Any, NamedTuple

from hpctf.common.files import write_json
from hpctf.run_folder.documents import read_cancelled, read_final
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.node_states import staging_words
from hpctf.run_folder.rank_states import (
    SIGNAL_BASE,
    JobRecord,
    RankState,
    describe_end,
    first_failure,
    first_interrupted,
    read_job,
    read_ranks,
)
from hpctf.runs.status.earlier import ended_otherwise, waited_for, what_it_waits_for
from hpctf.runs.status.job_log import awaits_environment, from_log, why_not_built
from hpctf.runs.status.state import RunState, summary
from hpctf.scheduler import states
from hpctf.scheduler.jobs import JobStatus

SETTLE_S = 150.0
"""Seconds of silence before a run is given up whose job the scheduler does not know: five times
what lies between two heartbeats of a rank. A job that slurmctld has forgotten may run on until its
nodes register again."""

SEEK_S = 86400.0
"""Seconds of silence during which a run whose submission was cut short is not settled: each look
asks the scheduler whether its job has come after all."""

REASONS = {
    "TIMEOUT": "it reached its time limit",
    "OUT_OF_MEMORY": "it used more memory than it requested",
    "NODE_FAIL": "a node failed",
    "BOOT_FAIL": "a node could not be started",
    "DEADLINE": "its deadline passed",
    "PREEMPTED": "it was pre-empted by another job",
}
"""Slurm's states of a job that did not end of itself, in plain words."""

_ITS_OWN = {
    *range(1, SIGNAL_BASE),
    *(
        SIGNAL_BASE + number
        for number in (
            *(signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL),
            *(signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP),
        )
    ),
}
"""Exit statuses, in the shell's sense, of what a program did itself."""

_GONE = "the scheduler no longer knows its job, which left no record of its end"


class Answer(NamedTuple):
    """What the scheduler answered about one run.

    ``job`` is the run's job, or None if the answer does not name it. ``away`` says why the
    scheduler could not be asked at all, ``unsure`` that it may know more later, since its
    accounting could not be asked, and ``gone`` that it was asked about this very job, and is sure
    not to know it.
    """

    job: JobStatus | None
    away: str = ""
    unsure: bool = False
    gone: bool = False


def needs_asking(folder: RunFolder, answer: Answer) -> bool:
    """Whether the scheduler must be asked about this run's job alone before the run can be called
    over: its list did not tell of it, and the job has left no record of its end."""
    return not answer.away and answer.job is None and read_job(folder.path).exit_code is None


def settled(folder: RunFolder, plan: dict[str, Any]) -> RunState | None:
    """Return the final state if it has been settled already; no scheduler need be asked then."""
    final = read_final(folder.path)
    if final is None:
        return None
    ranks = tuple(read_ranks(folder.path, plan))
    return RunState(final["state"], final["reason"], final["exit_code"], ranks)


def determine(
    folder: RunFolder, record: dict[str, Any], plan: dict[str, Any], answer: Answer
) -> RunState:
    """Return the run's state, and settle it if it is final and the scheduler agrees.

    While the scheduler is away a job's own word that it has completed is enough; a failure may yet
    turn out to be a cancellation.
    """
    own = read_job(folder.path)
    ranks = tuple(read_ranks(folder.path, plan, own.attempt))
    status = _Case(folder, record, plan, own, ranks).judge(answer)
    asked = not answer.away and not (answer.unsure and answer.job is None)
    if status.final and (asked or status.state == "Completed"):
        settle(folder, record, plan, status)
    return status


def by_its_own_word(folder: RunFolder, record: dict[str, Any]) -> RunState | None:
    """Return the final state, and settle it, where the job's own records leave nothing to ask for:
    it has completed, a rank has failed of itself, or hpctf has cancelled it. None otherwise: who
    else ended it, the scheduler knows."""
    own, plan = read_job(folder.path), folder.plan
    if own.exit_code is None or plan["scheduler"] == "local" or folder.has_agents:
        return None
    ranks = tuple(read_ranks(folder.path, plan, own.attempt))
    case = _Case(folder, record, plan, own, ranks)
    if own.exit_code != 0 and not folder.cancelled.exists() and not case.failed_of_itself:
        return None
    status = case.judge(Answer(None))
    settle(folder, record, plan, status)
    return status


def never_submitted(
    folder: RunFolder,
    record: dict[str, Any],
    plan: dict[str, Any],
    reason: str,
    *,
    lost: bool,
    away: str = "",
) -> RunState:
    """Return the state of a run without a job; `lost` says that there never will be one."""
    ranks = tuple(read_ranks(folder.path, plan))
    status = RunState("Failed" if lost else "NotStarted", reason, None, ranks, away)
    if lost and time.time() - folder.record_file.stat().st_mtime > SEEK_S:
        settle(folder, record, plan, status)
    return status


def settle(
    folder: RunFolder, record: dict[str, Any], plan: dict[str, Any], status: RunState
) -> None:
    """Keep a final state, with all that a listing shows: it reads this one file of the run. Beside
    it lie the last metrics."""
    from hpctf.tracking.metrics import Reading

    final = summary(folder, record, plan, status)
    with contextlib.suppress(OSError):  # somebody who may look, but not write
        Reading(folder.path).keep_last()
        write_json(folder.final, {**final, "time": time.time()}, shared=True)


class _Case(NamedTuple):
    """What a run folder tells: its records, the job's own and the ranks'."""

    folder: RunFolder
    record: dict[str, Any]
    plan: dict[str, Any]
    own: JobRecord
    ranks: tuple[RankState, ...]

    def judge(self, answer: Answer) -> RunState:
        if answer.away:
            if self.own.exit_code is None:
                waits = self.own.requeued is not None or not (self.own.started or self._begun)
                state = "Queued" if waits else "Running"  # when last written to
                words = f"the scheduler could not be asked: {answer.away}"
                return RunState(state, words, None, self.ranks, answer.away)
            return self._ended(None)._replace(away=answer.away)
        job = answer.job
        if job is not None and job.active and not self._over_by_its_own_word(job):
            return self._active(job)
        gone = job is None and answer.gone
        if job is None or job.active:
            job = from_log(self.folder, str(self.record["job_id"]))
        why = self._why_never_started(job, gone)
        if why:
            return RunState("Canceled", why, None, self.ranks)
        if self._unbuilt and not self._cancelled_by_somebody(job):
            words = why_not_built(self.folder, self.record)
            if words or not self._lately():
                build = self.record["build"]["job_id"]
                why = f"its environment was not built by job {build}{': ' if words else ''}{words}"
                return RunState("Failed", why, None, self.ranks)
        if job is None and self.own.exit_code is None and (self._lately() or not answer.gone):
            words = "the scheduler does not know its job; its last records may still come"
            return RunState("Finalizing", words, None, self.ranks)
        return self._ended(job)

    @property
    def failed_of_itself(self) -> bool:
        """Whether a rank's own failure is the cause, by an end that nobody outside can give it."""
        failure = first_failure(self.ranks)
        if failure is None or failure.asked or first_interrupted(self.ranks, self.plan):
            return False
        return failure.oom is not None or failure.status in _ITS_OWN

    def _over_by_its_own_word(self, job: JobStatus) -> bool:
        """Whether a job has ended whose state tells nothing of that: one that this hpctf does not
        know, or that another cluster of the federation has taken it."""
        vague = states.kind(job.state) in (states.UNKNOWN, states.ELSEWHERE)
        return vague and self.own.exit_code is not None and not self._lately()

    @property
    def _unbuilt(self) -> bool:
        return not self.own.started and awaits_environment(self.record, self.plan)

    def _cancelled_by_somebody(self, job: JobStatus | None) -> bool:
        """Slurm itself takes the job of a run away whose build has failed: by nobody."""
        return self.folder.cancelled.exists() or bool(job and (job.by or job.told_later))

    def _why_never_started(self, job: JobStatus | None, gone: bool) -> str:
        """Return which earlier run's end keeps this one from starting: Slurm has taken its job away
        (``--kill-on-invalid-dep``), or forgotten it since. Empty if that is not what happened."""
        is_others = self.own.started or self.folder.cancelled.exists() or bool(job and job.by)
        if is_others or not waited_for(self.plan):
            return ""
        if job is None:
            return ended_otherwise(self.plan) if gone else ""
        if job.ending != "CANCELLED":
            return ""
        by_slurm = job.reason == "DependencyNeverSatisfied"
        if job.told_later and not by_slurm:
            return ""
        names = " and ".join(one["run"] for one in waited_for(self.plan))
        unknown = f"run {names}, which it was to follow, did not end as it had to"
        return ended_otherwise(self.plan) or (unknown if by_slurm else "")

    def _active(self, job: JobStatus) -> RunState:
        kind = states.kind(job.state)
        if kind == states.QUEUED:  # what an earlier start has left behind does not count
            if job.reason.startswith("Dependency") and self._unbuilt:
                words = f"its environment is built by job {self.record['build']['job_id']}"
                return RunState("Preparing", words, None, self.ranks)
            waits = what_it_waits_for(self.plan) if job.reason == "Dependency" else ""
            return RunState("Queued", waits or _reason(job), None, self.ranks)
        if self.own.exit_code is not None:
            words = "" if kind in states.KINDS.values() else _reason(job)
            return RunState("Finalizing", words, self.own.exit_code, self.ranks)
        state = "Preparing" if kind == states.RUNNING else "Queued"
        if kind in (states.FINALIZING, states.PREPARING):
            state = kind
        elif self._begun:
            state = "Running"
        words = _reason(job)
        if self.plan.get("staging") and not words and state == "Preparing":
            words = staging_words(self.folder.path, self.own.attempt)
        return RunState(state, words, None, self.ranks)

    def _ended(self, job: JobStatus | None) -> RunState:
        code = self.own.exit_code
        asked_here = self.folder.cancelled.exists()
        if job is not None and job.told_later and not asked_here and self._lately():
            words = "it was cancelled; by whom is not known yet"
            return RunState("Finalizing", words, None, self.ranks)
        if (code != 0 and asked_here) or (job is not None and job.ending == "CANCELLED"):
            by = job.by if job else ""
            if not by and asked_here:
                by = read_cancelled(self.folder.path)["by"]
            words = f"it was cancelled by user {by}" if by else "it was cancelled"
            return RunState("Canceled", words, code, self.ranks)
        if code == 0:
            return RunState("Completed", self.own.reason, 0, self.ranks)
        failure = first_failure(self.ranks)
        if code is None and failure is not None:
            code = failure.status
        return RunState("Failed", self._why_failed(job, failure), code, self.ranks)

    def _why_failed(self, job: JobStatus | None, failure: RankState | None) -> str:
        """Return the first cause that is known: a rank's own failure before all others."""
        interrupted = first_interrupted(self.ranks, self.plan)
        if failure and failure.asked is None and not interrupted:
            return _who_failed(failure)
        cause = REASONS.get(job.ending, "") if job else ""
        if cause or self.own.reason:
            return ": ".join(words for words in (cause, self.own.reason) if words)
        if failure and (failure.asked is None or self.own.exit_code is not None):
            return _who_failed(failure)
        if self.own.exit_code is not None:
            return f"its launcher ended with status {self.own.exit_code}"
        if job is None:
            return _GONE
        return f"its job ended before the training did: Slurm says {job.state}{_because(job)}"

    @property
    def _begun(self) -> bool:
        return any(rank.state != "NotStarted" for rank in self.ranks)

    def _lately(self) -> bool:
        """Whether something was written lately to the records of a job that Slurm does not know.

        Processes of this machine are there or not, and write their records before they go.
        """
        if self.plan["scheduler"] == "local":
            return False
        records = [self.folder.record_file, *self.folder.state.glob("*.jsonl")]
        return time.time() - max(path.stat().st_mtime for path in records) < SETTLE_S


def _who_failed(failure: RankState) -> str:
    return f"{failure.name} on {failure.host} failed with {describe_end(failure)}"


def _reason(job: JobStatus) -> str:
    if states.kind(job.state) == states.UNKNOWN:
        return f"Slurm says {job.state}{_because(job)}"
    if states.kind(job.state) == states.ELSEWHERE:
        return f"another cluster of the federation took its job: Slurm says {job.state}"
    if job.state in ("SUSPENDED", "STOPPED"):
        return f"{job.state.lower()} by Slurm"
    if job.reason not in ("", "None"):
        return job.reason
    return job.state if job.state in ("REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD") else ""


def _because(job: JobStatus) -> str:
    return f" ({job.reason})" if job.reason not in ("", "None") else ""
