"""Slurm's words for a job's state, and what tells one job from another of its id."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctf.errors import SchedulerError
from hpctf.scheduler import states
from hpctf.scheduler.jobs import Identity, JobStatus
from hpctf.scheduler.slurm import Slurm

OVER = (
    *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL"),
    *("DEADLINE", "OUT_OF_MEMORY"),
)
"""The base states of slurm.h from which no job comes back of itself."""

BASE = ["PENDING", "RUNNING", "SUSPENDED", *OVER]
FLAGS = (
    *("LAUNCH_FAILED", "UPDATE_DB", "GETENV_FAILED", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT"),
    *("RESIZING", "CONFIGURING", "COMPLETING", "STOPPED", "RECONFIG_FAIL", "POWER_UP_NODE"),
    *("REVOKED", "REQUEUE_FED", "RESV_DEL_HOLD", "SIGNALING", "STAGE_OUT", "EXPEDITING"),
)
"""All of slurm.h's ``JOB_STATE_FLAGS`` up to 26.05, as job_state_string names them."""

REMARKS = ("LAUNCH_FAILED", "UPDATE_DB", "GETENV_FAILED", "RECONFIG_FAIL")


def active(state: str) -> bool:
    return JobStatus("1", "", state).active


def test_the_table_has_every_word_of_slurms() -> None:
    assert states.KINDS.keys() == {*BASE, *FLAGS}


@pytest.mark.parametrize("state", OVER)
def test_an_end_is_an_end_in_every_form(state: str) -> None:
    forms = (state, f"{state} by 1000", f"{state}+", state.lower())
    assert not any(active(form) for form in forms)
    assert {states.ending(form) for form in forms} == {state}
    for remark in REMARKS:
        assert not active(f"{state},{remark}")


@pytest.mark.parametrize("flag", [flag for flag in FLAGS if flag not in REMARKS])
@pytest.mark.parametrize("base", BASE)
def test_a_flag_says_that_a_job_is_not_over_whatever_its_base_state(base: str, flag: str) -> None:
    assert active(flag)
    assert active(f"{base},{flag}")
    assert active(f"{flag}+{base}")


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "SUSPENDED", *REMARKS])
def test_what_is_not_an_end_is_active(state: str) -> None:
    assert active(state)


@pytest.mark.parametrize("state", ["MIGRATING", "?", "", "COMPLETED,MIGRATING", "0x80000003"])
def test_a_word_of_a_newer_slurm_is_no_end(state: str) -> None:
    assert active(state)
    assert states.ending(state) == ""
    assert states.kind(state) == states.UNKNOWN


def test_what_slurm_does_not_show_to_others_is_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(
        "#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2\nexit 1\n"
    )
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert Slurm().ask("7", Identity(1000)) is None
    with pytest.raises(SchedulerError, match="PrivateData"):
        Slurm().ask("7", Identity(1001))
    scontrol.write_text("#!/bin/sh\necho 'site: Invalid job id specified, they say' >&2\nexit 1\n")
    with pytest.raises(SchedulerError, match="they say"):
        Slurm().ask("7", Identity(1000))


MINE = Identity(1000, 5.0, frozenset({"train_1"}), "/runs/train_1/job.sbatch")
JOB = JobStatus(
    "7",
    "train_1",
    "RUNNING",
    submitted=5.0,
    uid=1000,
    command="/usr/bin/sbatch /runs/train_1/job.sbatch",
)


@pytest.mark.parametrize(
    ("change", "mine"),
    [
        ({}, True),
        ({"name": "renamed"}, True),
        ({"name": "renamed", "command": "/tmp/copy-by-a-wrapper"}, True),
        ({"submitted": 9.0}, True),  # requeued
        ({"submitted": 9.0, "name": "renamed"}, True),
        ({"submitted": None, "command": ""}, True),
        ({"submitted": 9.0, "name": "other", "command": "/home/me/other.sh"}, False),
        ({"uid": 1001}, False),
    ],
)
def test_a_job_is_known_by_its_user_and_what_no_other_job_has(
    change: dict[str, object], mine: bool
) -> None:
    assert MINE.is_of(JOB._replace(**change)) is mine
