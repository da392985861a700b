"""``hpctf site explain``: every value, where it comes from, and what it overrode."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hpctf.common.paths import SITE_CONFIGS
from hpctf.site.explain import explain
from hpctf.site.loading import load_layers, load_site
from tests.support.projects import CLUSTER_SITE, hpctf


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an admin's and a project's layer over the site ``slurm``."""
    admin = Path(os.environ["HPCTF_ADMIN_FOLDER"]) / "sites"
    admin.mkdir(parents=True)
    (admin / "slurm.yaml").write_text("mpi:\n  plugin: pmix_v4\n\nlocked:\n  - mpi.launcher\n")
    (tmp_path / "hpctf.yaml").write_text("# ours\nmpi:\n  plugin: pmi2\n  options: [--x]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def explained(here: Path, *words: str, **env: str) -> dict[str, Any]:
    env = {"HPCTF_RUNS_ROOT": "", **env}
    done = hpctf("site", "explain", *words, "--json", cwd=here, env=env)
    assert done.returncode == 0, done.stderr
    return {one["key"]: one for one in json.loads(done.stdout)}


def test_a_value_comes_with_its_file_and_line_and_all_that_it_overrode(here: Path) -> None:
    plugin = explained(here, "mpi.plugin", "--site", "slurm")["mpi.plugin"]
    assert (plugin["value"], plugin["from"]) == ("pmi2", f"{here}/hpctf.yaml:3")
    assert (plugin["layer"], plugin["file"], plugin["line"]) == (
        "project",
        f"{here}/hpctf.yaml",
        3,
    )
    packaged = Path(SITE_CONFIGS) / "slurm.yaml"
    line = packaged.read_text().splitlines().index("  plugin: pmix") + 1
    assert [(one["value"], one["from"]) for one in plugin["overrode"]] == [
        ("pmix", "hpctf's default"),
        ("pmix", f"{packaged}:{line}"),
        ("pmix_v4", f"{os.environ['HPCTF_ADMIN_FOLDER']}/sites/slurm.yaml:2"),
    ]


def test_variables_and_settings_are_origins_too(here: Path) -> None:
    found = explained(
        here, "mpi", "--site", "slurm", "--set", "mpi.plugin=none", HPCTF_MPI__OPTIONS="[--y]"
    )
    assert {"mpi.launcher", "mpi.plugin", "mpi.options"} <= set(found)
    assert found["mpi.plugin"]["from"] == "--set mpi.plugin"
    assert found["mpi.options"]["from"] == "HPCTF_MPI__OPTIONS"
    assert found["mpi.options"]["overrode"][-1]["value"] == ["--x"]


def test_a_lock_is_shown_with_its_line(here: Path) -> None:
    found = explained(here, "--site", "slurm")
    lock = {"key": "mpi.launcher", "from": f"{os.environ['HPCTF_ADMIN_FOLDER']}/sites/slurm.yaml:5"}
    assert found["mpi.launcher"]["locked"] == lock
    assert found["mpi.plugin"]["locked"] is None


def test_every_value_of_the_site_is_there_and_each_is_the_one_that_holds() -> None:
    site = load_site(CLUSTER_SITE)
    found = {one.key: one for one in explain(load_layers(CLUSTER_SITE))}
    assert found["targets.gpu.directives.comment"].said.value == "it's hpctf"
    assert found["environments.horovod.version"].said.value == site.environments.horovod.version
    assert found["directives.mail-type"].said.origin.line is not None
    for key, one in found.items():
        if one.said.origin.layer == "default":
            assert one.overrode == (), key


def test_people_get_a_table(here: Path) -> None:
    done = hpctf("site", "explain", "mpi", "--site", "slurm", cwd=here)
    lines = [line.split() for line in done.stdout.splitlines()]
    at = lines.index(["mpi.plugin", "pmi2", f"{here}/hpctf.yaml:3"])
    assert lines[at + 1][:2] == ["over", "pmix_v4"]
    assert any(
        line[:2] == ["mpi.launcher", "srun"] and "mpi.launcher" in line[3:] for line in lines
    )


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("mpi.plugn", "Site 'slurm' has no key 'mpi.plugn'. Did you mean 'mpi.plugin'?"),
        ("plugin", "Did you mean 'mpi.plugin'?"),
        ("targets.gpu", "Site 'slurm' says nothing of 'targets.gpu'."),
        ("directives.mem", "Site 'slurm' says nothing of 'directives.mem'."),
        ("", "Site 'slurm' has no key ''."),
    ],
)
def test_an_unknown_key_is_wrong_usage(here: Path, key: str, words: str) -> None:
    done = hpctf("site", "explain", key, "--site", "slurm", cwd=here)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
