"""What sbatch says, or a site's wrapper around it: the job's id, and all that else is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpctf.errors import SubmissionError
from hpctf.scheduler.jobs import Identity
from hpctf.submission.batch import NoAnswer, parse, sbatch

NAME = "train_1700000000000_abcdef"


def answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, known: str = ""
) -> tuple[str, str | None]:
    """Run an sbatch that is a shell script; `known` is the job that squeue knows by the name."""
    sep = "\\x1f"
    uid = os.geteuid()
    row = sep.join((known, "PENDING", "None", "2026-11-29T07:56:45", str(uid), NAME, "job.sh"))
    programs = {
        "sbatch": script,
        "squeue": f"printf '{row}\\n'" if known else "exit 0",
        "sacct": "echo 'Slurm accounting storage is disabled' >&2; exit 1",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    identity = Identity(uid, None, frozenset({NAME}), "/runs/job.sbatch")
    return sbatch([str(tmp_path / "sbatch"), "--parsable", "job.sh"], 0o77, identity, None)


@pytest.mark.parametrize(
    ("script", "job", "said"),
    [
        ("echo 139", ("139", None), []),
        ("echo '139;west'", ("139", "west"), []),
        ("echo Submitted batch job 139", ("139", None), []),
        ("echo Submitted batch job 139 on cluster west", ("139", "west"), []),
        ("echo '  139  '", ("139", None), []),
        ("echo Quota: 80 %; echo 139", ("139", None), ["Quota: 80 %"]),
        ("echo 42; echo Submitted batch job 139", ("139", None), []),
        ("echo note >&2; echo 139", ("139", None), ["note"]),
        ("echo 'sbatch: Your account ends soon' >&2; echo '139;west'", ("139", "west"), ["soon"]),
        ("echo Job 17 was first; echo Submitted batch job 139", ("139", None), ["Job 17 was"]),
        ("printf 'a\\033[2Jb\\n'; echo 139", ("139", None), ["a?[2Jb"]),
        ("echo 139; echo Submitted batch job 139", ("139", None), []),
    ],
)
def test_the_id_is_read_in_slurms_own_forms_and_all_else_is_shown(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str,
    job: tuple[str, str | None],
    said: list[str],
) -> None:
    assert answer(tmp_path, monkeypatch, script) == job
    out, err = capsys.readouterr()
    assert out == ""
    assert all(words in err for words in said)
    assert err.count("\n") == len(said)


@pytest.mark.parametrize(
    "script",
    [
        "echo 42; echo 139",
        "echo 139; echo 42",
        "echo Submitted batch job 42; echo Submitted batch job 139",
        "echo Your job is number 139.",
        "true",
        "echo 139; echo 'wrapper: cannot write my log' >&2; exit 1",
    ],
)
def test_where_the_id_is_not_sure_slurm_is_asked_by_the_jobs_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    assert answer(tmp_path, monkeypatch, script, known="139") == ("139", None)
    with pytest.raises(NoAnswer):
        answer(tmp_path, monkeypatch, script)


def test_a_refusal_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = "sbatch: error: Batch job submission failed: Invalid partition name specified"
    with pytest.raises(SubmissionError, match="Invalid partition"):
        answer(tmp_path, monkeypatch, f"echo '{refusal}' >&2; exit 1")


def test_parse_reads_one_answer() -> None:
    assert parse(b"17;west\n") == ("17", "west")
    with pytest.raises(NoAnswer):
        parse("1\n2\n")
