"""The jobs of a run's agents: as few job arrays as Slurm's limits allow, and more of them later.

An array has at most MaxArraySize tasks (slurm.conf(5)). How many jobs a person may have in the
queue, associations and QOSes say (sacctmgr(1), MaxSubmitJobs), in many ways that add up: hpctf does
not work that out, but lets Slurm refuse, and submits fewer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from hpctf.errors import SchedulerError, SubmissionError
from hpctf.plan import Plan
from hpctf.run_folder.layout import RunFolder
from hpctf.scheduler import commands
from hpctf.scheduler.jobs import Identity
from hpctf.submission.refusals import is_of_a_limit, limit_in
from hpctf.submission.sbatch import sbatch, uninterrupted, write_script
from hpctf.submission.script import render_agents

_SLURM_S = 20.0
_USUAL_SIZE = 1001
"""MaxArraySize as Slurm has it unless told otherwise (slurm.conf(5))."""

_ATTEMPTS = 24
"""More submissions than arrays at most: twice as many as 10,000 can be halved."""

Tell = Callable[[str], None]


@dataclass
class Arrays:
    """Job arrays of the agents of one run.

    Parameters
    ----------
    folder, plan
        The run's, whose record names its jobs.
    work
        What the agents do, for messages: ``the study's trials``.
    more
        How some are added later; empty if that cannot be.
    first
        The number of the first one's first job.
    """

    folder: RunFolder
    plan: Plan
    tell: Tell
    work: str
    more: str = ""
    first: int = 0

    def begin(self) -> None:
        """Put on record what the jobs can be found by, before there are any."""
        self.folder.update_record(
            job_name=self.plan.run_id,
            job_script=str(self.folder.script),
            cluster=self.plan.clusters or None,
            more_jobs=[],
        )

    def submit(self, jobs: int) -> int:
        """Submit so many jobs, and return how many Slurm has taken."""
        most = array_size(self.plan.clusters)
        size, done, arrays, why = most, 0, 0, ""
        for _ in range(-(-jobs // most) + _ATTEMPTS):
            count = min(size, jobs - done)
            if not count:
                break
            try:
                self._submit(self.first + done, count)
            except SubmissionError as error:
                if not is_of_a_limit(error.message):
                    if not done:
                        raise
                    why = error.message
                    break
                if count == 1 and not done:
                    raise
                size, why = count // 2, error.message
                continue
            done += count
            arrays += 1
            if why:  # twice as many were too many: no more than as many again are left to take
                size = (size + 1) // 2
        jobs_run = "1 job runs" if done == 1 else f"{done} jobs run"
        if done < jobs:
            self.tell(
                f"{jobs_run} {self.work} rather than {jobs}: Slurm takes no more of them "
                f"({_limit_in(why)}).{self.more and f' To add some later: {self.more}.'}"
            )
        elif arrays > 1:
            of = f"an array has at most {most} jobs here (MaxArraySize)"
            of = f"Slurm did not take more at a time ({_limit_in(why)})" if why else of
            self.tell(f"{jobs_run} {self.work}, in {arrays} arrays: {of}.")
        return done

    def _submit(self, first: int, jobs: int) -> None:
        folder = self.folder
        with uninterrupted():
            job_id, cluster = submit_array(folder, self.plan, jobs, first)
            if first == 0:
                folder.update_record(job_id=job_id, cluster=cluster)
            else:
                more = folder.read_record()["more_jobs"]
                folder.update_record(more_jobs=[*more, job_id])


def submit_array(folder: RunFolder, plan: Plan, jobs: int, first: int) -> tuple[str, str | None]:
    """Submit one array, or with 0 jobs a study's driver; return its id and its cluster."""
    clusters = plan.clusters
    script = folder.script if not first else folder.script.with_name(f"job-{first}.sbatch")
    write_script(script, render_agents(plan, jobs, first))
    # all arrays have the study's name: the script tells a later one from the first
    names = frozenset({plan.run_id}) if not first else frozenset()
    identity = Identity(os.geteuid(), None, names, str(script))
    command = ["sbatch", "--parsable", *commands.clusters_option(clusters), str(script)]
    return sbatch(command, int(plan.umask, 8), identity, clusters or None, folder.path)


def array_size(cluster: str | None) -> int:
    """Return how many tasks a job array may have."""
    command = ["scontrol", *commands.clusters_option(cluster), "show", "config"]
    try:
        said = commands.run(command, _SLURM_S)
    except SchedulerError:
        return _USUAL_SIZE
    for line in said.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize" and value.strip().isdecimal():
            return max(1, int(value))
    return _USUAL_SIZE


def _limit_in(words: str) -> str:
    """Return the name of the limit that Slurm gives in a refusal, else its last words."""
    return limit_in(words) or words.strip().rpartition("\n")[2]
