"""The first site file: made on the real cluster, and used as it is for every backend."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from hpctf.admin.survey.probe import probe
from tests.cluster.fixture import TEST_USER, Cluster
from tests.conftest import Person

pytestmark = pytest.mark.slurm

SHOW = (
    "import json, os\n"
    "config = json.loads(os.environ.get('TF_CONFIG', '{}'))\n"
    "gpus = os.environ.get('CUDA_VISIBLE_DEVICES')\n"
    "told = {'cluster': config.get('cluster', {}), 'gpus': gpus}\n"
    "name = os.environ['HPCTF_ROLE'] + os.environ['HPCTF_INDEX']\n"
    "json.dump(told, open(f'outputs/{name}.json', 'w'))\n"
)

SUM = (
    "import json\n"
    "from mpi4py import MPI\n"
    "world = MPI.COMM_WORLD\n"
    "total = world.allreduce(world.rank + 1)\n"
    "hosts = world.gather(MPI.Get_processor_name())\n"
    "if world.rank == 0:\n"
    "    json.dump([total, sorted(set(hosts))], open('outputs/sum.json', 'w'))\n"
)


def first_site(someone: Person, *words: str) -> Path:
    return Path(someone.hpctf("site", "init", *words).stdout.strip())


def test_the_cluster_says_what_it_is(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cluster.env.items():
        monkeypatch.setenv(name, value)
    found = probe()
    assert found.unanswered == {}
    installed = cluster.run("sbatch", "--version").stdout.split()[-1]
    assert (found.config.cluster, found.config.version) == ("hpctf", installed)
    assert found.config.mpi_default == "pmix" and found.config.mpi_ports == (14000, 14999)
    assert {"pmix", "pmi2"} <= set(found.mpi_plugins) and found.accounting
    assert [one.name for one in found.partitions if one.up] == ["normal", "high"]
    default = found.default_partition
    assert default is not None and default.name == "normal" and default.total_nodes >= 4
    kinds = found.nodes_of("normal")
    assert {(one.cpus, one.memory_mb, one.gpus) for one in kinds} == {(16, 64000, 2)}
    assert [one.name for one in found.clusters if one.name == "hpctf"] == ["hpctf"]
    assert found.mpi.kind == "openmpi" and "pmix" in found.mpi.speaks


def test_the_first_site_file_works_unchanged_for_every_backend(trainer: Person) -> None:
    done = trainer.hpctf("site", "init")
    file = Path(done.stdout.strip())
    assert file == Path(trainer.env["XDG_CONFIG_HOME"]) / "hpctf/sites/slurm.yaml"
    assert "hpctf doctor --job" in done.stderr
    says = yaml.safe_load(file.read_text())
    assert says["default_target"] == "normal" and set(says["targets"]) == {"normal", "high"}
    assert says["mpi"] == {"launcher": "srun", "plugin": "pmix"}
    assert says["ports"] == {"first": 20000, "last": 29999, "reserved": True}

    trainer.write("show/show.py", SHOW)
    trainer.write("sum/sum.py", SUM)
    python = trainer.env["HPCTF_EXAMPLE_PYTHON"]
    runs = {
        "single": ["--use-gpu", "show/show.py"],
        "mpi": ["--nodes", "2", "--procs-per-node", "1", "--python", python, "sum/sum.py"],
        "ps": ["--workers", "2", "--ps", "1", "--ps-mode", "script", "show/show.py"],
        "collective": ["--nodes", "2", "--target", "high", "show/show.py"],
    }
    ids = {
        backend: trainer.hpctf("submit", "--backend", backend, *words).stdout.strip()
        for backend, words in runs.items()
    }
    for run in ids.values():
        trainer.hpctf("wait", run)
        assert trainer.status(run)["state"] == "Completed"

    told = json.loads(trainer.output("worker0.json", ids["single"]))
    assert told == {"cluster": {}, "gpus": "0,1"}
    script = (Path(trainer.status(ids["single"])["run_folder"]) / "job.sbatch").read_text()
    assert "#SBATCH --cpus-per-task=16\n" in script, "the CPUs that belong to the node's GPUs"
    total, hosts = json.loads(trainer.output("sum.json", ids["mpi"]))
    assert total == 3 and len(hosts) == 2
    cluster = json.loads(trainer.output("worker1.json", ids["ps"]))["cluster"]
    assert {role: len(places) for role, places in cluster.items()} == {
        "chief": 1,
        "worker": 2,
        "ps": 1,
    }
    plan = json.loads((Path(trainer.status(ids["ps"])["run_folder"]) / "plan.json").read_text())
    assert len(plan["components"]) == 2, "a het job"
    cluster = json.loads(trainer.output("worker1.json", ids["collective"]))["cluster"]
    assert len(cluster["worker"]) == 2


def test_a_file_that_is_there_is_replaced_only_by_force(person: Person) -> None:
    file = first_site(person)
    file.write_text("name: slurm\n")
    refused = person.hpctf("site", "init", check=False)
    assert refused.returncode == 2 and "is there already" in refused.stderr
    assert file.read_text() == "name: slurm\n"
    shown = person.hpctf("site", "init", "--print")
    assert yaml.safe_load(shown.stdout)["targets"]["high"]["partition"] == "high"
    assert first_site(person, "--force") == file
    assert "targets" in yaml.safe_load(file.read_text())
    assert [path.name for path in file.parent.iterdir()] == ["slurm.yaml"]


def test_another_name_is_used_when_it_is_named(person: Person) -> None:
    done = person.hpctf("site", "init", "alpha", "--json")
    told = json.loads(done.stdout)
    assert told["name"] == "alpha" and not told["used_by_default"]
    assert "export HPCTF_SITE=alpha" in done.stderr
    shown = json.loads(person.hpctf("site", "show", "--json", HPCTF_SITE="alpha").stdout)
    assert shown["name"] == "alpha" and shown["targets"]["normal"]["slots"] == 16


def test_the_admins_file_is_for_everybody(person: Person) -> None:
    folder = person.home / "shared"
    folder.mkdir()
    shutil.chown(folder, person.user)
    scratch = person.home / "scratch"
    scratch.mkdir()
    shutil.chown(scratch, person.user)
    where = {"HPCTF_ADMIN_FOLDER": str(folder), "SCRATCH": str(scratch)}
    made = person.hpctf("site", "init", "--admin", **where)
    file = Path(made.stdout.strip())
    assert file == folder / "sites/slurm.yaml"
    assert file.stat().st_mode & 0o777 == 0o644
    says = yaml.safe_load(file.read_text())
    assert says["runs_root"] == "$SCRATCH/hpctf-runs"
    assert says["environments"]["store"] == "$SCRATCH/hpctf-environments"

    refused = person.hpctf("site", "init", check=False, **where)
    assert refused.returncode == 2 and "Your admin describes site 'slurm'" in refused.stderr
    shown = json.loads(person.hpctf("site", "show", "--json", **where).stdout)
    assert shown["description"].startswith("Cluster hpctf")


@pytest.mark.parametrize("person", [TEST_USER], indirect=True)
def test_where_nothing_may_be_written(person: Person) -> None:
    locked = person.home / "locked"
    locked.mkdir(mode=0o755)
    os.chown(locked, 0, 0)
    words = ["site", "init", "--to", str(locked / "site.yaml")]
    refused = person.hpctf(*words, check=False)
    assert refused.returncode == 3 and "Permission denied" in refused.stderr
    assert "Traceback" not in refused.stderr and list(locked.iterdir()) == []
    refused = person.hpctf("site", "init", "--admin", check=False, HPCTF_ADMIN_FOLDER=str(locked))
    assert refused.returncode == 3 and "--to FILE" in refused.stderr
