"""sbatch, called once: its answer, or whether it is sure that there is no job."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from hpctf.common.files import PRIVATE_FILE, write_atomic
from hpctf.common.notes import notify
from hpctf.common.secrets import hidden_in_shell
from hpctf.common.signals import handling
from hpctf.errors import SchedulerError, SubmissionError
from hpctf.scheduler.jobs import Identity
from hpctf.scheduler.programs import FOLDER, environment_of

_SUBMITTED = re.compile(r"Submitted batch job (\d+)(?: on cluster (\S+))?")
_PARSABLE = re.compile(r"(\d+)(?:;(\S+))?")
_FIND_OUT = (
    "The run's folder stays. 'hpctf status @last' finds the job by its name, or says that there is "
    "none."
)
_CLOCKS_S = 600.0
"""How far the clocks of this machine and of slurmctld's may be apart."""


class NoAnswer(SchedulerError):
    """sbatch ended without saying whether slurmctld has taken the job."""


_Job = tuple[str, "str | None"]
"""A job's id, and the cluster that has it if sbatch names one."""


def write_script(path: Path, text: str) -> None:
    """Write a job's script, which holds what the site says: a line of the site's with a secret is
    its owner's alone to read, whatever the umask."""
    write_atomic(path, text, PRIVATE_FILE if hidden_in_shell(text) != text else None)


def sbatch(
    command: list[str],
    umask: int,
    identity: Identity,
    cluster: str | None,
    folder: str | os.PathLike[str] = FOLDER,
) -> _Job:
    """Run an sbatch command under a umask, which Slurm gives to the job; return (id, cluster).

    What a site's wrapper says besides goes to stderr. Where the id cannot be told from what else
    was said, Slurm is asked which job is meant.

    Parameters
    ----------
    identity
        What the job can be found by in Slurm.
    cluster
        Where it is looked for: a name for ``--clusters``, or None for this machine's own.
    folder
        Where the batch script starts, unless a directive says otherwise: not where the person
        happens to be, which others may write, or no node may have.

    Raises
    ------
    SubmissionError
        Slurm refused in its own words, or there is no sbatch: there is no job.
    NoAnswer
        There may be a job: neither sbatch nor Slurm, which was asked about it, said otherwise.
    """
    began = time.time()
    process = _start(command, umask, folder)
    out, err = process.communicate()
    sure, maybe, rest = _read(out, err)
    if process.returncode == 0:
        tell(rest)
        # Slurm's own words count more than a number alone.
        named = sure or maybe
        if len(named) == 1:
            return named[0]
        nothing_sent = refused = False
        words = " ".join([*(number for number, _ in maybe), *rest])
        what = f"sbatch's answer does not name a job: {words[:500]!r}"
    else:
        from hpctf.submission.refusals import is_refusal, never_sent

        refused = not (sure or maybe) and is_refusal(out, err)
        nothing_sent = refused and never_sent(err)
        code = process.returncode
        end = f"exit code {code}" if code > 0 else f"it ended by signal {-code}"
        words = err.strip() or "\n".join(rest) or end
        what = f"sbatch failed, and whether Slurm has taken the job is not known: {words}"
    if not nothing_sent:
        job, asked = _asked(identity, cluster, began, alive=refused)
        if job is not None:  # what failed was a wrapper, or the way of Slurm's answer
            tell(rest if process.returncode else ())
            return job
        what = f"{what}\n{asked}"
    if refused:
        raise SubmissionError(
            f"sbatch refused the job: {words}",
            "Nothing was submitted. --dry-run prints the script.",
        )
    raise NoAnswer(what, _FIND_OUT)


def tell(lines: Iterable[str]) -> None:
    """Show what sbatch or a site's wrapper of it said besides the job's id."""
    for line in lines:
        visible = "".join(char if char.isprintable() or char == "\t" else "?" for char in line)
        notify(f"sbatch says: {visible}", prefix="")


def _start(command: list[str], umask: int, folder: str | os.PathLike[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
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


def _read(out: str, err: str) -> tuple[list[_Job], list[_Job], list[str]]:
    """Return what sbatch said: jobs in forms that are its alone (sbatch.c), those that may be
    meant, and all else, line by line."""
    sure: dict[_Job, None] = {}
    maybe: dict[_Job, None] = {}
    rest: list[str] = []
    for line in out.splitlines():
        words = line.strip()
        found = _SUBMITTED.fullmatch(words) or _PARSABLE.fullmatch(words)
        if found is None:
            rest.append(line.rstrip())
        elif words.isdigit():  # what --parsable gives; it may also be somebody else's number
            maybe[found[1], None] = None
        else:
            sure[found[1], found[2]] = None
    rest += [line.rstrip() for line in err.splitlines()]
    return [*sure], [*maybe], [line for line in rest if line.strip()]


def _asked(
    identity: Identity, cluster: str | None, began: float, alive: bool
) -> tuple[_Job | None, str]:
    """Ask Slurm for the job that sbatch may have handed over; without one, say what it answered.

    With `alive`, one that is over does not count: slurmctld keeps what it refuses as failed.
    """
    from hpctf.scheduler.slurm import Slurm

    answer = "Slurm does not have it so far."
    for one in cluster.split(",") if cluster else [None]:
        try:
            found = Slurm(one).find({"job": identity}, began - _CLOCKS_S)
        except SchedulerError as error:
            answer = f"Slurm did not answer a query for it: {error.message}"
            continue
        if "job" in found and (found["job"].active or not alive):
            return (found["job"].job_id, one), ""
    return None, answer


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a Ctrl-C wait until the job's id is on record; a second one does not wait."""
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    with handling({signal.SIGINT: note}):
        yield
    if came:
        raise KeyboardInterrupt
