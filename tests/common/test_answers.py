"""Answers are read where they stand, whatever a site's programs say before and after them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hpctf.admin.survey.login_node import find_modules
from hpctf.common.answers import PRINT, answer_of, mpi_types
from hpctf.environment.interpreters import inspect
from hpctf.environment.libraries import libraries_of
from hpctf.environment.toolchain import mpi_of
from hpctf.runs.status.job_log import _of_lines

NOISE = "Welcome to the cluster!\n[1, 2]\nerror: none\n"


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_an_answer_is_read_between_other_words() -> None:
    code = f"import json; print({NOISE!r}, end='no newline'); answer = [3]; {PRINT}; print('[4]')"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert answer_of(said) == [3]
    with pytest.raises(ValueError, match="no answer"):
        answer_of(NOISE)


def test_interpreters_that_greet_are_known_all_the_same(tmp_path: Path) -> None:
    text = f"#!/bin/sh\necho 'loading python'\n{sys.executable} \"$@\"\necho '{{}}'\n"
    wrapped = str(program(tmp_path / "bin/python3", text))
    found = inspect(wrapped)
    assert found is not None
    assert found.short == sys.version_info[:2]
    (tmp_path / "sitecustomize.py").write_text(f"print({NOISE!r})\n")
    assert libraries_of(wrapped, {"PYTHONPATH": str(tmp_path)}) is not None


def test_plugins_are_listed_after_a_heading_alone() -> None:
    said = f"{NOISE}maintenance\nMPI plugin types are...\n\tnone\n\tpmi2\n"
    assert mpi_types(said) == ["none", "pmi2"]
    assert mpi_types("maintenance\n") == []


@pytest.mark.parametrize(
    ("program_name", "line", "version"),
    [
        ("mpicc", "mpicc: Open MPI 4.1.4 (Language: C)", "Open MPI 4.1.4"),
        ("mpirun", "mpirun (Open MPI) 5.0.1", "Open MPI 5.0.1"),
        ("mpichversion", "MPICH Version:    \t4.0.2", "MPICH 4.0.2"),
        (
            "mpirun",
            "Intel(R) MPI Library for Linux* OS, Version 2021.9 Build 20230307 (id: 1)",
            "Intel(R) MPI 2021.9",
        ),
        ("mpirun", "    Version:                                 4.0.2", "Version 4.0.2"),
    ],
)
def test_an_mpis_version_is_its_own(
    tmp_path: Path, program_name: str, line: str, version: str
) -> None:
    program(tmp_path / "mpicc", "#!/bin/sh\nexit 1\n")
    text = f"#!/bin/sh\necho 'Version 3 of the manual is out, see Open MPI 1'\necho '{line}'\n"
    program(tmp_path / program_name, text)
    assert (
        mpi_of({"PATH": f"{tmp_path}:/usr/bin:/bin"}).startswith(f"{version}, ")
        or not (tmp_path / "mpicc").exists()
    )


def test_only_slurms_own_words_tell_how_a_job_ended() -> None:
    ended = "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-29T07:00:00 ***"
    newer = "slurmstepd-n1: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-29T07:00:00 DUE TO TIME "
    newer += "LIMIT ***"
    killed = "slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch."
    lines = (ended, newer, killed, killed.replace("oom_kill", "oom-kill"))
    found = [_of_lines([line], "7") for line in lines]
    states = ["CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "OUT_OF_MEMORY"]
    assert [one and one.state for one in found] == states
    assert _of_lines([f"site: {line}" for line in lines], "7") is None


def test_modules_are_listed_between_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With Lmod, /etc/profile names a file for bash to read last, which has its `module`.
    profile = (
        "unset BASH_ENV\n"
        "echo motd; echo motd-on-stderr >&2\n"
        "module() { printf '/opt/modules:\\ngcc/12\\nopenmpi/4.1\\n'; }\n"
        "trap 'echo goodbye' EXIT\n"
    )
    (tmp_path / ".bash_profile").write_text(profile)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_modules(30).names == ("gcc/12", "openmpi/4.1")
