"""`hpctf watch` on a real run of this machine, seen as a person sees it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, Run, TensorFlow
from hpctf.common.files import tail
from tests.support.projects import project
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until

TRAINS = """
import os, sys, time
from hpctf import Run
run = Run.get_context()
for epoch in range(6):
    print("\\r1/2 [>]\\r2/2 [=] epoch", epoch)
    run.log("loss", 1 / (epoch + 1), epoch)
    run.log("val_loss", 1.1 / (epoch + 1), epoch)
    run.log("accuracy", 1 - 1 / (epoch + 2), epoch)
    run.progress(epoch=epoch + 1, epochs=12)
    time.sleep(0.1)
print("\\x1b[31mwaiting for the word\\x1b[0m", flush=True)
while not os.path.exists("outputs/end"):
    time.sleep(0.05)
run.progress(epoch=12, epochs=12)
sys.exit(int(open("outputs/end").read()))
"""
ALTERNATE, NORMAL = b"\x1b[?1049h", b"\x1b[?1049l"


@pytest.fixture
def run(experiment: Experiment, tmp_path: Path) -> Iterator[Run]:
    """A run of two ranks that has logged six epochs, and goes on until `end` lets it."""
    estimator = TensorFlow(
        project(tmp_path / "proj", text=TRAINS),
        entry_script="train.py",
        worker_count=2,
        distributed_backend="collective",
    )
    made = experiment.submit(estimator)
    logs = [made.folder.logs / f"worker-{index}.log" for index in (0, 1)]
    wait_until(lambda: all("waiting" in "".join(tail(log)) for log in logs))
    yield made
    made.cancel()
    made.wait_for_completion(raise_on_error=False)


def end(run: Run, code: int = 0) -> None:
    (run.folder.outputs / "end.part").write_text(str(code))
    (run.folder.outputs / "end.part").rename(run.folder.outputs / "end")


@pytest.fixture
def terminal(run: Run, tmp_path: Path) -> Iterator[Any]:
    """Opens terminals on which the run is watched."""
    opened: list[Terminal] = []

    def opening(*words: str, **options: Any) -> Terminal:
        opened.append(Terminal("watch", "--interval", "0.2", *words, cwd=tmp_path, **options))
        return opened[-1]

    yield opening
    for one in opened:
        one.process.kill()
        one.process.wait()


def test_one_screen_shows_state_ranks_epochs_curves_use_and_log(run: Run, terminal: Any) -> None:
    seen = terminal()
    seen.shows(run.id, "Running", "worker-0", "worker-1", "waiting for the word", "cores", "MB")
    lines = seen.screen()
    assert "epoch 6 of 12 ━━━" in lines[1] and " left" in lines[1]
    text = seen.text()
    assert "loss 0.1667  val_loss 0.1833" in text and "accuracy 0.8571" in text
    assert any(0x2800 < ord(char) < 0x2900 for char in text)
    assert "2/2 [=] epoch 5" in text and "1/2" not in text
    assert lines[-1].startswith("q or Ctrl-C")


def unbroken(text: str) -> str:
    """Return a text without blanks and the ends of lines, wherever the terminal breaks them."""
    return "".join(text.split())


def test_q_leaves_and_the_run_goes_on(run: Run, terminal: Any) -> None:
    seen = terminal(run.id)
    seen.shows("Running")
    seen.type("q")
    assert seen.ends() == 0
    back = f"continues. Come back with: hpctf watch {run.id}"
    assert unbroken(back) in unbroken(seen.text())
    assert run.status == "Running"


def test_ctrl_c_leaves_the_run_alone_and_the_terminal_as_it_was(run: Run, terminal: Any) -> None:
    seen = terminal()
    seen.shows("Running")
    seen.type("\x03")
    assert seen.ends() == 130
    assert unbroken(f"Interrupted: run {run.id} continues") in unbroken(seen.text())
    assert seen.sent.index(ALTERNATE) < seen.sent.index(NORMAL)
    assert b"\x1b[?25h" in seen.sent  # the cursor is seen again
    assert seen.modes_after == seen.modes_before
    assert run.status == "Running"


@pytest.mark.parametrize(("columns", "lines"), [(40, 10), (200, 60), (20, 4)])
def test_a_window_can_change_its_size(terminal: Any, columns: int, lines: int) -> None:
    seen = terminal()
    seen.shows("Running", "worker-1")
    seen.resize(columns, lines)
    seen.shows("q or Ctrl-C: leave")
    found = seen.screen()
    assert len(found) == lines
    assert found[0].startswith("test_")
    assert found[-1].startswith("q or Ctrl-C")


def test_a_stopped_watch_gives_the_terminal_back_and_comes_again(terminal: Any) -> None:
    seen = terminal(then="fg")
    seen.shows("Running")
    seen.type("\x1a")  # Ctrl-Z
    wait_until(lambda: seen.sent.count(ALTERNATE) == 2)
    assert seen.sent.count(NORMAL) == 1
    # What bash writes meanwhile is on the normal screen: "Stopped", or the command that goes on.
    between = seen.sent[seen.sent.index(NORMAL) : seen.sent.rindex(ALTERNATE)]
    assert b"watch --interval" in between
    seen.shows("Running", "worker-1")
    seen.type("q")
    assert seen.ends() == 0


def test_a_watch_that_is_ended_gives_the_terminal_back(run: Run, terminal: Any) -> None:
    seen = terminal()
    seen.shows("Running")
    seen.process.terminate()
    assert seen.ends() == 143
    assert NORMAL in seen.sent
    assert seen.modes_after == seen.modes_before
    assert run.status == "Running"


def test_little_is_sent_when_little_changes(terminal: Any) -> None:
    seen = terminal(columns=120, lines=40)
    seen.shows("Running", "worker-1", "cores")
    before = len(seen.sent)
    time.sleep(2)  # ten pictures
    assert (len(seen.sent) - before) / 10 < 1000


def test_the_end_is_told_on_the_normal_screen(run: Run, terminal: Any) -> None:
    seen = terminal(columns=160)
    seen.shows("Running")
    end(run)
    assert seen.ends() == 0
    told = seen.sent[seen.sent.index(NORMAL) :].decode()
    assert f"{run.id}: Completed: 2 workers completed" in told
    assert "epoch 12 of 12, loss 0.1667, val_loss 0.1833, accuracy 0.8571" in told
    assert f"used {run.get_efficiency()}" in told
    assert f"folder {run.folder.path}" in told


def test_a_failure_is_told_as_wait_does(run: Run, terminal: Any) -> None:
    seen = terminal()
    seen.shows("Running")
    end(run, 7)
    assert seen.ends() == 1
    assert "failed with exit code 7" in seen.sent[seen.sent.index(NORMAL) :].decode()


def test_a_dumb_terminal_gets_lines(run: Run, terminal: Any) -> None:
    seen = terminal(term="dumb", columns=160)
    seen.shows("Running: 2 workers running", "epoch 6 of 12, loss 0.1667")
    end(run)
    assert seen.ends() == 0
    assert b"\x1b" not in seen.sent
    seen.shows("Completed: 2 workers completed")


def test_a_pipe_gets_lines_of_what_changes(run: Run, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from hpctf.cli import main; main()",
        "watch",
        "--interval",
        "0.2",
    ]
    env = {**os.environ, "HPCTF_RUNS_ROOT": str(tmp_path / "runs")}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        seen: list[str] = []
        while not any("epoch 6 of 12, loss 0.1667" in line for line in seen):
            seen.append(watch.stdout.readline())
            assert seen[-1], f"the watch ended with {seen}"
        end(run)
        seen += watch.stdout
    assert watch.returncode == 0
    states = [line for line in seen if "2 workers" in line]
    assert "Running" in states[0] and "Completed" in states[-1]
    assert "\x1b" not in "".join(seen)
