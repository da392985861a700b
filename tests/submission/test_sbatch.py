"""What sbatch says, or a site's wrapper around it: the job's id, and all that else is said."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from hpctf.errors import SubmissionError
from hpctf.scheduler.jobs import Identity
from hpctf.submission import refusals
from hpctf.submission.refusals import is_refusal
from hpctf.submission.sbatch import NoAnswer, sbatch
from tests.conftest import ROOT

NAME = "train_1700000000000_abcdef"


def answer(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    known: str = "",
    away: bool = False,
    state: str = "PENDING",
) -> tuple[str, str | None]:
    """Run an sbatch that is a shell script; `known` is the job that squeue knows by the name."""
    sep = "\\x1f"
    uid = os.geteuid()
    row = sep.join((known, state, "None", "2026-11-29T07:56:45", str(uid), NAME, "job.sh"))
    programs = {
        "sbatch": script,
        "squeue": f"printf '{row}\\n'" if known else f"echo down >&2; exit {int(away)}",
        "scontrol": "echo No jobs in the system",
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
    caplog: pytest.LogCaptureFixture,
    script: str,
    job: tuple[str, str | None],
    said: list[str],
) -> None:
    assert answer(tmp_path, monkeypatch, script) == job
    assert capsys.readouterr().out == ""
    assert len(caplog.messages) == len(said)
    for words, message in zip(said, caplog.messages, strict=True):
        assert message.startswith("sbatch says: ") and words in message


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


FAILED = "sbatch: error: Batch job submission failed:"
HELP = 'Try "sbatch --help" for more information'
REFUSALS = {
    "slurmctld's verdict": f"{FAILED} Invalid partition name specified",
    "a job_submit plugin's words first": f"sbatch: error: lua: no\n{FAILED} Unspecified verdict",
    "a wrapper's words beside the verdict": f"site: hm\n{FAILED} Job dependency problem\nsite: ask",
    "an option": f"sbatch: unrecognized option '--foo'\n{HELP}",
    "a value": "sbatch: error: Invalid --distribution specification",
    "the script": "sbatch: error: Unable to open file job.sbatch",
    "the configuration": "sbatch: fatal: Unable to process configuration file",
    "no connection": f"{FAILED} Unable to contact slurm controller (connect failure)",
}
UNSURE = {
    "an answer that did not come": (f"{FAILED} Socket timed out on send/recv operation", "exit 1"),
    "an error of the system": (f"{FAILED} Broken pipe", "exit 1"),
    "a time-out of a wrapper's": ("sbatch: error: queue full, sleeping and retrying", "exit 124"),
    "a wrapper's own words": ("site: over quota", "exit 1"),
    "a wrapper's own words in English like Slurm's": ("site: submission failed: Invalid", "exit 1"),
    "words on stdout": ("", "echo sent; exit 1"),
    "a verdict on stdout": ("", f"echo '{FAILED} Invalid qos specification'; exit 1"),
    "no words": ("", "exit 1"),
    "another exit code": ("", "exit 255"),
    "a signal": ("", "kill -KILL $$"),
    "a warning of sbatch's, and a wrapper's end": (
        "sbatch: warning: can't run 1 process",
        "exit 9",
    ),
}


@pytest.mark.parametrize("said", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_in_slurms_own_words_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    script = f"printf '%s\\n' {shlex.quote(said)} >&2; exit 1"
    for away in (False, True):
        with pytest.raises(SubmissionError, match="sbatch refused the job"):
            answer(tmp_path, monkeypatch, script, away=away)


@pytest.mark.parametrize(("said", "end"), UNSURE.values(), ids=UNSURE)
def test_on_any_other_failure_slurm_is_asked_for_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, end: str
) -> None:
    script = f"printf %s {shlex.quote(said)} >&2; {end}"
    assert answer(tmp_path, monkeypatch, script, known="139") == ("139", None)
    with pytest.raises(NoAnswer, match="Slurm does not have it so far"):
        answer(tmp_path, monkeypatch, script)
    with pytest.raises(NoAnswer, match="Slurm did not answer a query for it: squeue: down"):
        answer(tmp_path, monkeypatch, script, away=True)


def test_a_job_that_slurm_has_counts_more_than_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    script = f"echo '{FAILED} Invalid qos specification' >&2; exit 1"
    assert answer(tmp_path, monkeypatch, script, known="139") == ("139", None)
    assert "Invalid qos" in caplog.text


def test_the_record_that_slurm_keeps_of_a_refused_job_is_not_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"{FAILED} Requested node configuration is not available"
    with pytest.raises(SubmissionError, match="sbatch refused the job"):
        answer(tmp_path, monkeypatch, f"echo '{said}' >&2; exit 1", known="139", state="FAILED")


def test_each_of_slurms_errors_is_a_verdict_or_befell_the_message() -> None:
    rows = (ROOT / "tests/support/recorded/slurm_errors.tsv").read_text().splitlines()
    table = [row.split("\t")[1:] for row in rows if not row.startswith("#")]
    rejected = ("SLURMCTLD_COMMUNICATIONS_BACKOFF", "SLURMCTLD_COMMUNICATIONS_HARD_DROP")
    unsure = ("SLURM_SUCCESS", "SLURM_ERROR", "EINPROGRESS", "SLURM_UNEXPECTED_MSG_ERROR")
    for name, text in table:
        on_the_way = name in unsure or (
            any(word in name for word in ("_COMMUNICATIONS_", "_PROTOCOL_"))
            and name not in rejected
            and not name.endswith(("_CONNECTION_ERROR", "_CONNECT_TIMEOUT"))
        )
        assert is_refusal("", f"{FAILED} {text}\n") != on_the_way, name
        assert not is_refusal("", f"site: {text}\n"), name
    assert len(table) > 400


@pytest.mark.parametrize(
    ("words", "limit", "is_of_a_limit"),
    [
        ("sbatch: error: AssocMaxSubmitJobLimit", "AssocMaxSubmitJobLimit", True),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit\nx", "QOSMaxSubmitJobPerUserLimit", True),
        (
            "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
            "",
            True,
        ),
        ("Invalid account or account/partition combination specified", "", False),
        ("Requested time limit is invalid (missing or exceeds some limit)", "", False),
    ],
)
def test_a_refusal_for_the_number_of_jobs_is_told_from_others(
    words: str, limit: str, is_of_a_limit: bool
) -> None:
    assert (refusals.limit_in(words), refusals.is_of_a_limit(words)) == (limit, is_of_a_limit)
