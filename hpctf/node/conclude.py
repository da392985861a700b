"""The job's last act: its verdict, on record and told, or its wish to be started again.

The verdict is the exit code of the first rank that failed of itself. A job whose ranks were asked
to end (Slurm's warning of the time limit, or pre-emption that gives them a grace) has not
completed, whatever their exit codes: it asks Slurm to be requeued, as often as its plan allows.
"""

from __future__ import annotations

import os
import re
import time

from hpctf.common.files import append_record, tail
from hpctf.node.completion import attempt_of, is_cancelled, is_superseded
from hpctf.node.messages import say
from hpctf.node.signals import number_of
from hpctf.run_folder import worlds
from hpctf.run_folder.documents import read_plan
from hpctf.run_folder.node_states import first_failed
from hpctf.run_folder.rank_states import (
    JOB_STATE,
    SIGNAL_BASE,
    first_failure,
    first_interrupted,
    read_job,
    read_ranks,
    tell_failure,
)
from hpctf.scheduler.programs import ask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hpctf.run_folder.rank_states import RankState

NO_RECORD = 1
INTERRUPTED = SIGNAL_BASE + 15
REFUSED = 78
"""Exit code of a run whose ranks passed over a refusal, or were each alone, as of a rank that finds
it out itself."""
START_AGAIN = -1
"""What `verdict` returns instead of an exit code."""

_TASK_ENDED = re.compile(r"srun: error: \S+: tasks? ")
"""How srun tells that a task ended, which is no news here: ``srun: error: n1: task 0: Killed``."""
_ASK_AGAIN_S = 5.0
_ASK_FOR_S = 600.0
_MOST_EVENTS = 2_000_000
"""Bytes of event files that are read at a job's end: less than a second's work."""
_TAKEN_OFF_S = 120.0
"""Seconds that Slurm has to take a requeued job off its nodes (KillWait is 30 s by default)."""


def conclude(
    run_folder: str, launcher_status: int, cause: str | None = None, *, may_restart: bool = True
) -> int:
    """Return the job's exit code, having put it on record.

    A requeued job never returns; where there is no Slurm, `START_AGAIN` is returned.

    Before `launcher_status`, which srun or mpirun returned, come the ranks' own records: a launcher
    reports 143 for a rank that it ended after another one's exit code 7 (measured). `cause` is what
    interrupted the ranks, where that is known; None: their records say.
    """
    if is_superseded(run_folder, attempt_of(os.environ)):
        say("the job has been started again without this node: its end here says nothing")
        return launcher_status
    code, words = verdict(run_folder, launcher_status, cause, may_restart)
    if code == START_AGAIN:
        code, words = _start_again(run_folder, words)
        if code == START_AGAIN:
            return code
    record(run_folder, "ended", exit_code=code, reason=words)
    _keep_last(run_folder)
    return code


def _keep_last(run_folder: str) -> None:
    """Keep the last metrics, so that nobody need read all journals for them. Long event files are
    left to who asks: the nodes are still the job's."""
    from pathlib import Path

    from hpctf.tracking.metrics import Reading
    from hpctf.tracking.tensorboard_events import size_of_events

    try:
        if size_of_events(Path(run_folder)) <= _MOST_EVENTS:
            Reading(Path(run_folder)).keep_last(attempt_of(os.environ))
    except Exception as error:  # the training's verdict stands, whatever becomes of this
        say(f"the last metrics are not kept: {error}")


def verdict(
    run_folder: str, launcher_status: int, cause: str | None, may_restart: bool
) -> tuple[int, str]:
    """Return (exit code, why in words), or (`START_AGAIN`, what interrupted the job)."""
    plan = read_plan(run_folder)
    ranks = read_ranks(run_folder, plan, attempt_of(os.environ))
    silent = [rank.name for rank in ranks if rank.state in ("NotStarted", "Running")]
    left = read_job(run_folder).own_restarts < plan["interruption"]["max_restarts"]
    may_restart = may_restart and left and not is_cancelled(run_folder)
    warning = number_of(plan["interruption"]["signal"])
    interrupted = first_interrupted(ranks, plan)
    if interrupted and not silent:
        if cause is None:
            cause = f"{interrupted.asked} from outside"
            if interrupted.asked == "warning":
                cause = "Slurm's warning (time limit or pre-emption)"
        if may_restart:
            return START_AGAIN, cause
        words = f"{interrupted.name} on {interrupted.host} was stopped by {cause}"
        most = plan["interruption"]["max_restarts"]
        return INTERRUPTED, f"{words}; its {most} restarts are used up" if most else words
    if may_restart and warning and launcher_status == SIGNAL_BASE + warning:
        return START_AGAIN, "Slurm's warning, which came before every rank was there"
    unstaged = first_failed(run_folder, attempt_of(os.environ)) if plan.get("staging") else None
    if unstaged:
        return launcher_status or NO_RECORD, unstaged.reason.rstrip(".")
    failure = first_failure(ranks)
    if failure and (failure.asked is None or not silent):
        say(tell_failure(failure, run_folder, ranks))
        return failure.status, ""
    if silent:
        return launcher_status or NO_RECORD, _silence(run_folder, silent, launcher_status)
    return _of_good_ends(run_folder, plan, ranks)


def _of_good_ends(run_folder: str, plan: dict[str, Any], ranks: list[RankState]) -> tuple[int, str]:
    """Return the verdict on ranks that have all ended well, but may have passed over a refusal, or
    may each have trained alone."""
    attempt = attempt_of(os.environ)
    apart, note = worlds.judge(run_folder, plan, ranks, attempt)
    wrong = passed_over(ranks) or apart
    words = wrong or note
    if words:
        say(words)
    return (REFUSED if wrong else 0), words


def passed_over(ranks: list[RankState]) -> str:
    """Return what a rank that has ended well was refused first; nothing if no rank was.

    `hpctf.startup` and `hpctf.client` put on record what they refuse a script by an exception. One
    that ends the script is told as any other; one that the script catches, nothing else tells of.
    """
    for rank in ranks:
        if rank.refused:
            return (
                f"{rank.name} on {rank.host}: {rank.refused}. The script caught this, and went on; "
                f"--env {worlds.SKIP}=1 lets such a run complete"
            )
    return ""


def record(run_folder: str, event: str, **more: Any) -> None:
    """Append to the job's state file."""
    line = {"event": event, "time": time.time(), "attempt": attempt_of(os.environ), **more}
    try:
        append_record(os.path.join(run_folder, "state", JOB_STATE), line)
    except OSError as error:
        say(f"{event} is not on record: {error}")


def _silence(run_folder: str, silent: list[str], launcher_status: int) -> str:
    """Return, and tell, that ranks left no record, with the launcher's last error."""
    names = ", ".join(silent[:5]) + (" ..." if len(silent) > 5 else "")
    words = f"the launcher ended with status {launcher_status}, and {names} left no record"
    log = tail(os.path.join(run_folder, "logs", "job.log"))
    errors = [line for line in log if "error:" in line and not _TASK_ENDED.match(line)]
    if errors:
        words += f": {errors[-1]}"
    say(words)
    return words


def _start_again(run_folder: str, cause: str) -> tuple[int, str]:
    """Have the job started again, and wait to be taken off; return the verdict if that does not
    come."""
    say(f"interrupted by {cause}: to be started again")
    record(run_folder, "requeued", cause=cause)
    job_id = os.environ.get("SLURM_JOB_ID")
    if job_id is None:
        return START_AGAIN, cause  # the controller of a local run does it

    until = time.monotonic() + _ASK_FOR_S
    while True:
        done = ask(["scontrol", "requeue", job_id])
        if done.returncode == 0:
            time.sleep(_TAKEN_OFF_S)
            return INTERRUPTED, "Slurm took the request to start it again, but has not done so"
        words = done.stderr.strip()
        if "Unable to contact" not in words or time.monotonic() > until:
            return INTERRUPTED, f"Slurm would not start it again: {words}"
        time.sleep(_ASK_AGAIN_S)  # slurmctld is away
