"""Why a run waits, runs or has failed, in plain words: `Run.why`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from hpctf.common.units import clock, memory_size, span
from hpctf.errors import HpctfError, SchedulerError
from hpctf.run_folder.failure_lines import LOOK_BACK, failure_lines, without_frames
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.node_states import first_failed, read_nodes
from hpctf.run_folder.ownership import end_of_log
from hpctf.run_folder.rank_states import (
    RankState,
    first_failure,
    first_interrupted,
    read_job,
    who_tells,
)
from hpctf.runs.explain import log_patterns
from hpctf.runs.explain.job_info import Figures
from hpctf.runs.status.determine import REASONS
from hpctf.runs.status.earlier import ended_otherwise, not_ended, what_it_waits_for
from hpctf.runs.status.job_log import awaits_environment
from hpctf.runs.status.query import look, scheduler_of
from hpctf.runs.status.state import RunState
from hpctf.scheduler import states
from hpctf.scheduler.commands import UNSET
from hpctf.scheduler.jobs import Identity

_LINES = 60
"""Lines at the end of a log that are searched for a cause that hpctf knows."""
_SHOWN = 12


@dataclass(frozen=True)
class Explanation:
    """Why a run is in its state.

    ``headline`` is one sentence, ``details`` are the facts behind it, ``advice`` what can be done,
    ``page`` the page of the documentation that says more, as ``hpctf docs`` takes it.
    """

    state: str
    headline: str
    details: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    page: str = ""

    def __str__(self) -> str:
        facts = (line for detail in self.details for line in detail.splitlines())
        more = [f"More: hpctf docs {self.page}"] if self.page else []
        return "\n".join([self.headline, *(f"  {line}" for line in facts), *self.advice, *more])


class _Cause(NamedTuple):
    """What made a run fail: the facts, the ways out, and the page of docs/troubleshooting."""

    facts: list[str]
    advice: list[str]
    page: str = ""


def page_path(page: str) -> str:
    """Return what ``hpctf docs`` takes for a page of docs/troubleshooting; "" for its first."""
    return f"troubleshooting/{page}" if page else "troubleshooting"


def explain(run: RunFolder) -> Explanation:
    """Return why a run is in the state that it is in now."""
    status = look(run)
    words, tell = _STATES[status.state]
    headline = f"Run {run.id} {words}"
    told = f"{headline}: {status.reason}." if status.reason else f"{headline}."
    if run.is_scoring and status.final and status.state != "Completed":
        found = tell(run, status, told) if tell else Explanation(status.state, told)
        advice = f"To score what is missing: hpctf score --resume {run.id}"
        return replace(found, advice=(*found.advice, advice))
    if tell is None:
        return Explanation(status.state, told)
    if status.away and not status.final:
        told = f"{headline}, as its folder tells: {status.reason}"
        return Explanation(status.state, told, tuple(_progress(run, status)))
    return tell(run, status, told)


def says_more(run: RunFolder, status: RunState) -> bool:
    """Whether `explain` has more to say of a failure than what happened and the last lines."""
    if status.state != "Failed":
        return False
    failure = first_failure(status.ranks)
    if _slurms_cause(status):
        return True
    of_failure = _of_rank(run, failure, status.ranks) if failure else _of_log(run, "job")
    return bool(of_failure.advice)


def _waiting(run: RunFolder, status: RunState, told: str) -> Explanation:
    from hpctf.runs.explain import pending

    build = run.read_record().get("build")
    if build and status.state == "Preparing":
        return _building(run, build, status, told)
    if run.plan.get("staging") and status.state == "Preparing":
        return Explanation(status.state, told, tuple(_copying(run)))
    if run.plan["scheduler"] != "slurm" or run.job_id is None or status.state == "Preparing":
        return Explanation(status.state, told)
    waits = what_it_waits_for(run.plan)
    if waits and status.reason == waits:
        return _following(run, status)
    why = pending.explain(run.job_id, status.reason, _figures(run))
    reason = f" (Slurm says {status.reason})" if status.reason else ""
    details, requeued = why.details, read_job(run.path).requeued
    if requeued:
        details = (*details, f"It was interrupted by {requeued}, and starts again.")
    advice = (why.advice,) if why.advice else ()
    told = f"Run {run.id} waits: {why.meaning}{reason}."
    return Explanation(status.state, told, details, advice, page_path(why.page))


def _following(run: RunFolder, status: RunState) -> Explanation:
    """Tell how far the runs are that a run waits for, and what else it depends on."""
    from hpctf.runs.explain import pending

    assert run.job_id is not None
    earlier = {one["job_id"]: RunFolder(Path(one["folder"])) for one in not_ended(run.plan)}
    details = []
    for job_id, one in earlier.items():
        words = f"Run {one.id} (job {job_id})"
        with contextlib.suppress(HpctfError, OSError):  # it is gone, or somebody else's
            state = look(one)
            reason = f" ({state.reason})" if state.reason and not state.final else ""
            words += f" is {state.state}{reason}"
        details.append(f"{words}.")
    others = pending.explain(run.job_id, "Dependency", _figures(run))
    ours = tuple(f"It waits for job {job_id.partition('_')[0]} " for job_id in earlier)
    details += [line for line in others.details if not line.startswith(ours)]
    told = f"Run {run.id} {status.reason}."
    return Explanation(status.state, told, tuple(details), page=page_path(others.page))


def _building(run: RunFolder, build: dict[str, Any], status: RunState, told: str) -> Explanation:
    """Tell how far the job is that builds the run's environment."""
    from hpctf.runs.explain import pending

    job_id = build["job_id"]
    try:
        job = scheduler_of(run).query({job_id: Identity()}).get(job_id)
    except SchedulerError as error:
        return Explanation(status.state, told, (error.message,))
    if job is not None and states.kind(job.state) == states.QUEUED:
        why = pending.explain(job_id, job.reason, _figures(run))
        waits = f"Job {job_id} waits: {why.meaning} (Slurm says {job.reason})."
        return Explanation(status.state, told, (waits, *why.details), page=page_path(why.page))
    return Explanation(status.state, told, tuple(_of_log(run, "build").facts))


def _copying(run: RunFolder) -> Iterator[str]:
    """Tell since when each node has made its copies of the data."""
    for node in read_nodes(run.path, read_job(run.path).attempt):
        if node.state == "staging":
            yield f"{node.host} has been copying since {clock(node.started)}."
        elif node.started and node.ended:
            yield f"{node.host} took {span(node.ended - node.started)} for its copies."


def _running(run: RunFolder, status: RunState, told: str) -> Explanation:
    advice: tuple[str, ...] = ()
    if status.reason.startswith("suspended"):
        words = ("scontrol", _figures(run).where, "resume", run.job_id)
        advice = (f"It continues once somebody runs: {' '.join(filter(None, words))}",)
    return Explanation(status.state, told, tuple(_progress(run, status)), advice)


def _progress(run: RunFolder, status: RunState) -> Iterator[str]:
    """Tell since when and where a job runs, and how often it or its ranks began again."""
    own = read_job(run.path)
    if own.started:
        since = clock(own.started)
        hosts = sorted({rank.host for rank in status.ranks if rank.host} | {own.host or ""} - {""})
        yield f"It has run since {since} on {', '.join(hosts)}."
    if own.attempt:
        yield f"It was restarted {_times(own.attempt)}."
    for rank in status.ranks:
        if rank.restarts:
            yield f"{rank.name} alone was restarted {_times(rank.restarts)}."


def _failed(run: RunFolder, status: RunState, told: str) -> Explanation:
    if status.state == "Canceled":
        advice: tuple[str, ...] = ()
        if status.reason == ended_otherwise(run.plan):
            advice = (f"Correct that run, then submit this one again: hpctf resubmit {run.id}",)
        return Explanation(status.state, told, advice=advice)
    cause = _cause(run, status)
    facts, ways_out = tuple(cause.facts), tuple(cause.advice)
    return Explanation(status.state, told, facts, ways_out, page_path(cause.page))


def _cause(run: RunFolder, status: RunState) -> _Cause:
    """Return the cause that Slurm names, or else what the log of the failed rank means."""
    cause = _slurms_cause(status)
    failure = first_failure(status.ranks)
    if cause == "PREEMPTED":
        restart = "Let it start again: --max-restarts; or use a partition that is not pre-empted."
        return _Cause([], [restart], "interrupted")
    if cause:
        return _SLURMS[cause](run, status) if cause in _SLURMS else _Cause([], [])
    if first_interrupted(status.ranks, run.plan):
        go_on = (
            "Continue in a new run: hpctf submit --resume-from "
            f"{run.id} ...; or allow more restarts: --max-restarts."
        )
        return _Cause(list(_progress(run, status)), [go_on], "interrupted")
    if failure is not None and failure.asked is None:
        return _of_rank(run, failure, status.ranks)
    staging = run.plan.get("staging")
    unstaged = first_failed(run.path, read_job(run.path).attempt) if staging else None
    if unstaged:
        advice = [unstaged.hint] if unstaged.hint else []
        return _Cause([], advice, "staging")
    if awaits_environment(run.read_record(), run.plan):
        of_build = _of_log(run, "build")
        again = ["Correct that and submit again: the next submission builds it again."]
        page = of_build.page or "environment-build"
        return _Cause(of_build.facts, of_build.advice or again, page)
    return _of_log(run, "job")


def _slurms_cause(status: RunState) -> str:
    """Return Slurm's state that a run's reason begins with the words of, or nothing."""
    return next((state for state, words in REASONS.items() if status.reason.startswith(words)), "")


def _of_rank(run: RunFolder, rank: RankState, ranks: tuple[RankState, ...]) -> _Cause:
    if rank.oom:
        return _of_memory(run, rank.oom, rank.name)
    of_log = _of_log(run, who_tells(rank, run.path, ranks).name)
    if rank.full:
        room = f"Free some space on the file system of {run.path}, and submit again."
        return _Cause(of_log.facts, [room], "disk-full")
    if not of_log.advice:
        known = log_patterns.of_end(rank.exit_code, rank.signal)
        if known:
            facts = [_sentence(known.meaning), *of_log.facts]
            return _Cause(facts, [known.advice], known.page)
    return of_log


def _of_log(run: RunFolder, name: str) -> _Cause:
    """Return what a log's last lines mean, and the lines."""
    log = run.logs / f"{name}.log"
    try:
        end = end_of_log(log, run.path, LOOK_BACK)
    except OSError:  # of somebody else's job, which built the same environment
        end = []
    known = log_patterns.of_lines(without_frames(end)[-_LINES:], run.plan["entry"]["python"])
    facts = [_sentence(known.meaning)] if known else []
    if end:
        facts.append("\n".join([f"From {log}:", *(f"  {x}" for x in failure_lines(end, _SHOWN))]))
    return _Cause(facts, [known.advice], known.page) if known else _Cause(facts, [])


def _of_memory(run: RunFolder, oom: dict[str, int | None], name: str) -> _Cause:
    limit, peak = oom.get("limit"), oom.get("peak")
    facts = [f"{name} ran out of memory: the kernel killed {_processes(oom.get('kills') or 1)}."]
    if limit:
        used = f", and it used {memory_size(peak)}" if peak else ""
        facts.append(f"Its limit is {memory_size(limit)}{used}.")
    return _Cause(facts, [_more_memory(run)], "out-of-memory")


def _out_of_memory(run: RunFolder, status: RunState) -> _Cause:
    asked = _directive(run, "mem") or _directive(run, "mem-per-cpu")
    facts = [f"It requested {asked} of memory."] if asked else []
    used = _figures(run).most_memory(run.job_id) if run.job_id else ""
    if used:
        facts.append(f"Slurm saw one of its tasks use up to {used}.")
    return _Cause(facts, [_more_memory(run)], "out-of-memory")


def _more_memory(run: RunFolder) -> str:
    asked = _directive(run, "mem")
    return f"Request more memory: --mem{f' (it was {asked})' if asked else ''}."


def _timeout(run: RunFolder, status: RunState) -> _Cause:
    limit = run.plan["time_limit_s"]
    job = _figures(run).job(run.job_id) if run.job_id else {}
    told = job.get("TimeLimit", "") if job.get("JobName") == run.id else ""
    if limit:
        told = str(timedelta(seconds=limit))
    facts = [f"Its time limit was {told}."] if told not in UNSET else []
    more = "Give it more time: --time; or let it write checkpoints and start again: --max-restarts."
    return _Cause(facts, [more], "time-limit")


def _node_failed(run: RunFolder, status: RunState) -> _Cause:
    hosts = sorted({rank.host for rank in status.ranks if rank.host and rank.state == "Running"})
    names = ",".join(hosts or [read_job(run.path).host or ""])
    nodes = _figures(run).nodes(names=names) if names else []
    bad = [node for node in nodes if not node.usable and node.state != "idle"]
    facts = [f"It ran on {names}."] if names else []
    facts += [f"{n.name} is {n.state.rstrip('*')} now: {n.reason}." for n in bad]
    again = "Submit it again. With --max-restarts, Slurm restarts it on other nodes by itself."
    return _Cause(facts, [again], "interrupted")


_STATES: dict[str, tuple[str, Callable[[RunFolder, RunState, str], Explanation] | None]] = {
    "NotStarted": ("has not been submitted", None),
    "Preparing": ("is being started", _waiting),
    "Queued": ("waits", _waiting),
    "Running": ("runs", _running),
    "Finalizing": ("is about to end", _running),
    "Completed": ("completed", None),
    "Failed": ("failed", _failed),
    "Canceled": ("was cancelled", _failed),
}
"""The words of a headline, and what says more."""

_SLURMS = {"TIMEOUT": _timeout, "OUT_OF_MEMORY": _out_of_memory, "NODE_FAIL": _node_failed}


def _figures(run: RunFolder) -> Figures:
    return Figures(run.read_record().get("cluster"))


def _directive(run: RunFolder, name: str) -> str:
    for component in run.plan["components"]:
        for key, value in component["directives"]:
            if key == name:
                return str(value)
    return ""


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _processes(number: int) -> str:
    return "1 process" if number == 1 else f"{number} processes"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
