"""What runs have logged, as TensorBoard's event files: written at once, or as it comes."""

from __future__ import annotations

import base64
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.client.hpctf.artifacts import place_of
from hpctf.client.hpctf.run_metrics import Tracked
from hpctf.common.progress import followed
from hpctf.errors import ExportError, UsageError
from hpctf.export.mlflow_names import allowed_names
from hpctf.run_folder.ownership import is_mine, open_of_run
from hpctf.scheduler.programs import FOLDER, ask, environment_of
from hpctf.tracking.tensorboard_events import event_series

if TYPE_CHECKING:
    from hpctf.client.hpctf.series import Series
    from hpctf.run import Run

_WRITER = Path(__file__).parent / "with_tensorboard/write.py"
_PROBE = "import tensorboard.compat.proto.event_pb2, tensorboard.summary.writer.record_writer"
_IMAGES = (".png", ".jpg", ".jpeg", ".gif")
_PATIENCE_S = 60
_LARGEST_IMAGE = 20_000_000
"""Bytes of an image that TensorBoard is given."""


def find_python(runs: Sequence[Run], asked: str | None = None) -> str:
    """Return a Python of this machine that has TensorBoard: hpctf's own, else a training's.

    Only the plans of the user's own runs are believed: what they name is executed.

    Raises
    ------
    UsageError
        None has it.
    """
    mine = [run for run in runs if is_mine(run.folder.path)]
    trained_with = [str(run.plan["entry"]["python"]) for run in mine]
    named = [os.path.abspath(asked) if os.sep in asked else asked] if asked else []
    for python in dict.fromkeys(named or [sys.executable, *trained_with]):
        try:
            done = ask([python, "-I", "-c", _PROBE], _PATIENCE_S, kind="python")
            if not done.returncode:
                return python
        except (OSError, subprocess.TimeoutExpired):
            continue
    where = asked or "neither hpctf's Python nor those of your own runs"
    raise UsageError(
        f"TensorBoard was not found: {where} has {'none' if asked else 'it'}.",
        "pip install 'hpctf[tensorboard]', or name a Python that has it: --python EXE",
    )


class EventFiles:
    """Event files of what runs have logged, a folder for each run below `top`.

    They are written by TensorBoard's own code, in a process of the Python that has it; with
    `of_events` also what event files hold that somebody else's training wrote.
    """

    def __init__(self, python: str, top: Path, of_events: bool = False) -> None:
        self._top = top
        self._of_events = of_events
        self._sent: dict[tuple[str, str], tuple[int, float]] = {}
        self._writer = subprocess.Popen(
            [python, "-I", str(_WRITER)],
            env=environment_of("python"),
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> EventFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.communicate()

    def add(self, runs: Iterable[Run]) -> int:
        """Write what runs and their child runs have logged since the last time; return how many
        points."""
        assert self._writer.stdin and self._writer.stdout
        number = 0
        try:
            for point in itertools.chain.from_iterable(map(self._new, runs)):
                self._writer.stdin.write(json.dumps(point) + "\n")
                number += 1
            self._writer.stdin.write("\n")
            self._writer.stdin.flush()
        except BrokenPipeError:
            pass
        if not self._writer.stdout.readline():
            raise ExportError(
                f"TensorBoard's event files could not be written to {self._top}.",
                "Make room there, or name another folder.",
            )
        return number

    def _new(self, run: Run) -> Iterator[dict[str, Any]]:
        tracked = Tracked(str(run.folder.path))
        # TensorBoard reads the event files of the user's own runs by itself, links and all.
        more = {} if not self._of_events or is_mine(run.folder.path) else run.event_series()
        yield from self._of(tracked, self._top / run.id, more)
        children = tracked.children()
        names = allowed_names(child.name for child in children)
        for child in children:
            more = event_series(Path(child.folder)) if more else {}
            yield from self._of(child, self._top / run.id / names[child.name], more)

    def _of(
        self, tracked: Tracked, folder: Path, more: dict[str, Series]
    ) -> Iterator[dict[str, Any]]:
        for name, series in {**more, **tracked.series()}.items():
            if series.kind not in ("value", "image"):
                continue
            key = str(folder), name
            steps = series.axis()
            for n in self._fresh(key, series):
                content = _content(tracked.folder, series.kind, series.values[n])
                point = {"folder": str(folder), "tag": name, "step": steps[n]}
                if content:
                    yield {**point, "time": series.times[n], **content}
            if series.times:
                self._sent[key] = len(series.times), series.times[-1]

    def _fresh(self, key: tuple[str, str], series: Series) -> Sequence[int]:
        """Return the places of the values that were not sent yet. A restart takes some back."""
        number, last = self._sent.get(key, (0, -math.inf))
        if not number or (len(series.times) >= number and series.times[number - 1] == last):
            return range(number, len(series.times))
        return [n for n, at in enumerate(series.times) if at > last]


def _content(folder: str, kind: str, value: Any) -> dict[str, Any] | None:
    if kind == "value":
        return {"value": float(value)} if isinstance(value, (bool, int, float)) else None
    if not str(value).lower().endswith(_IMAGES):
        return None
    try:
        with open_of_run(place_of(folder, str(value))) as stream:
            data = stream.read(_LARGEST_IMAGE + 1)
    except (OSError, ValueError):
        return None  # gone, or nowhere in the run
    return None if len(data) > _LARGEST_IMAGE else {"image": base64.b64encode(data).decode()}


def write_events(runs: Sequence[Run], folder: Path, python: str | None = None) -> int:
    """Write what runs have logged as event files below a folder; return how many points.

    Raises
    ------
    UsageError
        The folder is there and not empty, or no Python has TensorBoard.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{str(folder)!r} is not empty: points would stand there twice.", "Name a new folder."
        )
    with EventFiles(find_python(runs, python), folder.absolute()) as files:
        return files.add(followed(runs, "Writing event files"))
