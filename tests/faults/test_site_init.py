"""A first site file from a Slurm of which half is away, or that says little."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import Person
from tests.faults.inject import Faults

pytestmark = pytest.mark.slurm


def test_without_slurmdbd_a_file_is_made_that_says_what_is_missing(
    person: Person, faults: Faults
) -> None:
    with faults.stopped("slurmdbd"):
        made = person.hpctf("site", "init")
    says = yaml.safe_load(Path(made.stdout.strip()).read_text())
    assert set(says["targets"]) == {"normal", "high"}
    assert "sacctmgr show user" in made.stderr and "hpctf site init --force" in made.stderr
    person.hpctf("site", "validate", "--no-sbatch")


def test_a_slurm_that_hides_and_forbids(person: Person, faults: Faults) -> None:
    hidden = {
        "PrivateData": "accounts,jobs,nodes,usage",
        "SchedulerType": "sched/builtin",
        "MpiParams": "",
        "MpiDefault": "none",
    }
    with faults.settings(**hidden):
        made = person.hpctf("site", "init")
    text = Path(made.stdout.strip()).read_text()
    says = yaml.safe_load(text)
    assert "PrivateData hides from you: accounts, nodes, usage" in made.stderr.replace("\n", " ")
    assert says["ps"] == {"placement": "shared"} and "only sched/backfill" in text
    assert says["ports"]["reserved"] is False
    assert says["mpi"]["plugin"] == "pmix", "srun --mpi=list has it, whatever the default is"


def test_a_slurmctld_that_is_away_is_said(person: Person, faults: Faults) -> None:
    with faults.stopped("slurmctld"):
        made = person.hpctf("site", "init")
    file = Path(made.stdout.strip())
    assert "what scontrol show config" in made.stderr
    assert "partitions that you may use" in made.stderr
    assert "targets" not in yaml.safe_load(file.read_text())
    assert person.hpctf("site", "show").returncode == 0
