"""The run folder: its layout, how one is made, and how one is found again."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hpctf.client.hpctf.artifacts import ARTIFACTS
from hpctf.client.hpctf.run_metrics import JOURNALS
from hpctf.client.hpctf.within import open_file
from hpctf.common.files import (
    CONFIDENTIAL,
    PRIVATE_FILE,
    PRIVATE_UMASK,
    cannot_write,
    follow_umask,
    make_folder,
    read_json,
    read_with,
    write_json,
)
from hpctf.common.folders import remove_tree
from hpctf.common.paths import without_tilde
from hpctf.common.secrets import confided, confided_values
from hpctf.common.terminal import visible
from hpctf.errors import RunNotFound, UsageError, shown
from hpctf.run_folder.documents import FORMAT, read_plan, read_record

read_with(open_file)

LAST = "@last"
STUDY = "study.json"
"""File of a study's run folder: what it varies, and how (`hpctf.tuning.study`)."""
SCORING = "score.json"
"""File of a scoring run's folder: what it scores (`hpctf.scoring.definition`)."""
TRIALS = "trials"
"""Folder of a study's run folder: the run folders of its trials."""
ARCHIVES = ".archive"
"""Folder of the runs root in which archived runs lie (`hpctf.runs.housekeeping.archives`)."""
_EXPERIMENT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
_OF_THE_JOB = ("job", "failed", "ports")
"""State files besides the ranks': the job's own record, who failed, the ports agreed on."""
_LONGEST_ROOT = 3000
"""What is below it has room within the 4,095 bytes of the longest path."""
_FIELD = re.compile("%[jtAa]")
"""What submitit puts the numbers of jobs and tasks in place of (its JobPaths)."""
_VARIABLE = re.compile(r"\$([A-Za-z_]\w*|\{[A-Za-z_]\w*\})", re.ASCII)
_FOLDERS = ("submitit", "logs", "state", "metrics", "outputs", "checkpoints")


class _Place:
    """A file or folder of a run, by its name there."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, run: RunFolder, owner: type[RunFolder]) -> Path:
        return run.path / self._name


@dataclass(frozen=True)
class RunFolder:
    """Where everything of a run lies (see the run folder in docs/run-folder.md)."""

    path: Path

    record_file = _Place("run.json")
    """What was asked, by whom, and the job's id."""
    plan_file = _Place("plan.json")
    """Everything that was to run."""
    script = _Place("job.sbatch")
    """The exact text submitted."""
    snapshot = _Place("snapshot")
    submitit = _Place("submitit")
    logs = _Place("logs")
    job_log = _Place("logs/job.log")
    """What the batch script prints."""
    build_log = _Place("logs/build.log")
    """How its environment was built, where a job of its own did it."""
    state = _Place("state")
    final = _Place("state/final.json")
    """The settled state, once it is settled."""
    energy = _Place("state/energy.json")
    """What its nodes used, where Slurm measures it and has been asked."""
    cancelled = _Place("state/cancel.json")
    """That, when and by whom cancelling was requested."""
    outputs = _Place("outputs")
    metrics = _Place(JOURNALS)
    """The ranks' journals of what was logged."""
    artifacts = _Place(ARTIFACTS)
    """Files that were uploaded under other names than ``outputs/...``."""
    checkpoints = _Place("checkpoints")
    """What outlives restarts; HPCTF_CHECKPOINT_DIR."""
    resumed = _Place("resumed")
    """A copy of the outputs of the run that this one goes on from."""

    @property
    def id(self) -> str:
        """The run's id: its folder's name, and its job's."""
        return self.path.name

    @property
    def root(self) -> Path:
        """The runs root that it lies under."""
        return self._of_experiment.parent.parent

    @property
    def experiment(self) -> str:
        """The name of the run's experiment."""
        return self._of_experiment.parent.name

    @property
    def is_study(self) -> bool:
        """Whether the run is a study, which has trials."""
        return (self.path / STUDY).is_file()

    @property
    def is_scoring(self) -> bool:
        """Whether the run scores rows, which its agents share out."""
        return (self.path / SCORING).is_file()

    @property
    def has_agents(self) -> bool:
        """Whether the run's jobs are agents that share its work, none of which ends it alone."""
        return self.is_study or self.is_scoring

    @property
    def study(self) -> RunFolder | None:
        """The study that this run is a trial of, if it is one."""
        above = RunFolder(self.path.parent.parent)
        return above if self.path.parent.name == TRIALS and above.is_study else None

    @property
    def _of_experiment(self) -> Path:
        """The folder in the experiment's: the run's own, or its study's."""
        study = self.study
        return self.path if study is None else study.path

    @cached_property
    def plan(self) -> dict[str, Any]:
        """The content of ``plan.json``, which never changes: read once."""
        return read_plan(self.path)

    @property
    def job_id(self) -> str | None:
        """Slurm's job id, of a het job the leader's; None before submission."""
        job_id = self.read_record().get("job_id")
        return None if job_id is None else str(job_id)

    def read_record(self) -> dict[str, Any]:
        """Return ``run.json`` (`hpctf.run_folder.documents.read_record`)."""
        return read_record(self.path)

    def read_plan(self) -> dict[str, Any]:
        """Return ``plan.json`` (`hpctf.run_folder.documents.read_plan`)."""
        return read_plan(self.path)

    def write_documents(self, plan: dict[str, Any], record: dict[str, Any]) -> None:
        """Write ``plan.json`` and ``run.json``, and what is confidential of them apart."""
        known = confided_values({"plan": plan, "record": record})
        documents = {
            self.plan_file: confided(plan, known),
            self.record_file: confided(record, known),
        }
        kept = {path.name: places for path, (_, places) in documents.items() if places}
        if kept:
            write_json(self.path / CONFIDENTIAL, kept, PRIVATE_FILE)
        for path, (document, _) in documents.items():
            write_json(path, {"format": FORMAT, **document})

    def make(self, ranks: list[tuple[str, int]], umask: int = PRIVATE_UMASK) -> list[Path]:
        """Make the folder and its rooms, with the permissions that `umask` leaves.

        The state files and journals are made now: on NFS, hosts see appends to a file that is
        there sooner than a new name.

        Returns
        -------
        list
            The folders above it that had to be made too, the innermost first; for `remove`.

        Raises
        ------
        RunFolderError
            The file system does not let it be made; nothing of it is left.
        """
        above = [folder for folder in self.path.parents if not os.path.lexists(folder)]
        try:
            for folder in reversed(above):
                with contextlib.suppress(FileExistsError):  # made by another submission meanwhile
                    make_folder(folder, umask)
            make_folder(self.path, umask)  # fails if somebody else has it
        except OSError as error:
            refusal = cannot_write(self.path, error)  # says what is free now
            _remove_empty(above)
            raise refusal from None
        try:
            for name in _FOLDERS:
                make_folder(self.path / name, umask)
            states = [*(f"{role}-{index}" for role, index in ranks), *_OF_THE_JOB]
            journals = [self.metrics / f"{role}-{index}.jsonl" for role, index in ranks]
            records = [self.state / f"{name}.jsonl" for name in states]
            for path in [*records, *journals, self.job_log]:
                path.touch()
                follow_umask(path, umask)
        except BaseException as error:
            cause = cannot_write(self.path, error) if isinstance(error, OSError) else error
            self.remove(above)
            raise cause from None
        return above

    def remove(self, above: Iterable[Path] = ()) -> None:
        """Remove the folder, and those above it that `make` made, if nothing else is in them."""
        with contextlib.suppress(OSError):
            remove_tree(self.path)
        _remove_empty(above)

    def update_record(self, **changes: Any) -> None:
        """Change keys of ``run.json``, atomically."""
        write_json(self.record_file, {**read_json(self.record_file), **changes}, shared=True)


def _remove_empty(folders: Iterable[Path]) -> None:
    with contextlib.suppress(OSError):  # the first that is not empty
        for folder in folders:
            folder.rmdir()


def check_name(what: str, name: str) -> str:
    """Return an experiment's or a run's name, or refuse it: folders and jobs are named so."""
    if not isinstance(name, str) or not _EXPERIMENT.fullmatch(name):
        raise UsageError(
            f"The {what}'s name is {shown(name)}, but must be of letters, digits, _ and -, begin "
            "with a letter or digit, and have 64 characters at most."
        )
    return name


def new_run_id(name: str) -> str:
    """Return an id nobody has: ``<name>_<milliseconds since the epoch>_<6 hex digits>``."""
    return f"{name}_{time.time_ns() // 1_000_000}_{os.urandom(3).hex()}"


def check_root(root: str, key: str = "runs_root") -> Path:
    """Return the runs root, or that of another of the site's keys, as an absolute path."""
    what = f"The {key.replace('_', ' ')}"
    ways = f"another one: HPCTF_{key.upper()}, or {key} in the site file."
    named = [name.strip("{}") for name in _VARIABLE.findall(root)]
    unset = [name for name in named if name not in os.environ]
    if unset:
        raise UsageError(
            f"{what} is {shown(root)}, but ${unset[0]} is not set here.",
            f"Set it, or choose {ways}",
        )
    path = Path(os.path.abspath(without_tilde(what, root)))
    text = str(path)
    problem = ""
    if visible(text) != text or "\n" in text:
        problem = "it holds a character that does not show, or a byte that is not UTF-8"
    elif field := _FIELD.search(text):
        problem = f"submitit, which keeps results in it, takes {field[0]} for a job's or task's id"
    elif len(os.fsencode(text)) > _LONGEST_ROOT:
        problem = f"it has more than {_LONGEST_ROOT} bytes, and what is below it needs the rest"
    if problem:
        raise UsageError(f"{what} {shown(text)} cannot be used: {problem}.", f"Choose {ways}")
    return path


def run_folders(root: Path, experiment: str | None = None) -> Iterator[RunFolder]:
    """Yield the runs under a root, the latest first."""
    experiments = [root / experiment] if experiment else _subfolders(root)
    runs = [path for folder in experiments for path in _subfolders(folder)]
    for path in sorted(runs, key=_age, reverse=True):
        if _is_run(path):
            yield RunFolder(path)


def experiment_names(root: Path) -> list[str]:
    """Return the names of the experiments under a root, sorted."""
    names = [path.name for path in _subfolders(root)]
    return sorted(name for name in names if _EXPERIMENT.match(name))


def _is_run(path: Path) -> bool:
    """Whether a folder is a run's; not so where it is somebody else's who lets nobody read it."""
    if os.access(path / "run.json", os.R_OK):
        return True
    try:
        mine = path.stat().st_uid == os.geteuid()
    except OSError:
        return False
    return mine and os.path.lexists(path / "run.json")  # its owner sees what is wrong with it


def find_runs(root: Path, names: Iterable[str]) -> list[RunFolder]:
    """Return the runs that names stand for, as `find_run` does, looking once what runs there are.

    Raises
    ------
    RunNotFound
        A name is no run's, or that of several.
    """
    known = list(run_folders(root))
    ids = Counter(run.id for run in known)
    by_id = {run.id: run for run in known if ids[run.id] == 1}
    return [by_id.get(name) or find_run(root, name, known) for name in names]


def find_run(root: Path, name: str, known: Iterable[RunFolder] | None = None) -> RunFolder:
    """Return the run that `name` stands for: an id, a unique prefix of one, or ``@last``.

    `known` are the runs under the root, the latest first; they are looked for unless given.

    Raises
    ------
    RunNotFound
        None has it, or more than one.
    """
    known = run_folders(root) if known is None else known
    if name == LAST:
        latest = next(iter(known), None)
        if latest is None:
            raise RunNotFound(
                f"There are no runs under {root}.",
                "Submit one (hpctf submit), or set HPCTF_RUNS_ROOT to the folder that "
                "holds your runs.",
            )
        return latest
    found: RunFolder | None = only_one(known, name, "runs")
    if found is not None:
        return found
    trial = _find_trial(root, name)
    if trial is not None:
        return trial
    hint = "'hpctf runs' lists them; HPCTF_RUNS_ROOT names another root."
    if name and any(path.name.startswith(name) for path in root.glob(f"{ARCHIVES}/*/*")):
        hint = f"It is archived: hpctf archive --restore {name}"
    raise RunNotFound(f"There is no run {name!r} under {root}.", hint)


def _find_trial(root: Path, name: str) -> RunFolder | None:
    """Return the trial of a study that has this id: the study's id, ``_``, and its number."""
    study, _, number = name.rpartition("_")
    if not number.isdecimal() or os.sep in study:
        return None
    for experiment in experiment_names(root):
        trial = RunFolder(root / experiment / study / TRIALS / name)
        if trial.study is not None and _is_run(trial.path):
            return trial
    return None


def only_one(known: Iterable[Any], name: str, what: str) -> Any:
    """Return what has that id, or is alone in having one that begins so; None if nothing does.

    Raises
    ------
    RunNotFound
        More than one does; `what` they are is told.
    """
    matching = [one for one in known if one.id.startswith(name)] if name else []
    exact = [one for one in matching if one.id == name] or matching
    if len(exact) > 1:
        some = ", ".join(one.id for one in matching[:3])
        raise RunNotFound(
            f"{len(matching)} {what} begin with {name!r}: {some} ...", "Give more of the id."
        )
    return exact[0] if exact else None


def _subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder; hidden ones are no runs, but archives and what goes."""
    try:
        with os.scandir(folder) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir()
            ]
    except OSError:
        return []


def _age(path: Path) -> tuple[int, str]:
    """Return what orders runs in time: the milliseconds in their ids."""
    parts = path.name.rsplit("_", 2)
    return (int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else 0), path.name
