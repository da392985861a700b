"""sbatch, called once: its answer, or whether it is sure that there is no job."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator

from hpctf.errors import SchedulerError, SubmissionError
from hpctf.programs import FOLDER, environment_of

_UNSURE = re.compile(
    r"timed out|Zero Bytes|Message (send|receive)|Transport endpoint|Connection reset|Broken pipe"
    r"|Unexpected message|Insane message",
    re.IGNORECASE,
)
"""Words of Slurm's (slurm_errno.c) after which slurmctld may have taken the job all the same."""


class NoAnswer(SchedulerError):
    """sbatch ended without saying whether slurmctld has taken the job."""


def sbatch(command: list[str], umask: int, folder: str | os.PathLike[str] = FOLDER) -> str:
    """Run an sbatch command under a umask, which Slurm gives to the job, and return what it says.

    Parameters
    ----------
    folder
        Where the batch script starts, unless a directive says otherwise: not where the person
        happens to be, which others may write, or no node may have.

    Raises
    ------
    SubmissionError
        Slurm refused, or there is no sbatch: there is no job.
    NoAnswer
        There may be a job.
    """
    try:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment_of("sbatch"),
            cwd=folder,
            umask=umask,
            start_new_session=True,  # Ctrl-C is for hpctf: sbatch ends what it has begun
        )
    except OSError as error:
        raise SubmissionError(
            f"{command[0]} cannot be run: {error.strerror}.",
            "Run hpctf where Slurm's commands are, or choose --site local.",
        ) from None
    said, words = (part.strip() for part in process.communicate())
    if process.returncode == 0:
        return said
    if process.returncode < 0 or _UNSURE.search(words):
        raise NoAnswer(
            f"sbatch does not know whether Slurm has taken the job: "
            f"{words or f'it ended by signal {-process.returncode}'}",
            "'hpctf status @last' finds the job by its name, or says that there is none.",
        )
    raise SubmissionError(
        f"sbatch refused the job: {words or said}",
        "Nothing was submitted. --dry-run prints the script.",
    )


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a Ctrl-C wait until the job's id is on record; a second one does not wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def parse(output: bytes | str) -> tuple[str, str | None]:
    """Return (id, cluster) from sbatch's ``id`` or ``id;cluster``."""
    text = output.decode() if isinstance(output, bytes) else output
    match = re.search(r"^(\d+)(?:;(\S+))?\s*$", text, re.MULTILINE)
    if match is None:
        raise NoAnswer(
            f"sbatch's answer is not a job id: {text!r}",
            "'hpctf status @last' finds the job by its name, or says that there is none.",
        )
    return match.group(1), match.group(2)
