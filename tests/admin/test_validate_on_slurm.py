"""``hpctf site validate`` with a real Slurm: what it refuses is named with its line."""

from __future__ import annotations

import json

import pytest

from tests.conftest import ROOT, Person

pytestmark = pytest.mark.slurm

SITE = (ROOT / "tests/cluster/site.yaml").read_text()


def test_the_test_clusters_site_is_taken_for_every_backend(person: Person) -> None:
    site = person.write("site.yaml", SITE)
    answer = json.loads(person.hpctf("site", "validate", site, "--json").stdout)
    assert answer["ok"] and answer["problems"] == []
    ways = {case["backend"] for case in answer["cases"]}
    assert ways == {
        "single", "mpi (srun)", "ps (hetjob)", "ps (shared)", "collective", "single (array)"
    }  # fmt: skip
    assert all(case["looks"]["sbatch"] == "ok" for case in answer["cases"])
    assert person.jobs() == []


def test_what_slurm_refuses_is_named_with_target_file_and_line(person: Person) -> None:
    site = person.write(
        "site.yaml",
        "name: mine\n"
        "default_target: good\n"
        "targets:\n"
        "  good: {partition: normal}\n"
        "  typo:\n"
        "    slots: 2\n"
        "    partition: nomral\n"
        "  feature:\n"
        "    partition: normal\n"
        "    directives:\n"
        "      constraint: a100\n"
        "  large:\n"
        "    partition: normal\n"
        "    cpus_per_task: 4096\n"
        "ps: {target: typo}\n",
    )
    done = person.hpctf("site", "validate", site, check=False)
    assert done.returncode == 3
    told = done.stderr.removeprefix("hpctf: error: ").splitlines()
    expected = [
        f"{site}:7: target 'typo': Slurm refuses partition 'nomral': ",
        f"{site}:11: target 'feature': Slurm refuses constraint 'a100': ",
        f"{site}:12: target 'large', single: Slurm refuses the job: ",
    ]
    for words in expected:
        assert any(line.startswith(words) for line in told), (words, told)
    assert not [line for line in told if "'good'" in line and "typo" not in line]
    rows = {tuple(line.split()[:2]): line for line in done.stdout.splitlines() if line.strip()}
    assert "✗" not in rows["good", "single"] and "✗" in rows["typo", "single"]


def test_an_account_that_slurm_refuses_comes_from_the_variable_that_says_it(
    person: Person,
) -> None:
    """A reservation stands in for an account: the test cluster lets everybody use any account."""
    site = person.write("site.yaml", SITE)
    name = "HPCTF_TARGETS__HIGH__DIRECTIVES__RESERVATION"
    done = person.hpctf("site", "validate", site, check=False, **{name: "nobodys"})
    assert done.returncode == 3
    assert f"{name}: target 'high': Slurm refuses reservation 'nobodys': " in done.stderr
    assert "'normal'" not in done.stderr
