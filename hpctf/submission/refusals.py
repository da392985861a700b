"""When an sbatch that fails has said for sure that there is no job.

Slurm's sbatch fails in two ways (sbatch.c). Before it asks slurmctld for a job, over its options or
its script, it says so in lines of its own and ends. Once it has asked, its last word is ``Batch job
submission failed:`` with an error of slurm_errno.c: slurmctld's verdict, or what befell the message
or its answer, after which the job may be there all the same. Other words are a wrapper's, which may
have handed the job over before it failed.
"""

from __future__ import annotations

import errno
import os
import re

_FAILED = re.compile(r"^sbatch: error: Batch job submission failed: (.+)$", re.MULTILINE)
_OWN = re.compile(r"sbatch: |Try [\"']sbatch --help[\"']")
_COMPLAINT = re.compile(
    r"^sbatch: (?:error|fatal):|^sbatch: .*\b(?:option|argument)\b", re.MULTILINE
)
_LIMIT = re.compile(r"\w*SubmitJobs?(?:Limit|Per)\w*")
_PERHAPS = re.compile(r"job submit limit|maximum (?:number of )?jobs|job count", re.IGNORECASE)
_RETRIES = re.compile(r"^sbatch: .*\bretrying\b", re.MULTILINE)

NOT_SENT = (
    "Communication connection failure",
    "Connection timed out establishing",
    "Unable to contact slurm controller (connect failure)",
)
"""Errors of a message that never left."""

ON_THE_WAY = frozenset(
    {
        "No error",
        "Unspecified error",
        "Unknown negative error number",
        "Operation now in progress",
        "Unexpected message received",
        "Message send failure",
        "Message receive failure",
        "Communication shutdown failure",
        "Incompatible versions of client and server code",
        "I/O stream version number error",
        "Protocol authentication error",
        "Insane message length",
        "Unexpected missing socket error",
        "Unable to process incoming file descriptor",
        "Unable to process outgoing file descriptor",
        "Unable to process incoming and outgoing file descriptors",
        "Unable to contact slurm controller (send failure)",
        "Unable to contact slurm controller (receive failure)",
        "Unable to contact slurm controller (shutdown failure)",
        "Connection rejected by handler",
        "Connection forced closed by quiesce timeout",
        "Connection timed out reading",
        "Connection timed out writing",
        "Received zero length message",
        "Received message length < 0",
        "Failed to send entire message",
        "Header lengths are longer than data received",
        "Socket timed out on send/recv operation",
        "Zero Bytes were transmitted or received",
        *(os.strerror(number) for number in errno.errorcode),
    }
)
"""Errors of a message or of its answer, from Slurm 22.05 to 26.05, and the system's own."""


def is_refusal(out: str, err: str) -> bool:
    """Return whether a failed sbatch has said, in Slurm's own words, that there is no job."""
    verdicts = _FAILED.findall(err)
    if verdicts:
        return not any(verdict.strip() in ON_THE_WAY for verdict in verdicts)
    lines = [line for line in err.splitlines() if line.strip()]
    alone = not out.strip() and all(_OWN.match(line) for line in lines)
    return alone and bool(_COMPLAINT.search(err)) and not _RETRIES.search(err)


def never_sent(err: str) -> bool:
    """Return whether sbatch did not even reach slurmctld, which can then not be asked either."""
    verdicts = _FAILED.findall(err)
    return bool(verdicts) and all(verdict.strip() in NOT_SENT for verdict in verdicts)


def limit_in(words: str) -> str:
    """Return the limit of jobs in the queue that Slurm names in a refusal, such as
    ``AssocMaxSubmitJobLimit``: the same job may be taken later. Empty if it names none."""
    named = _LIMIT.search(words)
    return named[0] if named else ""


def is_of_a_limit(words: str) -> bool:
    """Return whether Slurm has refused jobs for how many there are, as far as can be told: a
    sentence of its own names the number of jobs and their size together."""
    return bool(limit_in(words) or _PERHAPS.search(words))
