"""A study as the command line shows it: its state, its best trial, and a row for each trial."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hpctf.runs.status.query import look
from hpctf.runs.status.state import RunState
from hpctf.tuning.objectives import front
from hpctf.tuning.progress import OVER, Entry
from hpctf.tuning.study import Study

WORDS = {"stopped": "stopped early", "canceled": "cancelled", "waiting": "handed back"}
"""A trial's state in words, where the ledger's own is not one."""


def overview(study: Study, status: RunState | None = None) -> dict[str, Any]:
    """Return what is known of a study, ready for JSON: one file is read, and Slurm is asked once,
    unless its `status` is given.

    A trial that the ledger has as running in a study that is over was lost: its agent died, and
    nobody has taken it over.
    """
    status = status or look(study.folder)
    progress = study.ledger.refresh()
    definition = study.definition
    trials = [row_of(study, progress.trials[number]) for number in sorted(progress.trials)]
    if status.final:
        for row in trials:
            if row["state"] not in OVER:
                row["state"] = "lost"
                who = "driver" if study.is_driven else "agent"
                row["reason"] = f"its {who} ended before it; hpctf tune resume {study.id}"
    best = progress.best()
    counts = Counter(row["state"] for row in trials)
    return {
        "id": study.id,
        "experiment": study.folder.experiment,
        "state": status.state,
        "reason": status.reason or progress.stopped,
        "away": status.away,
        "job_id": study.folder.job_id,
        "metric": definition.metric,
        "goal": definition.goal,
        "total": definition.total,
        "parallel": progress.most or definition.parallel,
        "counts": {**counts, "not started": definition.total - len(trials)},
        "best": None if best is None else row_of(study, best),
        "objectives": {name: goal.name.lower() for name, goal in definition.goals.items()},
        "front": front(trials, definition.goals) if len(definition.goals) > 1 else [],
        "trials": trials,
        "run_folder": str(study.folder.path),
    }


def row_of(study: Study, trial: Entry) -> dict[str, Any]:
    """Return what is known of one trial."""
    return {
        "trial": trial.number,
        "id": study.trial_id(trial.number),
        "state": trial.stage,
        "value": trial.best,
        "last": trial.last,
        "values": trial.count,
        "attempt": trial.attempt,
        "host": trial.host,
        "job_id": trial.job_id,
        "claimed": trial.claimed,
        "ended": trial.ended,
        "reason": trial.reason,
        "parameters": study.parameters_of(trial.number),
        "objectives": trial.objectives,
    }


def why_failed(study: Study) -> list[str]:
    """Return a line for each reason for which trials failed, the most frequent first."""
    progress = study.ledger.refresh()
    by_reason: dict[str, list[int]] = {}
    for number in sorted(progress.trials):
        trial = progress.trials[number]
        if trial.state == "failed":
            by_reason.setdefault(trial.reason, []).append(number)
    lines = []
    for reason, numbers in sorted(by_reason.items(), key=lambda pair: -len(pair[1])):
        which = f"Trial {numbers[0]}"
        if len(numbers) > 1:
            which = f"{len(numbers)} trials, the first of them {numbers[0]},"
        lines.append(f"{which} failed: {reason} (hpctf why {study.trial_id(numbers[0])})")
    return lines


def in_words(found: dict[str, Any]) -> str:
    """Return ``Running: 3 completed, 2 stopped early, 4 running, 11 not started``."""
    counts = [f"{n} {WORDS.get(state, state)}" for state, n in found["counts"].items() if n]
    return f"{found['state']}: {', '.join(counts)}"
