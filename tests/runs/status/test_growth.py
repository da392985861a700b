"""What grows does not hurt: what commands read and hold is bounded, or grows with what is asked."""

from __future__ import annotations

from pathlib import Path

from hpctf import Run
from tests.support.counted import counted
from tests.support.ended_runs import Copy

MB = 1_000_000


def test_each_file_that_is_downloaded_is_opened_once(run: Run, tmp_path: Path) -> None:
    def looks(number: int) -> int:
        for n in range(number):
            (run.folder.outputs / f"part-{n}").write_text(str(n))
        done = counted("download", run.id, "--to", f"to-{number}", cwd=tmp_path)
        mine = {name: n for name, n in done.opened.items() if name.startswith(str(run.folder.path))}
        assert all(mine[str(run.folder.outputs / f"part-{n}")] == 1 for n in range(number))
        assert (tmp_path / f"to-{number}/outputs/part-{number - 1}").read_text() == str(number - 1)
        return sum(mine.values()) - number

    assert looks(100) - looks(10) <= 90, "each more file is one more look at the run's folder"


def test_of_many_runs_that_are_archived_or_removed_each_is_looked_at_a_few_times(
    run: Run, copy: Copy, tmp_path: Path
) -> None:
    def looks(number: int, *command: str) -> float:
        runs = [copy(days_ago=9) for _ in range(number)]
        for one in runs:
            one.folder.final.touch()
        done = counted(*command, *(one.id for one in runs), "--yes", cwd=tmp_path)
        assert not any(one.folder.path.exists() for one in runs)
        return sum(done.opened[str(one.folder.final)] for one in runs) / number

    assert looks(12, "archive") <= looks(3, "archive")
    assert looks(12, "runs", "--rm") <= looks(3, "runs", "--rm")


def test_a_long_log_is_printed_piece_by_piece(run: Run, tmp_path: Path) -> None:
    (log,) = run.folder.logs.glob("worker-0.log")
    line = "step 1 loss 0.5 ü\n"
    bar = "\r" * (30 * MB)
    log.write_text(line * 2_000_000 + bar)
    done = counted("logs", run.id, cwd=tmp_path)
    assert done.peak < 60 * MB
    assert done.stdout.stat().st_size == log.stat().st_size + 1
    with done.stdout.open(newline="") as printed:
        assert next(printed) == line
