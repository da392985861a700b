"""Real shells complete the names of runs, models and the like, without asking Slurm."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpctf import Experiment, TensorFlow
from tests.conftest import ROOT
from tests.support.projects import project
from tests.support.waiting import HANGS_S

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run of experiment ``digits``, and a Slurm that notes who asks it."""
    folder = tmp_path_factory.mktemp("home")
    experiment = Experiment("digits", site="local", runs_root=folder / "runs")
    source = project(folder / "proj", text="print(1)\n")
    run = experiment.submit(TensorFlow(source, entry_script="train.py"), tags={"stage": "final"})
    run.wait_for_completion()
    (folder / "bin").mkdir()
    for name in ("squeue", "sacct", "scontrol", "sinfo"):
        program = folder / "bin" / name
        program.write_text(f"#!/bin/sh\necho {name} >>{folder}/asked\nexit 1\n")
        program.chmod(0o755)
    return folder


def environment(home: Path) -> dict[str, str]:
    path = f"{home}/bin:{ROOT}/.venv/bin:/usr/bin:/bin"
    own = {"PATH": path, "HOME": str(home), "HPCTF_RUNS_ROOT": str(home / "runs"), "TERM": "dumb"}
    return {**own, "HPCTF_SITE": "local", "LC_ALL": "C.UTF-8"}


def run_id(home: Path) -> str:
    (folder,) = (home / "runs/digits").iterdir()
    return folder.name


def needs(shell: str) -> str:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here: completion in it is not tested")
    return shell


def in_bash(home: Path, *words: str) -> list[str]:
    """Return what bash offers for the last word."""
    typed = " ".join(f"'{word}'" for word in ("hpctf", *words))
    script = f"""
        eval "$(hpctf completion bash)"
        COMP_WORDS=({typed}); COMP_CWORD={len(words)}
        _hpctf_completion hpctf
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_what_is_there(home: Path) -> None:
    run = run_id(home)

    assert in_bash(home, "status", "") == ["@last", run]
    assert in_bash(home, "report", "dig")[0] == "digits"
    assert in_bash(home, "runs", "--experiment", "") == ["digits"]
    assert in_bash(home, "submit", "--tag", "sta") == ["stage=final"]
    assert in_bash(home, "submit", "--target", "") == ["default"]
    assert "slurm-mpirun" in in_bash(home, "submit", "--site", "slurm")
    assert in_bash(home, "sub") == ["submit"]
    assert "--backend" in in_bash(home, "submit", "--back")
    assert in_bash(home, "submit", "-b", "m") == ["mpi"]
    assert in_bash(home, "models", "show", "") == in_bash(home, "tune", "status", "") == []
    assert not (home / "asked").exists()


def test_what_is_wrong_says_nothing(home: Path) -> None:
    broken = home / "broken.yaml"
    broken.write_text("name: [")

    assert in_bash(home, "status", "--site", str(broken), "nothing-begins-so") == []
    assert in_bash(home, "submit", "--site", str(broken), "--target", "") == []


def test_fish_completes_what_is_there(home: Path) -> None:
    script = "hpctf completion fish | source; complete -C 'hpctf status '"
    done = subprocess.run(
        [needs("fish"), "--no-config", "-c", script],
        env=environment(home),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
    )

    assert run_id(home) in done.stdout.split(), done.stderr


@pytest.fixture
def zsh(home: Path) -> Iterator[int]:
    """A terminal with a zsh in which hpctf's completion is on."""
    path = shutil.which(needs("zsh"))
    assert path is not None
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(home)
        os.execve(path, ["zsh", "-f", "-i"], environment(home))
    lines = (
        "autoload -Uz compinit; compinit -u -D; eval \"$(hpctf completion zsh)\"; echo re''ady\n"
    )
    os.write(terminal, lines.encode())
    until(terminal, "ready")
    yield terminal
    os.close(terminal)
    os.waitpid(child, 0)


def until(terminal: int, words: str) -> str:
    """Read what a terminal shows until it has shown `words`."""
    shown, end = "", time.monotonic() + HANGS_S
    while words not in shown:
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 1)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
    return shown


def test_zsh_completes_what_is_there(home: Path, zsh: int) -> None:
    run = run_id(home)
    os.write(zsh, f"hpctf status {run[:4]}\t".encode())

    until(zsh, run[4:])
