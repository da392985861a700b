"""What a study takes over from earlier ones: results that teach it, and trials that go on in it.

The results are copied into the study's folder when it is submitted, so that it does not depend on
the earlier studies any more. A trial that goes on is copied on the node, when it starts.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from hpctf.common.files import read_records, write_atomic
from hpctf.errors import UsageError
from hpctf.estimator.script_options import takes_option
from hpctf.estimator.tensorflow import TensorFlow
from hpctf.run_folder.layout import RunFolder
from hpctf.runs.checkpoints import OPTION
from hpctf.tracking.metrics import Reading
from hpctf.tuning.distributions import identity
from hpctf.tuning.histories import Histories
from hpctf.tuning.policies import NoTerminationPolicy
from hpctf.tuning.study import Study

if TYPE_CHECKING:
    from hpctf.tuning.config import HyperDriveConfig
    from hpctf.tuning.sampling import HyperParameterSampling

EARLIER = "earlier.jsonl"
"""What the trials of earlier studies have shown, a trial a line."""

Values = list[tuple[int | None, float]]
"""Steps and values of the primary metric."""


@dataclass(frozen=True)
class EarlierTrial:
    """A trial of an earlier study that has ended with a value.

    Parameters
    ----------
    id, study, number
        Its run's, its study's, and its place there.
    state
        One of `hpctf.tuning.progress.OVER`.
    best
        The best of all its values.
    values
        All of them, where a policy compares trials by them.
    """

    id: str
    study: str
    number: int
    state: str
    best: float
    parameters: dict[str, Any]
    values: Values


class GoesOn(NamedTuple):
    """A trial of an earlier study that goes on as one of this study.

    Parameters
    ----------
    id, study, folder
        Its run's, its study's, and where its run lies.
    takes_outputs
        Whether the script takes ``--resume-from``, and so gets a copy of its outputs.
    parameters
        Its own.
    """

    id: str
    study: str
    folder: str
    takes_outputs: bool
    parameters: dict[str, Any]


def results_of(study: Study, *, with_values: bool) -> Iterator[EarlierTrial]:
    """Yield what the trials of a study have shown that have ended with a value.

    Parameters
    ----------
    with_values
        Whether all values are needed, not the best alone. The ledger of a study without a policy
        may lack some, so they are read from what the trials have logged.
    """
    progress = study.ledger.refresh()
    for number, trial in sorted(progress.trials.items()):
        if trial.is_over and trial.best is not None:
            yield EarlierTrial(
                id=study.trial_id(number),
                study=study.id,
                number=number,
                state=trial.state,
                best=trial.best,
                parameters=study.parameters_of(number),
                values=_values(study.trial(number), study.definition.metric) if with_values else [],
            )


def write_results(study: Study, earlier: Sequence[RunFolder]) -> list[EarlierTrial]:
    """Copy the results of earlier studies into a study's folder, and return them."""
    definition = study.definition
    prunes = definition.parameter_sampling.search_pruner != "none"
    with_values = prunes or not isinstance(definition.early_termination, NoTerminationPolicy)
    found = [
        trial for folder in earlier for trial in results_of(Study(folder), with_values=with_values)
    ]
    lines = [json.dumps(asdict(trial), separators=(",", ":")) + "\n" for trial in found]
    write_atomic(study.folder.path / EARLIER, "".join(lines), shared=True)
    return found


def read_results(study: Study) -> list[EarlierTrial]:
    """Return the results of earlier studies that a study has."""
    if not study.definition.resume_from:
        return []
    return [EarlierTrial(**record) for record in read_records(study.folder.path / EARLIER)]


def compare_with(histories: Histories, earlier: Sequence[EarlierTrial]) -> None:
    """Let a study's policy compare its trials with those of earlier studies, too."""
    for trial in earlier:
        for step, value in trial.values:
            histories.add(trial.id, value, step)


def going_on(config: HyperDriveConfig) -> list[GoesOn]:
    """Return the trials of earlier studies that go on as the first ones of a study.

    Raises
    ------
    UsageError
        One of them is not in the folder of a study any more.
    """
    what = config.estimator if config.estimator is not None else config.run_config
    takes_outputs = isinstance(what, TensorFlow) and takes_option(what, OPTION)
    found = []
    for run in config.resume_child_runs:
        folder = run.folder
        above = folder.study
        if above is None:
            raise UsageError(
                f"resume_child_runs has {run.id}, which is not a study's trial.",
                "hpctf tune status STUDY lists the trials.",
            )
        study = Study(above)
        study.ledger.refresh()
        parameters = study.parameters_of(int(folder.read_record()["trial"]))
        found.append(GoesOn(run.id, above.id, str(folder.path), takes_outputs, parameters))
    return found


def drawn_ahead(
    sampling: HyperParameterSampling, seed: int, most: int, given: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the parameters of a study's trials: those that are given come first, and in a space
    with an end nothing is tried twice."""
    trials = sampling.trials(seed)
    if sampling.size is not None:
        known = {identity(parameters) for parameters in given}
        trials = (drawn for drawn in trials if identity(drawn) not in known)
    return [*given, *itertools.islice(trials, most - len(given))]


def _values(trial: RunFolder, metric: str) -> Values:
    """Return what a trial has logged of a metric; nothing if its folder is gone."""
    series = Reading(trial.path).series().get(metric)
    if series is None or series.kind != "value":
        return []
    pairs = zip(series.steps, series.values, strict=True)
    return [(step, float(value)) for step, value in pairs if isinstance(value, (int, float))]
