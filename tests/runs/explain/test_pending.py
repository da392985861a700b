"""Why Slurm lets a job wait: its reasons in plain words, and the jobs before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctf.runs.explain import limits, reasons
from hpctf.runs.explain.job_info import Figures
from tests.conftest import ROOT

ROWS = (ROOT / "tests/support/recorded/slurm_reasons.tsv").read_text().splitlines()
KNOWN = [row.split("\t")[1] for row in ROWS if not row.startswith("#")]
"""What Slurm 22.05, 24.11 and 26.05 can give as a reason."""


def told_as(reason: str) -> str:
    return reasons.explain(reason, "1").meaning


def test_each_of_slurms_reasons_is_told_in_plain_words() -> None:
    assert len(KNOWN) > 200
    assert [name for name in KNOWN if name in told_as(name)] == []


def test_each_limit_names_what_it_is_on_and_where_its_figure_stands() -> None:
    named = [name for name in KNOWN if name.startswith(("AssocGrp", "AssocMax", "QOSGrp", "QOSM"))]
    named += [name for name in KNOWN if name.endswith(("PerAccount", "PerUser"))]
    assert [name for name in named if limits.parse(name) is None] == []
    assert "CPU-minutes that all jobs under it together may use up" in told_as(
        "AssocGrpCPUMinutesLimit"
    )
    assert "the nodes that a job may have" in told_as("QOSMaxNodePerJobLimit")
    running = limits.parse("MaxGRESRunMinsPerAccount")
    assert running is not None and not running.of_one_job
    assert running.words == "the GPU-minutes that an account's running jobs may still take"
    assert (running.column, running.figure("gres/gpu=60,cpu=9")) == (
        "MaxTRESRunMinsPA",
        "60 gres/gpu",
    )


@pytest.mark.parametrize("reason", ["Reservation_r1_is_invalid", "Reservation r1 was deleted"])
def test_a_reservation_that_has_gone_never_comes(reason: str) -> None:
    assert reasons.explain(reason, "1").never


def test_a_reason_that_nobody_knows_is_told_in_slurms_own_words() -> None:
    assert told_as("Moon_is_full") == "Slurm says Moon is full"


def test_the_jobs_before_it_are_those_that_slurm_looks_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        "7|2026-11-29T10:00:00|90|90|Priority",  # of higher priority
        "5|2026-11-29T09:00:00|40|40|Resources",  # as high, submitted before
        "5|2026-11-29T10:00:00|50|50_[1-9%2]|Priority",  # the same second, by id; an array is one
        "5|2026-11-29T10:00:00|51|51+0|Priority",  # and so is a heterogeneous job
        "5|2026-11-29T10:00:00|52|51+1|Priority",
        "5|2026-11-29T10:00:00|60|60|Priority",  # the job itself
        "5|2026-11-29T10:00:00|61|61|Priority",
        "5|2026-11-29T11:00:00|41|41|Priority",  # requeued since
        "4|2026-11-29T09:00:00|30|30|Priority",
        "0|2026-11-29T09:00:00|20|20|JobHeldUser",
        "9|2026-11-29T09:00:00|21|21|Dependency",
        "9|2026-11-29T09:00:00|22|22|BeginTime",
        "a site's own words",
    ]
    (tmp_path / "squeue").write_text("#!/bin/sh\ncat <<END\n" + "\n".join(rows) + "\nEND\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    job = {"Priority": "5", "SubmitTime": "2026-11-29T10:00:00", "JobId": "60"}
    assert Figures().before("normal", job) == 4
    assert Figures().before("normal", {}) is None
