"""Removing runs: never one that is not over, that another one uses, or that is somebody else's.

A run leaves in two steps: its folder is renamed to a hidden name, so that nobody finds half a run,
and then removed. Whoever is interrupted in between leaves the hidden folder, and the next removal
finishes it.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpctf.common.folders import remove_tree
from hpctf.errors import RunFolderError, UnreadableRun, UsageError
from hpctf.run_folder.documents import read_final
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.ownership import owner_of
from hpctf.run_folder.rank_states import JOB_STATE, read_job
from hpctf.runs.housekeeping.dependents import users_of
from hpctf.runs.housekeeping.disk_usage import Usage, usage
from hpctf.runs.search.selection import Choice, choose
from hpctf.runs.status.listing import Listed, list_runs, listed
from hpctf.runs.status.query import queued_again, running_trials

REMOVING = ".removing-"
"""What the name of a folder begins with that is being removed."""

ASK_AGAIN_S = 86400.0
"""Seconds since a run was settled in which a job that has ended may be in the queue again.
slurmctld forgets a job MinJobAge after its end, 5 minutes by default (slurm.conf(5)), and then none
can be requeued."""

_LIST_AGAIN_S = (60.0, 20)
"""Shortest time between two listings of all runs, and how often as long as one took."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Proposal:
    """What would go, the largest first, and why others of what was chosen must stay, by id."""

    going: tuple[Usage, ...]
    staying: dict[str, str]

    @property
    def folders(self) -> list[RunFolder]:
        """The run folders of what would go."""
        return [one.run.folder for one in self.going]

    @property
    def size(self) -> int:
        """Bytes on the disk of all that would go."""
        return sum(one.sizes.total for one in self.going)

    @property
    def links(self) -> list[tuple[Path, Path]]:
        """Rooms that lie elsewhere, and where: these links would go, and what they lead to stay."""
        rooms = [path for folder in self.folders for path in sorted(folder.path.iterdir())]
        return [(path, path.readlink()) for path in rooms if path.is_symlink() and path.is_dir()]


def propose(root: Path, choice: Choice, finished: Sequence[str] = ()) -> Proposal:
    """Return which of the chosen runs may go; nothing is touched. What `finish_removals` has just
    returned is `finished`: no more to be looked for by name.

    Raises
    ------
    UsageError
        Nothing says which, or a run that was named must stay.
    """
    names = tuple(n for n in choice.names if not any(gone.startswith(n) for gone in finished))
    if finished and not names and (choice.names or choice.all):
        return Proposal((), {})
    if choice.all:
        raise UsageError(
            "Nothing says which runs are meant.",
            "Name them, or pass --experiment, --state, --older-than 30d or --larger-than 5GB.",
        )
    chosen = choose(root, replace(choice, names=names))
    staying = reasons_to_stay(root, [run.folder for run in chosen])
    if choice.names:
        refuse(staying)
    else:  # who names no run means none that cannot be looked at
        wrong = {run.id: _damage(run) for run in chosen}
        unnamed = "it cannot be read ({}); name it to have it removed or archived"
        staying = {id_: unnamed.format(what) for id_, what in wrong.items() if what} | staying
    return Proposal(tuple(usage(run for run in chosen if run.id not in staying)), staying)


def reasons_to_stay(root: Path, folders: Iterable[RunFolder]) -> dict[str, str]:
    """Return why runs of a root, where others may use them, must not be touched, by id; those that
    may are not in it."""
    return _reasons(list(folders), list_runs(root))


def _reasons(wanted: Sequence[RunFolder], known: Sequence[Listed]) -> dict[str, str]:
    """Return why runs must not be touched, where these are all that may use them."""
    by_path = {run.folder.path: run for run in known}
    chosen = [by_path[one.path] for one in wanted if one.path in by_path]
    chosen += listed(one for one in wanted if one.path not in by_path)  # of another spelling
    found = {run.folder.path for run in chosen}
    reasons = {one.id: "it is gone" for one in wanted if one.path not in found}
    reasons |= {run.id: reason for run in chosen if (reason := _stays(run))}
    over = [run for run in chosen if run.id not in reasons]
    asked = [run for run in over if _may_be_queued(run) and not _damage(run)]
    reasons |= queued_again(run.folder for run in asked)
    studies = [run.folder for run in over if run.folder.is_study]
    reasons |= {one.id: reason for one in studies if (reason := running_trials(one))}
    for path, users in users_of((run.folder.path for run in over), known).items():
        if users:
            reasons[path.name] = f"run {users[0]} uses it, which is not over"
    return reasons


class Guard:
    """Holds runs that are dealt with one by one: `UsageError` says that one of them must stay.

    Of each run its own state is looked at again. All runs are listed again, for those that have
    begun to use it, once a minute at the most, and that takes a twentieth of the time at the most.
    """

    def __init__(self, root: Path, folders: Iterable[RunFolder]) -> None:
        self._root = root
        self._left = {folder.path: folder for folder in folders}
        self._list_at = 0.0
        self._look(list(self._left.values()))

    def check(self, folder: RunFolder) -> None:
        """Raise `UsageError` if a run must stay; else it may go now, and is not looked at again."""
        self._look([folder])
        self._left.pop(folder.path, None)

    def _look(self, folders: list[RunFolder]) -> None:
        began = time.monotonic()
        if began < self._list_at:
            refuse(_reasons(folders, listed(folders)))
            return
        refuse(_reasons(list(self._left.values()), list_runs(self._root)))
        took = time.monotonic() - began
        self._list_at = began + max(_LIST_AGAIN_S[0], _LIST_AGAIN_S[1] * took)


def remove(root: Path, folders: Sequence[RunFolder], tell: Tell | None = None) -> list[str]:
    """Remove runs and all that is in their folders; return their ids. `tell` gets each that has
    gone.

    What links in them lead to stays.

    Raises
    ------
    UsageError
        One of them must stay: nothing was touched.
    RunFolderError
        The file system refused some; all others are gone.
    """
    refuse(reasons_to_stay(root, folders))
    return _each([folder.path for folder in folders], take_away, tell)


def finish_removals(root: Path, tell: Tell | None = None) -> list[str]:
    """Remove what interrupted removals have left under a root; return the runs' ids."""
    left = [path for path in root.glob(f"*/{REMOVING}*") if path.lstat().st_uid == os.geteuid()]
    return _each(left, _remove_tree, tell)


def refuse(reasons: Mapping[str, str]) -> None:
    """Raise `UsageError` with each run that must stay and why, if there are any."""
    if not reasons:
        return
    lines = [f"Run {run_id} must stay: {reason}." for run_id, reason in reasons.items()]
    raise UsageError("\n".join(lines), "Nothing was touched. 'hpctf cancel' ends what is not over.")


def take_away(folder: Path) -> None:
    """Remove a run folder: at once for those who look for it, then from the disk.

    Raises
    ------
    RunFolderError
        The file system refused; what is left, if anything, has a hidden name.
    """
    hidden = folder.with_name(f"{REMOVING}{folder.name}")
    _remove_tree(hidden)
    try:
        os.rename(folder, hidden)
    except FileNotFoundError:
        return  # somebody else has removed it meanwhile
    except OSError as error:
        raise RunFolderError(
            f"Run {folder.name} cannot be removed: {str(folder)!r}: {error.strerror}.",
            f"You must be allowed to write {str(folder.parent)!r}.",
        ) from None
    _remove_tree(hidden)


def _stays(run: Listed) -> str:
    """Return why a run must stay, as far as its own folder and its state tell; empty if it may go.

    Root is no exception from whose it is: it is too easily root by chance.
    """
    path = run.folder.path
    if path.is_symlink():
        return f"its folder is a link to {str(path.resolve())!r}"
    owner = owner_of(path)
    if owner is not None:
        return f"it belongs to {owner}"
    damage = _damage(run)
    if damage and not _ended_long_ago(run.folder):
        return (
            f"it cannot be read ({damage}), so whether its job still runs is not known. Once you "
            "are sure that it does not (squeue --me), remove its folder: rm -r "
            f"{shlex.quote(str(path))}"
        )
    if damage or run.final:
        return ""
    if run.away:
        return f"whether it is over is not known: the scheduler could not be asked: {run.away}"
    return f"it is {run.state}"


def _damage(run: Listed) -> str:
    """Return what is wrong with a run's documents; empty if nothing is.

    A listing looks at ``state/final.json`` alone, where a run has one.
    """
    try:
        run.folder.read_record()
        run.folder.read_plan()
    except UnreadableRun as error:
        return f"{error.file}: {error.reason}"
    return ""


def _ended_long_ago(folder: RunFolder) -> bool:
    """Whether a run that cannot be read is over all the same, and its job cannot be started again:
    its final state was kept long ago, or its job's own last word."""
    if read_final(folder.path) is not None:
        last = folder.final
    elif read_job(folder.path).exit_code is not None:
        last = folder.state / JOB_STATE
    else:
        return False
    return time.time() - last.stat().st_mtime > ASK_AGAIN_S


def _may_be_queued(run: Listed) -> bool:
    """Whether a run that is over may have its job in the queue: begun again, or never ended.

    One that has left no record of its own end was called over by others, and is asked about
    however long ago that was.
    """
    try:
        lately = time.time() - run.folder.final.stat().st_mtime < ASK_AGAIN_S
    except FileNotFoundError:
        return True  # final by its own word, while the scheduler is away
    return lately or read_job(run.folder.path).exit_code is None


def _each(paths: Iterable[Path], act: Callable[[Path], None], tell: Tell | None) -> list[str]:
    """Do something with each folder; what fails for one is told once the others are done."""
    done, failures = [], []
    for path in paths:
        try:
            act(path)
        except RunFolderError as error:
            failures.append(error)
            continue
        done.append(path.name.removeprefix(REMOVING))
        if tell is not None:
            tell(done[-1])
    if failures:
        raise RunFolderError("\n".join(error.message for error in failures), failures[0].hint)
    return done


def _remove_tree(folder: Path) -> None:
    try:
        remove_tree(folder)
    except OSError as error:
        name = folder.name.removeprefix(REMOVING)
        raise RunFolderError(
            f"Run {name} cannot be removed: {str(error.filename)!r}: {error.strerror}.",
            f"The rest is in {str(folder)!r}; 'hpctf runs --rm {name}' completes the removal.",
        ) from None
