"""What a row measures with: a folder, and cases that take turns."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.figures import Figure

ROOT = Path(__file__).resolve().parent.parent
HPCTF = str(Path(sys.executable).with_name("hpctf"))

T = TypeVar("T")


@dataclass(frozen=True)
class Bench:
    """How a row is measured.

    Parameters
    ----------
    folder
        An empty folder; the nodes share it, if the row needs Slurm.
    quick
        Whether sizes and rounds are small, without Slurm, TensorFlow and other launchers.
    most_rounds
        The most rounds, for a trial of a row.
    """

    folder: Path
    quick: bool = False
    most_rounds: int = 1_000

    def of(self, full: T, quick: T) -> T:
        """Return the one or the other."""
        return quick if self.quick else full

    def rounds(self, count: int) -> int:
        """Return how many rounds to measure of so many."""
        return 1 if self.quick else min(count, self.most_rounds)

    def in_turn(
        self,
        cases: Mapping[str, Callable[[], float]],
        unit: str = "s",
        *,
        rounds: int = 7,
        size: int | None = None,
        size_of: str = "",
        base: str = "",
        warm_up: bool = True,
    ) -> Iterator[Figure]:
        """Yield a figure per case. Cases take turns, so that what else the machine does meets all
        of them; the first round does not count. A case that fails has its reason."""
        values: dict[str, list[float]] = {case: [] for case in cases}
        reasons: dict[str, str] = {}
        for turn in range(self.rounds(rounds) + warm_up):
            for case, run in cases.items():
                if case in reasons:
                    continue
                try:
                    measured = run()
                except CannotMeasure as error:
                    reasons[case] = str(error)
                    continue
                if turn or not warm_up:
                    values[case].append(measured)
        for case in cases:
            reason = reasons.get(case, "")
            of_case = () if reason else tuple(values[case])
            held_against = base if base != case else ""
            yield Figure(case, unit, of_case, size, size_of, held_against, reason)

    def script(self, name: str, text: str) -> Path:
        """Write a script, alone in its folder: hpctf keeps all that lies there with each run."""
        folder = self.folder / "sources" / Path(name).stem
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        return folder / name

    def stand_ins(self, **programs: str) -> str:
        """Return a PATH on which shell scripts stand in for programs."""
        folder = self.folder / "bin"
        folder.mkdir(exist_ok=True)
        for name, script in programs.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
        return f"{folder}:{os.environ['PATH']}"


class CannotMeasure(Exception):
    """A case does not work, for the reason that the page shows."""


def run(*command: str | Path, cwd: Path | None = None, **variables: str) -> str:
    """Run a program and return what it printed.

    Raises
    ------
    CannotMeasure
        It failed; the message is the last line that it printed on stderr.
    """
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        print(f"{command}:\n{done.stdout}{done.stderr}", file=sys.stderr)
        raise CannotMeasure(f"exit code {done.returncode}: {lines[-1][:200]}")
    return done.stdout


def printed_by(command: Sequence[str], within_s: float, **variables: str) -> tuple[int, str]:
    """Run a program, and return its exit code and all that it printed; raise
    `subprocess.TimeoutExpired` if it takes longer."""
    done = subprocess.run(
        command,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=within_s,
    )
    return done.returncode, done.stdout


def timed(*command: str | Path, **variables: str) -> float:
    """Return the seconds that a program takes, the whole process."""
    began = time.perf_counter()
    run(*command, **variables)
    return time.perf_counter() - began
