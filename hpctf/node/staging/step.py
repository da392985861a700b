"""The step that makes a node's copies of a run's data: ``start.py stage RUN_FOLDER``, once on each
node before the ranks start; and the one that removes them, ``start.py unstage RUN_FOLDER``."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from hpctf.common.files import append_record
from hpctf.common.folders import shared_kind
from hpctf.common.locks import locked
from hpctf.errors import HpctfError, StagingError, shown
from hpctf.node.completion import attempt_of
from hpctf.node.messages import say
from hpctf.node.signals import AskedToEnd, Signals, number_of
from hpctf.node.staging.area import Area, Held, NoPlace, remove_tree, root_of
from hpctf.node.staging.barrier import Barrier
from hpctf.node.staging.copying import NO_ROOM, Copier
from hpctf.node.staging.sources import Source, look
from hpctf.run_folder.documents import read_plan
from hpctf.run_folder.node_states import node_file
from hpctf.run_folder.rank_states import SIGNAL_BASE

_LOCK = "lock"
_WAIT_S = 0.2
_TELL_S = 30.0
"""Seconds between two records of how much has been copied."""
_LINGER_S = 10.0
"""Seconds that ranks have to end whose step is over, as their launcher says."""


def stage(run_folder: str) -> int:
    """Make this node's copies, put on record where they are, and return the exit status.

    A signal, or anything that fails, leaves none of them.
    """
    plan = read_plan(run_folder)
    os.umask(int(plan["umask"], 8))
    signals = Signals(number_of(plan["interruption"]["signal"]))
    node = _Node(run_folder, plan)
    try:
        node.stage()
        node.await_others()
    except AskedToEnd as asked:
        signals.raises = False
        node.clear()
        return SIGNAL_BASE + asked.number
    except (HpctfError, OSError) as error:
        signals.raises = False
        node.clear()
        return node.fail(error)
    return 0


def unstage(run_folder: str) -> int:
    """Remove what this node has copied for the job, once nobody reads it any more; return whether
    anything is left, as an exit status."""
    plan = read_plan(run_folder)
    node = _Node(run_folder, plan)
    until = time.monotonic() + _LINGER_S
    while not node.clear():
        if time.monotonic() > until:
            return 1
        time.sleep(_WAIT_S)
    return 0


class _Node:
    """This node, in one start of the job."""

    def __init__(self, run_folder: str, plan: dict[str, Any]) -> None:
        self._staging = plan["staging"]
        self._attempt = attempt_of(os.environ)
        self._host = os.uname().nodename
        self._file = node_file(run_folder, self._host)
        # By the job's number, so that a site's epilog can remove what it has left.
        self._name = f"{os.environ.get('SLURM_JOB_ID') or plan['run_id']}.{self._attempt}"
        nodes = sum(component["nodes"] for component in plan["components"])
        nodes = 1 if plan["backend"] == "single" else nodes
        me = os.environ.get("SLURMD_NODENAME", self._host)  # of which a machine may have several
        self._barrier = Barrier(run_folder, self._attempt, me, nodes)
        self._job: Held | None = None
        self._notes: list[str] = []
        self._needed = 0
        self._before = 0
        self._told_at = 0.0

    def stage(self) -> None:
        """Make the copies; where that cannot be, and the site or the person wants it so, the node
        uses what is shared."""
        inputs: dict[str, str] = self._staging["inputs"]
        self._record("staging", host=self._host, what="data" if inputs else "the environment")
        began = time.monotonic()
        environment: dict[str, str] = {}
        try:
            with self._place_of_job():
                places = self._copies(inputs)
                environment = self._bring()
        except NoPlace as error:
            if inputs and self._staging["fallback"] != "shared":
                raise
            self.clear()
            self._note(f"{error.message} It reads the shared files.")
            self._record("staged", places=inputs, folder="", area="", notes=self._notes)
            return
        assert self._job is not None
        what = [*inputs, *(["the environment"] if environment else [])]
        said = f"{self._needed / 1e6:.1f} MB of data, {time.monotonic() - began:.1f} s"
        say(f"{self._host}: staged {', '.join(what) or 'nothing'} in {self._job.folder} ({said})")
        self._record(
            "staged",
            places=places,
            environment=environment,
            folder=self._job.folder,
            area=self._area.path,
            notes=self._notes,
        )

    def await_others(self) -> None:
        """Wait until all nodes have their copies; if one has none, this one needs none either."""
        if not self._barrier.wait():
            raise AskedToEnd(signal.SIGTERM)

    def clear(self) -> bool:
        """Remove the job's folder, and return whether it has gone."""
        if self._job is None:
            try:
                jobs = Area(self._root()).jobs
            except StagingError:
                return True
            self._job = Held(os.path.join(jobs, self._name))
        if not os.path.lexists(self._job.folder):
            return True
        if not self._job.is_mine_alone():
            return False
        self._job.remove()
        self._job.release()
        return not os.path.lexists(self._job.folder)

    def fail(self, error: Exception) -> int:
        """Put on record, and tell, why there are no copies; return the exit status."""
        hint = getattr(error, "hint", None)
        reason = getattr(error, "message", None) or str(error)
        say(f"{self._host}: {error}")
        self._barrier.break_()
        with contextlib.suppress(OSError):  # the job's log has it
            self._record("failed", reason=reason, hint=hint)
        return getattr(error, "exit_code", StagingError.exit_code)

    def _root(self) -> str:
        return root_of(self._staging["folder"], os.environ)

    @contextlib.contextmanager
    def _place_of_job(self) -> Iterator[None]:
        """Make the job's folder on this node's disk, with nobody else of the person's at work."""
        root = self._root()
        kind = shared_kind(root)
        if kind:
            raise NoPlace(
                f"Node {self._host} has no disk of its own for copies: {root!r} is on {kind}.",
                "Name a folder on the nodes' own disks (--set staging.folder=...), or use --input "
                "in place of --stage.",
            )
        self._area = area = Area(root)
        with locked(os.path.join(area.path, _LOCK), 0o077, self._wait):
            area.sweep()
            self._job = Held(os.path.join(area.jobs, self._name))
            os.makedirs(self._job.folder, 0o700, exist_ok=True)
            self._job.hold()
            yield

    def _copies(self, inputs: dict[str, str]) -> dict[str, str]:
        """Make the copies that are not there, and return their paths by the inputs' names."""
        sources = {name: look(path) for name, path in inputs.items()}
        missing = [name for name in inputs if not self._is_there(name, sources[name])]
        self._make_room([sources[name] for name in missing])
        for name in missing:
            self._copy(name, sources[name])
        return {name: self._place(name, source) for name, source in sources.items()}

    def _bring(self) -> dict[str, str]:
        """Bring the environment here, and return where it is; nothing if it cannot be brought:
        then the ranks run the shared one."""
        folder = self._staging.get("environment")
        if not folder:
            return {}
        from hpctf.node.staging.environments import bring

        assert self._job is not None
        kind, keep = self._staging["environment_kind"], self._staging["keep"] == "node"
        try:
            return bring(self._area, self._job.folder, folder, kind, keep)
        except (HpctfError, OSError) as error:
            reason = " ".join(str(error).split())
            self._note(f"{self._host}: runs the shared environment: {reason}")
            return {}

    def _note(self, words: str) -> None:
        say(words)
        self._notes.append(words)

    def _wait(self, descriptor: int) -> None:
        """Wait for another job of the person's, which makes copies on this node."""
        if not self._told_at:
            self._told_at = time.monotonic()
            say(f"{self._host}: waits for another job that stages data on this node")
        time.sleep(_WAIT_S)

    def _place(self, name: str, source: Source) -> str:
        assert self._job is not None
        return os.path.join(self._job.folder, name, source.name)

    def _is_there(self, name: str, source: Source) -> bool:
        """Whether a copy is there; one that another job has left is linked to."""
        assert self._job is not None
        place = os.path.join(self._job.folder, name)
        if os.path.lexists(place):  # two nodes of Slurm's may be one machine
            return True
        kept = self._kept(source)
        if kept is None or not os.path.isdir(kept):
            return False
        by_content = self._staging["compare"] == "content"
        if not source.is_copied(os.path.join(kept, source.name), by_content=by_content):
            if os.path.basename(kept) not in self._area.in_use():
                remove_tree(kept)
            return False
        os.symlink(kept, place)
        os.utime(kept)
        say(f"{self._host}: found a copy of {shown(source.path)} that an earlier job has left")
        return True

    def _kept(self, source: Source) -> str | None:
        """Return where a copy is kept for later jobs, if any is."""
        if self._staging["keep"] != "node":
            return None
        return os.path.join(self._area.kept, f"{source.name[:80]}-{source.fingerprint()}")

    def _make_room(self, sources: list[Source]) -> None:
        """Refuse to begin what there is no room for, even without what earlier jobs have left."""
        self._needed = sum(source.needed for source in sources)
        files = sum(len(source.entries) for source in sources)
        self._area.evict(self._needed, files)
        free, more = self._area.free()
        where = f"Node {self._host} has too little room in {self._area.path!r} for the inputs to"
        if free < self._needed:
            free_mb, needed_mb = free / 1e6, self._needed / 1e6
            raise NoPlace(
                f"{where} stage: {needed_mb:.1f} MB are needed, {free_mb:.1f} MB are free.", NO_ROOM
            )
        if more < files:
            raise NoPlace(
                f"{where} stage: there are {files} of them, and there is room for {more} more "
                "files and folders.",
                NO_ROOM,
            )
        self._tell(0)

    def _copy(self, name: str, source: Source) -> None:
        assert self._job is not None
        kept = self._kept(source)
        if kept is not None and os.path.lexists(kept):
            kept = None  # jobs use one that somebody has changed
        to = os.path.join(self._job.folder, name) if kept is None else kept
        part = os.path.join(os.path.dirname(to), f".{os.path.basename(to)}.part")
        try:
            os.mkdir(part, 0o700)
            Copier(source, os.path.join(part, source.name), self._beat).copy(
                read_only=kept is not None
            )
            os.rename(part, to)
        except BaseException:
            remove_tree(part)
            raise
        if kept is not None:
            os.symlink(kept, os.path.join(self._job.folder, name))
        self._before += source.needed

    def _beat(self, copied: int) -> None:
        if time.monotonic() - self._told_at >= _TELL_S:
            self._tell(self._before + copied)

    def _tell(self, copied: int) -> None:
        self._told_at = time.monotonic()
        self._record("copied", needed=self._needed, copied=copied)
        if self._barrier.is_broken():
            raise AskedToEnd(signal.SIGTERM)

    def _record(self, event: str, **more: Any) -> None:
        line = {"event": event, "time": time.time(), "attempt": self._attempt, **more}
        append_record(self._file, line)
