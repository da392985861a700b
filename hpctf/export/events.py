"""What runs have logged, as TensorBoard's event files: written at once, or as it comes."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.client.hpctf.artifacts import place_of
from hpctf.client.hpctf.tracked import Tracked
from hpctf.errors import ExportError, UsageError
from hpctf.programs import FOLDER, environment_of

if TYPE_CHECKING:
    from hpctf.client.hpctf.records import Series
    from hpctf.runs.run import Run

_WRITER = Path(__file__).parent / "with_tensorboard/write.py"
_PROBE = "import tensorboard.compat.proto.event_pb2, tensorboard.summary.writer.record_writer"
_IMAGES = (".png", ".jpg", ".jpeg", ".gif")
_PATIENCE_S = 60


def find_python(runs: Sequence[Run], asked: str | None = None) -> str:
    """Return a Python of this machine that has TensorBoard: hpctf's own, else a training's.

    Raises
    ------
    UsageError
        None has it.
    """
    trained_with = [str(run.plan["entry"]["python"]) for run in runs]
    for python in dict.fromkeys([asked] if asked else [sys.executable, *trained_with]):
        try:
            done = subprocess.run(
                [python, "-I", "-c", _PROBE],
                env=environment_of("python"),
                cwd=FOLDER,
                capture_output=True,
                timeout=_PATIENCE_S,
            )
            if not done.returncode:
                return python
        except (OSError, subprocess.TimeoutExpired):
            continue
    where = asked or "neither hpctf's Python nor the runs' own"
    raise UsageError(
        f"TensorBoard was not found: {where} has {'none' if asked else 'it'}.",
        "pip install 'hpctf[tensorboard]', or name a Python that has it: --python EXE",
    )


class EventFiles:
    """Event files of what runs have logged, a folder for each run below `top`.

    They are written by TensorBoard's own code, in a process of the Python that has it.
    """

    def __init__(self, python: str, top: Path) -> None:
        self._top = top
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

    def add(self, runs: Sequence[Run]) -> int:
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
            raise ExportError(f"TensorBoard's event files could not be written to {self._top}.")
        return number

    def _new(self, run: Run) -> Iterator[dict[str, Any]]:
        tracked = Tracked(str(run.folder.path))
        yield from self._of(tracked, self._top / run.id)
        for child in tracked.children():
            yield from self._of(child, self._top / run.id / child.name)

    def _of(self, tracked: Tracked, folder: Path) -> Iterator[dict[str, Any]]:
        for name, series in tracked.series().items():
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
        return {"image": place_of(folder, str(value))}
    except ValueError:
        return None


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
        return files.add(runs)
