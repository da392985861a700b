"""One run after another: Slurm starts a run once earlier ones have ended, and it reads what they
wrote (`--after`, ``--input NAME=@RUN/outputs``)."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpctf.errors import RunNotFound, SchedulerError, UnreadableRun, UsageError
from hpctf.estimator.earlier_runs import DEPENDENCIES, Condition, FileOfRun
from hpctf.plan import Earlier, Handover, Plan
from hpctf.planning.directives import dropped_by
from hpctf.run_folder.layout import RunFolder, find_run
from hpctf.runs.status.query import ask_for, look
from hpctf.runs.status.state import RunState
from hpctf.submission.dependencies import waiting_for

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.site.model import Site


@dataclass
class Looks:
    """Runs under a root by what a person calls them, and their states, each looked up once."""

    root: Path
    _runs: dict[str, RunFolder] = field(default_factory=dict)
    _states: dict[Path, RunState] = field(default_factory=dict)

    def run(self, parameter: str, name: str) -> RunFolder:
        """Return the run of that id, prefix or folder, or `@last`."""
        if name not in self._runs:
            self._runs[name] = self._find(parameter, name)
        return self._runs[name]

    def state(self, run: RunFolder) -> RunState:
        """Return a run's state as it was at the first look."""
        if run.path not in self._states:
            try:
                self._states[run.path] = look(run)
            except PermissionError as error:
                raise UnreadableRun(str(run.path), "state", str(error.strerror)) from None
        return self._states[run.path]

    def _find(self, parameter: str, name: str) -> RunFolder:
        if os.sep in name:
            folder = RunFolder(Path(os.path.abspath(os.path.expanduser(name))))
            if os.path.lexists(folder.record_file):
                return folder
        try:
            return find_run(self.root, name)
        except RunNotFound as error:
            raise RunNotFound(f"{parameter}: {error.message}", error.hint) from None


@dataclass(frozen=True)
class Following:
    """What an estimator waits for and reads of earlier runs.

    Parameters
    ----------
    estimator
        The estimator, whose inputs are paths.
    conditions
        How earlier runs must end, the runs' states, and the parameter that says so.
    """

    estimator: TensorFlow
    conditions: tuple[tuple[RunFolder, str, RunState, str], ...] = ()
    handovers: tuple[Handover, ...] = ()
    notes: tuple[str, ...] = ()

    def applied(self, plan: Plan, site: Site) -> Plan:
        """Return a plan that waits for the earlier runs which have not ended.

        Raises
        ------
        UsageError, SchedulerError
            Slurm cannot wait for one of them, or what it would wait for can no longer come.
        """
        earlier = []
        for run, when, state, parameter in self.conditions:
            job_id = "" if state.final else _job_to_wait_for(run, state, plan, site, parameter)
            earlier.append(Earlier(run.id, str(run.path), when, job_id))

        waits = [f"{DEPENDENCIES[one.when]}:{one.job_id}" for one in earlier if one.job_id]
        if waits:
            hint = "Wait for all of them, with commas; or leave --after out."
            plan = waiting_for(plan, waits, "the runs that it follows (--after)", hint)
        return replace(plan, after=tuple(earlier), handovers=self.handovers)


def following(estimator: TensorFlow, looks: Looks) -> Following:
    """Return what an estimator waits for and reads of earlier runs.

    An input that a run has yet to write (``@RUN/outputs``) makes it wait for that run to complete,
    unless it waits for that run already.

    Raises
    ------
    UsageError
        There is no such run, it ended otherwise than it had to, or has not left such a file.
    SchedulerError
        Whether it has ended cannot be known now.
    """
    conditions: dict[Path, tuple[RunFolder, str, RunState, str]] = {}
    for text in estimator.after:
        name, when = Condition.parse(text)
        run = looks.run("after", name)
        state = looks.state(run)
        _refuse_impossible(run, when, state)
        known = conditions.get(run.path)
        if known is not None and known[1] != when:
            raise UsageError(
                f"after: run {run.id} is there twice, as {known[1]} and as {when}.",
                "Keep one of the two.",
            )
        conditions[run.path] = (run, when, state, "after")

    inputs, handovers, notes = dict(estimator.inputs), [], []
    for name, path in estimator.inputs.items():
        parameter = f"inputs[{name!r}]"
        named = FileOfRun.parse(parameter, path)
        if named is None:
            continue
        run = looks.run(parameter, named.run)
        handover = Handover(name, run.id, str(run.path), named.path)
        state = looks.state(run)
        if state.final:
            _refuse_missing(parameter, handover, state)
        elif run.path not in conditions:
            conditions[run.path] = (run, "ok", state, parameter)
            notes.append(f"input {name} is written by run {run.id}: this run waits for it.")
        inputs[name] = handover.file
        handovers.append(handover)

    if handovers:
        estimator = copy.copy(estimator)
        estimator.inputs = inputs
    return Following(estimator, tuple(conditions.values()), tuple(handovers), tuple(notes))


def _refuse_impossible(run: RunFolder, when: str, state: RunState) -> None:
    """Refuse to wait for an end that has turned out otherwise."""
    if not state.final or when == "any" or (when == "ok") == (state.state == "Completed"):
        return
    if when == "failed":
        raise UsageError(
            f"after: run {run.id} completed, but this run is to start only if it fails.",
            f"To run it all the same: --after {run.id}:any, or leave --after out.",
        )
    raise UsageError(
        f"after: run {run.id} {_ENDED[state.state]}, but this run is to start only once it has "
        f"completed: {state.reason}.",
        f"Correct it, submit it again (hpctf resubmit {run.id}), and name the new run; or start "
        f"after any end: {run.id}:any.",
    )


def _refuse_missing(parameter: str, handover: Handover, state: RunState) -> None:
    if os.path.exists(handover.file):
        return
    raise UsageError(
        f"{parameter}: run {handover.run} {_ENDED[state.state]}, and has no {handover.path}.",
        f"See what it wrote: hpctf files {handover.run}",
    )


def _job_to_wait_for(
    run: RunFolder, state: RunState, plan: Plan, site: Site, parameter: str
) -> str:
    """Return the job that Slurm must wait for, or refuse what it cannot wait for."""
    record = run.read_record()
    cannot = f"{parameter}: cannot wait for run {run.id}, which is {state.state}"
    wait = f"Wait for it first: hpctf wait {run.id}"
    if state.away:
        raise SchedulerError(f"{cannot} as far as is known: {state.reason}.", "Try again later.")
    if plan.scheduler != "slurm":
        raise UsageError(
            f"{cannot}: site {site.name!r} has no queue, and would start this run at once.", wait
        )
    if "dependency" in dropped_by(site, site.targets[plan.target]):
        raise UsageError(f"{cannot}: site {site.name!r} drops 'dependency'.", wait)
    if run.has_agents or run.study is not None:
        kind = "scoring run" if run.is_scoring else "study" if run.is_study else "study's trial"
        raise UsageError(
            f"{cannot}: it is a {kind}, whose jobs come and go before it has ended.", wait
        )
    if run.plan["scheduler"] != "slurm":
        raise UsageError(f"{cannot}: it is a local run, and Slurm does not know it.", wait)
    job_id = record["job_id"]
    if job_id is None:
        raise UsageError(f"{cannot}: it has no job ({state.reason}).", "Submit it first.")
    if (record["cluster"] or "") != plan.clusters:
        theirs, ours = (
            f"cluster {name!r}" if name else "this machine's cluster"
            for name in (record["cluster"], plan.clusters)
        )
        raise UsageError(
            f"{cannot}: its job is on {theirs}, and this run's would be on {ours}. Slurm's jobs "
            "wait for jobs of their own cluster.",
            f"{wait}; or submit to that cluster, too (--sbatch clusters=NAME).",
        )
    # Slurm starts a job at once whose dependency is a job that it has forgotten (measured, 22.05).
    if state.state == "Finalizing" and ask_for(run, job_id) is None:
        raise UsageError(f"{cannot}: Slurm no longer knows its job, {job_id}.", wait)
    return str(job_id)


_ENDED = {"Completed": "completed", "Failed": "failed", "Canceled": "was cancelled"}
