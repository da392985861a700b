"""A shell in a rank's place, on its node and within its job: ``hpctf shell``."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpctf.common.signals import handling
from hpctf.errors import HostlistError, SchedulerError, UsageError
from hpctf.placement.hostlist import expand_hostlist
from hpctf.run_folder.ownership import why_not_mine
from hpctf.run_folder.rank_states import RankState
from hpctf.runs.status.query import look
from hpctf.scheduler import commands
from hpctf.scheduler.programs import environment_of

if TYPE_CHECKING:
    from hpctf.run_folder.layout import RunFolder
    from hpctf.runs.status.state import RunState

_SQUEUE_S = 20.0
_PASSED_ON = "TERM,COLORTERM,LANG"
"""Variables of the person's terminal that the node gets; all others are the rank's."""


def open_shell(
    run: RunFolder, rank: RankState, command: Sequence[str] = (), *, terminal: bool = False
) -> int:
    """Run a shell, or a command, in a rank's place, and return its exit code.

    Its input and output are this process's. It ends with the run's job.

    Parameters
    ----------
    terminal
        Whether they are a terminal, which the shell is to have on its node as well.

    Raises
    ------
    SchedulerError
        The job does not have the rank's node now, or Slurm could not be asked.
    """
    words = words_of(run, rank, command, terminal)
    kind = "srun" if words[0] == "srun" else "local"
    # What Ctrl-C ends is the command's to say; a handler, unlike SIG_IGN, is not inherited.
    with handling({signal.SIGINT: lambda *_: None}):
        done = subprocess.run(words, env=environment_of(kind), cwd=run.path, check=False)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def rank_of(run: RunFolder, role: str | None = None, index: int = 0) -> RankState:
    """Return a rank that runs, by default the first one.

    Raises
    ------
    UsageError
        The run is somebody else's, has no such rank, waits, or is over.
    """
    why = why_not_mine(run.path)
    if why is not None:  # the programs that its plan names would run as this person
        raise UsageError(
            f"Cannot open a shell in run {run.id}: it {why}.", "Only who submitted it can."
        )
    if run.has_agents:
        raise UsageError(
            f"Cannot open a shell in run {run.id}: its jobs are agents that share its work.",
            "Open one in a trial that is a job of its own (hpctf tune start --job-per-trial).",
        )
    status = look(run)
    named = role or status.ranks[0].role
    rank = next((one for one in status.ranks if (one.role, one.index) == (named, index)), None)
    if rank is None:
        names = ", ".join(one.name for one in status.ranks[:8])
        raise UsageError(
            f"Run {run.id} has no rank {named}-{index}: it has {names}"
            f"{' ...' if len(status.ranks) > 8 else ''}.",
            "Name one with --role and --index.",
        )
    _refuse_unless_running(run, status, rank)
    return rank


def words_of(run: RunFolder, rank: RankState, command: Sequence[str], terminal: bool) -> list[str]:
    """Return the words of the program that enters a rank's place."""
    launch = run.plan["launch"]
    python = launch["rank_python"] or launch["hpctf_python"]
    enter = [python, "-I", "-S", launch["start"], "shell", str(run.path), rank.name, *command]
    if run.plan["scheduler"] == "local":
        return enter
    where, node = _step_on_node(run, rank.host or "")
    return [
        *("srun", *commands.clusters_option(run.read_record()["cluster"])),
        *(*where, f"--nodelist={node}", "--nodes=1", "--ntasks=1"),
        # All of the job's memory and GPUs there, beside the ranks; and no part in their MPI.
        *("--overlap", "--mem=0", "--mpi=none", f"--export={_PASSED_ON}"),
        *("--chdir", str(run.path), "--quiet", "--quit-on-interrupt"),
        *(["--pty"] if terminal else []),
        *launch["step_options"],
        *enter,
    ]


def _refuse_unless_running(run: RunFolder, status: RunState, rank: RankState) -> None:
    cannot = f"Cannot open a shell in run {run.id}"
    if status.away and not status.final:
        raise SchedulerError(f"{cannot}: {status.reason}.", "Try again later.")
    if status.final:
        raise UsageError(
            f"{cannot}: it is over ({status.state}), and no longer has nodes.",
            f"Its files: hpctf files {run.id}. To try its code in a new job: hpctf submit "
            "--interactive.",
        )
    if rank.state == "Running":
        return
    if rank.ended is not None:
        raise UsageError(
            f"{cannot}: {rank.name} has ended ({rank.state}).",
            f"Name a rank that runs (--role, --index): hpctf status {run.id}",
        )
    reason = f" ({status.reason})" if status.reason else ""
    raise UsageError(
        f"{cannot}: {rank.name} has not started; the run is {status.state}{reason}.",
        f"Try again once it runs: hpctf watch {run.id}",
    )


def _step_on_node(run: RunFolder, host: str) -> tuple[tuple[str, ...], str]:
    """Return srun's options for the job, of a het job the component, that has a host, and Slurm's
    name of its node."""
    job_id, cluster = str(run.job_id), run.read_record()["cluster"]
    command = ["squeue", *commands.clusters_option(cluster), "--all", "--noheader", "--array"]
    told = commands.run([*command, f"--jobs={job_id}", "--format=%i|%A|%N"], _SQUEUE_S)
    for line in told.splitlines():
        shown, own, nodes = line.strip().split("|", 2)
        for node in _expanded(nodes):
            if node == host or node.partition(".")[0] == host.partition(".")[0]:
                leader, of_het_job, component = shown.partition("+")
                if of_het_job:  # "7+1": srun takes the leader's id alone
                    return (f"--jobid={leader}", f"--het-group={component}"), node
                return (f"--jobid={own}",), node
    raise SchedulerError(
        f"Job {job_id} of run {run.id} does not have node {host} now.",
        f"See what became of it: hpctf status {run.id}",
    )


def _expanded(nodes: str) -> list[str]:
    try:
        return expand_hostlist(nodes) if nodes else []
    except HostlistError:
        return []
