"""Environments on the real cluster: built by an ordinary user on a node, checked by srun there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.support.stand_in_wheels import make_site, make_wheels

pytestmark = pytest.mark.slurm

CHECK = """
import json, sys
from pathlib import Path
from hpctf.environment.smoke_test import check
from hpctf.environment.build_commands import Commands
from hpctf.environment.spec import spec_from
from hpctf.common.files import read_json
from hpctf.scheduler.programs import environment_of
from hpctf.site.model import MpiSettings
python, work = Path(sys.argv[1]), Path(sys.argv[2])
spec = spec_from(read_json(python.parents[1] / "environment.json")["spec"])
commands = Commands(work / "build.log", environment_of("pip"))
print(json.dumps(check(spec, python, commands, work, MpiSettings(plugin=sys.argv[3]))))
"""


def test_an_ordinary_user_builds_on_a_node_and_a_job_uses_it(person: Person) -> None:
    """Nodes reach no network: packages come from a folder of wheels."""
    wheels = make_wheels(person.home / "wheels")
    site = make_site(person.home, wheels)
    for path in (person.home / "store", wheels, site, *wheels.iterdir()):
        if path.exists():
            shutil.chown(path, person.user)
    words = ("env", "build", "--site", site, "--pip", "tiny")
    built = person.cluster.run(
        "srun", "-N1", "-n1", person.bin / "hpctf", *words, user=person.user, cwd=person.home
    )
    python = Path(built.stdout.strip())
    assert person.hpctf(*words).stdout.strip() == str(python)  # ready, from the login node
    script = person.write("proj/train.py", "import tiny; open('outputs/v', 'w').write('tiny')\n")
    person.hpctf("submit", "--python", python, "--wait", script)
    assert person.output("v") == "tiny"


@pytest.mark.tensorflow
@pytest.mark.parametrize("person", [None], indirect=True)
def test_within_a_job_the_ranks_are_started_by_srun(person: Person, training_python: str) -> None:
    work = person.home / "work"
    work.mkdir()
    script = person.write("check.py", CHECK)
    words = ["srun", "-N1", "-n1", "--mem=3G", person.bin / "python", script, training_python]
    done = person.cluster.run(*words, work, "pmix")
    assert json.loads(done.stdout)["allreduce"] == [3.0, 30.0]
    assert "srun --mpi=pmix" in (work / "build.log").read_text()
    wrong = person.cluster.run(*words, work, "none", check=False)
    assert wrong.returncode != 0
    assert "An allreduce of 2 ranks failed" in wrong.stderr
