"""Where a run comes from: what was asked, its code and what git says of it, for the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hpctf.common.files import read_json, write_atomic, write_json
from hpctf.errors import UnreadableRun
from hpctf.estimator.request import as_json, request_of
from hpctf.source.git import git_state
from hpctf.source.snapshot import contents, take_snapshot

if TYPE_CHECKING:
    from hpctf.environment.spec import EnvironmentSpec
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.plan import Plan
    from hpctf.run_folder.layout import RunFolder

DIFF = "code.diff"
"""File of a run folder: how the source folder differed from its commit."""

CONTENTS = "snapshot.json"
"""File of a run folder: what was in the snapshot before the training began."""


@dataclass(frozen=True)
class Origin:
    """What a run's record keeps of where it comes from.

    Parameters
    ----------
    request
        What was asked (`hpctf.estimator.request.request_of`), of which site, with which tags.
    parameters
        What the script or function was called with (`parameters_of`).
    source_directory
        The folder that the code came from at first.
    git, diff
        What git said of that folder, and how it differed from its commit.
    resubmitted_from
        The run that this one repeats.
    names
        Of the snapshot that is repeated, what goes along; None: all that goes with a run.
    spec
        The environment of the run that is repeated, if hpctf builds it.
    """

    request: dict[str, Any]
    parameters: dict[str, Any]
    source_directory: str | None
    git: dict[str, Any] | None = None
    diff: bytes = b""
    resubmitted_from: str | None = None
    names: frozenset[str] | None = None
    spec: EnvironmentSpec | None = None

    def record(self, plan: Plan) -> dict[str, Any]:
        """Return its part of ``run.json``: earlier runs by their whole ids."""
        inputs = {one.name: str(one) for one in plan.handovers}
        staged = self.request.get("stage") or {}
        request = {
            **self.request,
            "resume_from": plan.resumes,
            "after": [f"{one.run}:{one.when}" for one in plan.after],
            "inputs": {**(self.request.get("inputs") or {}), **inputs},
            "stage": {**staged, **{name: inputs[name] for name in staged.keys() & inputs.keys()}},
        }
        return {
            "source_directory": self.source_directory,
            "git_commit": None if self.git is None else self.git["commit"],
            "git": self.git,
            "request": request,
            "parameters": self.parameters,
            "resubmitted_from": self.resubmitted_from,
        }

    def keep(self, folder: RunFolder, estimator: TensorFlow, most_mb: int, umask: int) -> None:
        """Copy the code into a run folder, and write down what there is of it."""
        if self.diff:
            write_atomic(folder.path / DIFF, self.diff)
        source = estimator.source_directory
        assert source is not None
        script = estimator.entry_script
        take_snapshot(source, folder.snapshot, most_mb, script, umask, names=self.names)
        write_json(folder.path / CONTENTS, contents(folder.snapshot))


def origins_of(estimators: Sequence[TensorFlow], more: Mapping[str, Any]) -> list[Origin]:
    """Return where runs come from that are new; each source folder is asked about once.

    `more` is what else was asked: how the site was named (`ChosenSite.as_json`), tags, properties.
    """
    sources = {estimator.source_directory for estimator in estimators}
    known = {source: git_state(source) for source in sources}
    made = []
    for estimator in estimators:
        source = estimator.source_directory
        state, diff = known[source]
        request = {**request_of(estimator), **as_json(more)}
        folder = None if source is None else str(source)
        git = None if state is None else asdict(state)
        made.append(Origin(request, parameters_of(estimator), folder, git, diff))
    return made


def snapshot_contents(folder: RunFolder) -> dict[str, Any]:
    """Return what was in a run's snapshot before the training began, by name."""
    try:
        known = read_json(folder.path / CONTENTS)
    except ValueError:
        known = None
    if not isinstance(known, dict):
        raise UnreadableRun(str(folder.path), CONTENTS, "it is damaged, or not a file of hpctf's")
    return known


def parameters_of(estimator: TensorFlow) -> dict[str, Any]:
    """Return a script's options, or a function's arguments, as JSON has them.

    A bare flag is True; arguments without an option are ``arg1``, ``arg2`` and so on; what JSON
    cannot hold is named by its `repr`.
    """
    if isinstance(estimator.arguments, dict):
        return {name: _plain(value) for name, value in estimator.arguments.items()}
    return _of_words(estimator.command_line())


def _of_words(words: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    flag = ""
    alone = 0
    for word in words:
        name, equals, value = word.partition("=")
        if _is_option(word):
            flag = name.lstrip("-")
            found[flag] = _number(value) if equals else True
            flag = "" if equals else flag
        elif flag:
            before = found[flag]
            value_now = _number(word)
            found[flag] = value_now if before is True else f"{before} {word}"
        else:
            alone += 1
            found[f"arg{alone}"] = _number(word)
    return found


def _is_option(word: str) -> bool:
    """Whether a word names an option: ``-1e-3`` does not."""
    return word.startswith("-") and len(word) > 1 and isinstance(_number(word), str)


def _number(word: str) -> Any:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)[:500]
