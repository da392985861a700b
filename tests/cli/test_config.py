"""``hpctf config`` says where each setting is from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.projects import hpctf

pytestmark = pytest.mark.slow


@pytest.fixture
def home(tmp_path: Path) -> Path:
    sites = tmp_path / "config/hpctf/sites"
    sites.mkdir(parents=True)
    (sites / "here.yaml").write_text("name: here\nextends: slurm\nmax_snapshot_mb: 7\n")
    (tmp_path / "job.yaml").write_text("script: train.py\nnodes: 2\n")
    return tmp_path


def config(home: Path, *words: str, **env: str) -> Any:
    env |= {"XDG_CONFIG_HOME": str(home / "config"), "HPCTF_SITE": "here"}
    done = hpctf("config", *words, cwd=home, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if "--json" in words else done.stdout


def test_each_value_has_its_origin(home: Path) -> None:
    found = config(home, "job.yaml", "--set", "mpi.plugin=pmi2", "--json", HPCTF_PIN_GPUS="true")
    origins = {one["key"]: (one["value"], one["origin"]) for one in found["values"]}

    assert found["site"] == "here"
    assert origins["max_snapshot_mb"][0] == 7
    assert origins["max_snapshot_mb"][1].endswith("config/hpctf/sites/here.yaml:3")
    assert origins["pin_gpus"] == (True, "HPCTF_PIN_GPUS")
    assert origins["mpi.plugin"] == ("pmi2", "--set mpi.plugin")
    assert origins["nodes"] == (2, "job.yaml")
    assert origins["umask"][1] == "hpctf's default"


def test_the_table_names_files_and_variables_and_leaves_defaults_out(home: Path) -> None:
    said = config(home, HPCTF_TOKEN="hunter2-hunter2")

    assert "config/hpctf/sites/here.yaml" in said
    assert "HPCTF_SITE" in said
    assert "hunter2" not in said
    assert "umask" not in said
    assert "umask" in config(home, "--all")
