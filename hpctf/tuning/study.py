"""A study: a run whose ranks are agents, and whose trials are run folders within its own.

``study.json`` says what is varied, and how; ``trials.jsonl`` holds the parameters of every trial
where they were drawn before the first one; the ledger tells what has become of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from hpctf.agents.ledger import LEDGER
from hpctf.agents.process import heartbeat_file
from hpctf.common.files import make_folder, read_records, write_atomic, write_json
from hpctf.common.forms import FormError, checked
from hpctf.common.paths import NODE_START
from hpctf.errors import UnreadableRun, UsageError
from hpctf.plan import Plan
from hpctf.run_folder.documents import FORMAT
from hpctf.run_folder.layout import STUDY, TRIALS, RunFolder
from hpctf.tuning.goals import PrimaryMetricGoal
from hpctf.tuning.ledger import Ledger
from hpctf.tuning.policies import EarlyTerminationPolicy, policy_from_json
from hpctf.tuning.sampling import HyperParameterSampling, sampling_from_record

DRAWN = "trials.jsonl"
TRIAL = "trial"
"""Folder with the plan of a trial, where each is a job of its own: the study's own plan is that of
its driver's job."""
JOURNAL = "search.log"
"""Optuna's journal of the study, where the next trial depends on earlier ones."""


Runner = Literal["agents", "driver"]


@dataclass(frozen=True)
class Definition:
    """``study.json``.

    Parameters
    ----------
    sampling, policy
        As `HyperParameterSampling.as_record` and `EarlyTerminationPolicy.to_json` have them.
    metric, goal
        The primary metric's name, and ``maximize`` or ``minimize``.
    total
        The largest number of trials.
    parallel
        How many run at a time.
    seed
        From which, and a trial's number, its parameters are drawn.
    max_duration_s
        Seconds from the first trial's start after which trials that still run are cancelled.
    trial_timeout_s
        Seconds after which a trial is ended; None is none.
    per_job
        How many agents share a job.
    runner
        ``agents``, which take trials, or ``driver``, which makes a job of each.
    """

    sampling: dict[str, Any]
    policy: dict[str, Any]
    metric: str
    goal: str
    total: int
    parallel: int
    seed: int = 0
    max_duration_s: int = 604_800
    trial_timeout_s: int | None = None
    per_job: int = 1
    runner: Runner = "agents"
    resume_from: list[Any] = field(default_factory=list)
    resume_child_runs: list[Any] = field(default_factory=list)
    format: int = FORMAT

    @property
    def primary_goal(self) -> PrimaryMetricGoal:
        return PrimaryMetricGoal.from_str(self.goal)

    @property
    def goals(self) -> dict[str, PrimaryMetricGoal]:
        """Every metric that counts, the primary one first, with its goal."""
        return {self.metric: self.primary_goal, **self.parameter_sampling.objectives}

    @property
    def early_termination(self) -> EarlyTerminationPolicy:
        return policy_from_json(self.policy)

    @property
    def parameter_sampling(self) -> HyperParameterSampling:
        return sampling_from_record(self.sampling)


class Study:
    """A study, by its run folder.

    Raises
    ------
    UsageError
        The run is not a study.
    UnreadableRun
        ``study.json`` is damaged, or a newer hpctf's.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        if not folder.is_study:
            above = folder.study
            if above is None:
                words, hint = "not a study", "'hpctf runs' lists runs and studies."
            else:
                words, hint = f"a trial of study {above.id}, not a study", f"Name it: {above.id}"
            raise UsageError(f"Run {folder.id} is {words}.", hint)
        self.definition = _read(folder)
        self.ledger = Ledger(
            folder.path / LEDGER, self.definition.primary_goal, self.definition.total
        )

    @property
    def id(self) -> str:
        """Its run's id."""
        return self.folder.id

    @cached_property
    def drawn(self) -> list[dict[str, Any]]:
        """The parameters of every trial that was drawn before the first one, by number."""
        return [record["parameters"] for record in read_records(self.folder.path / DRAWN)]

    @property
    def is_driven(self) -> bool:
        """Whether each trial is a job of its own, which a driver submits."""
        return self.definition.runner == "driver"

    @cached_property
    def trial_plan(self) -> dict[str, Any]:
        """The plan of a trial, but for what is the trial's own."""
        if self.is_driven:
            plan = dict(RunFolder(self.folder.path / TRIAL).plan)
        else:
            plan = dict(self.folder.plan)
            plan["roles"] = [{**plan["roles"][0], "count": 1}]
            plan["launch"] = {**plan["launch"], "start": NODE_START}
        plan.pop("format", None)
        return plan

    def trial_id(self, number: int) -> str:
        """Return the id of a trial's run."""
        return f"{self.id}_{number}"

    def trial(self, number: int) -> RunFolder:
        """Return the run folder of a trial, which is there once the trial has begun."""
        return RunFolder(self.folder.path / TRIALS / self.trial_id(number))

    def parameters_of(self, number: int) -> dict[str, Any]:
        """Return a trial's parameters."""
        if number < len(self.drawn):
            return self.drawn[number]
        entry = self.ledger.progress.trials.get(number)
        return {} if entry is None else entry.parameters

    def heartbeat_file(self, agent: int) -> Path:
        """Return the state file of an agent, whose time stamp says when it was last alive."""
        return heartbeat_file(self.folder, agent)


def write_study(
    folder: RunFolder,
    definition: Definition,
    drawn: list[dict[str, Any]] | None,
    trial_plan: Plan | None = None,
) -> None:
    """Write ``study.json``, the trials if they are known, and a trial's plan if each is a job."""
    if trial_plan is not None:
        place = RunFolder(folder.path / TRIAL)
        make_folder(place.path, int(trial_plan.umask, 8))
        place.write_documents(json.loads(trial_plan.to_json()), {"id": folder.id})
    write_json(folder.path / STUDY, asdict(definition), shared=True)
    if drawn is not None:
        records = [{"trial": n, "parameters": parameters} for n, parameters in enumerate(drawn)]
        lines = [json.dumps(record, separators=(",", ":")) + "\n" for record in records]
        write_atomic(folder.path / DRAWN, "".join(lines), shared=True)


def arguments_of(parameters: Mapping[str, Any]) -> list[str]:
    """Return parameters as the words of a command line: ``--lr 0.01``.

    A name that begins with a dash stands as it is. Lists and mappings are JSON.
    """
    words = []
    for name, value in parameters.items():
        words.append(name if name.startswith("-") else f"--{name}")
        is_nested = isinstance(value, (list, tuple, dict))
        words.append(json.dumps(value) if is_nested else str(value))
    return words


def _read(folder: RunFolder) -> Definition:
    path = folder.path / STUDY
    try:
        with open(path, encoding="utf-8") as stream:
            document = json.load(stream)
        found = checked(document, Definition)
        known = {name: found[name] for name in Definition.__dataclass_fields__}
        return Definition(**known)
    except OSError as error:
        wrong = f"it cannot be opened: {error.strerror or error}"
    except FormError as error:
        wrong = f"{error}: it is damaged, or not a file of hpctf's"
    except ValueError:
        wrong = "it is not a whole JSON document"
    raise UnreadableRun(os.fspath(folder.path), STUDY, wrong)
