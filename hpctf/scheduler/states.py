"""Slurm's states of a job, in one table: which are an end, and what the others are to a person.

A job has one base state and any number of flags (slurm.h, ``JOB_STATE_BASE`` and
``JOB_STATE_FLAGS``). squeue and sacct name the one that matters most; scontrol of Slurm 23.11 and
later, and sacct where its column is narrow, also write ``COMPLETED,COMPLETING`` or ``CANCELLED+``.
"""

from __future__ import annotations

import re

QUEUED = "Queued"
PREPARING = "Preparing"
RUNNING = "Running"
FINALIZING = "Finalizing"
OVER = "over"
ELSEWHERE = "elsewhere"
REMARK = "remark"
UNKNOWN = "unknown"

_OF_KINDS = {
    # Base states (squeue(1), JOB STATE CODES; sacct(1)), and flags.
    QUEUED: "PENDING REQUEUED REQUEUE_HOLD REQUEUE_FED SPECIAL_EXIT RESV_DEL_HOLD",
    PREPARING: "CONFIGURING POWER_UP_NODE",
    RUNNING: "RUNNING SUSPENDED RESIZING SIGNALING STOPPED",
    FINALIZING: "COMPLETING STAGE_OUT EXPEDITING",
    OVER: "COMPLETED CANCELLED FAILED TIMEOUT NODE_FAIL PREEMPTED BOOT_FAIL DEADLINE OUT_OF_MEMORY",
    ELSEWHERE: "REVOKED",
    # Flags that say nothing of whether the job is over.
    REMARK: "LAUNCH_FAILED RECONFIG_FAIL UPDATE_DB GETENV_FAILED",
}
KINDS = {word: kind for kind, words in _OF_KINDS.items() for word in words.split()}
"""What each of Slurm's words is to a person, from Slurm 22.05 to 26.05."""

_FIRST = (QUEUED, FINALIZING, PREPARING, RUNNING, ELSEWHERE)
"""Which of several words counts. A queued job's flags outdo its base state: a job that is requeued
has ended before; one that is completing still has the base state of its end."""


def words(state: str) -> list[str]:
    """Return the words of a state as Slurm writes it: ``CANCELLED by 1000`` has one."""
    return [word for word in re.split(r"[,+|\s]+", state.partition(" by ")[0].upper()) if word]


def kind(state: str) -> str:
    """Return what a state is: one of the kinds above.

    `OVER` only if nothing else is said, and `UNKNOWN` for a word that is not in the table: a newer
    Slurm's. Whoever does not know a word knows no end.
    """
    kinds = {KINDS.get(word, UNKNOWN) for word in words(state)} - {REMARK}
    if kinds == {OVER}:
        return OVER
    known = [one for one in _FIRST if one in kinds]
    return known[0] if known else UNKNOWN


def ending(state: str) -> str:
    """Return the word of a job's end, such as ``TIMEOUT``; empty while it is not over."""
    if kind(state) != OVER:
        return ""
    return next(word for word in words(state) if KINDS.get(word) == OVER)
