"""The JSON Schema files for editors: made from the model, and they take what hpctf takes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from hpctf.common.paths import SITE_CONFIGS
from hpctf.site.json_schema import project_schema, site_schema
from hpctf.site.loading import load_site
from tests.conftest import ROOT
from tests.support.projects import CLUSTER_SITE, hpctf

UPDATE = os.environ.get("HPCTF_UPDATE_GOLDEN") == "1"
FILES = {"site.schema.json": site_schema, "project.schema.json": project_schema}


def errors(text: str, schema: dict[str, Any]) -> list[str]:
    """Return what an editor would mark, as ``key: words``."""
    found = jsonschema.Draft202012Validator(schema).iter_errors(yaml.safe_load(text))
    return [f"{'.'.join(str(p) for p in one.absolute_path)}: {one.message}" for one in found]


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_that_of_the_model(name: str) -> None:
    path = ROOT / "docs" / name
    text = json.dumps(FILES[name](), indent=2) + "\n"
    if UPDATE:
        path.write_text(text)
    message = f"make it anew: HPCTF_UPDATE_GOLDEN=1 python -m pytest {__file__}"
    assert path.read_text() == text, message


@pytest.mark.parametrize("name", FILES)
def test_every_key_is_described(name: str) -> None:
    schema = FILES[name]()
    jsonschema.Draft202012Validator.check_schema(schema)
    for where, part in [("", schema), *schema["$defs"].items()]:
        for key, value in part["properties"].items():
            assert value.get("description"), f"say what {where}.{key} is in its docstring"


@pytest.mark.parametrize(
    "path", [CLUSTER_SITE, ROOT / "tests/cluster/site.yaml", *sorted(Path(SITE_CONFIGS).glob("*"))]
)
def test_site_files_are_taken(path: Path) -> None:
    assert errors(path.read_text(), site_schema()) == []


def test_the_example_of_the_docs_is_a_site_that_says_every_key(tmp_path: Path) -> None:
    text = (ROOT / "docs/sites.md").read_text()
    (example,) = re.findall(r"```yaml\n(# yaml-language-server.*?)```", text, re.DOTALL)
    assert errors(example, site_schema()) == []
    (tmp_path / "example.yaml").write_text(example)
    site = load_site(tmp_path / "example.yaml")
    said, keys = yaml.safe_load(example), site_schema()["properties"]
    assert set(keys) - set(said) == set(), "describe it in docs/sites.md"
    targets = {key for target in said["targets"].values() for key in target}
    assert set(site_schema()["$defs"]["Target"]["properties"]) - targets <= {"description"}
    assert site.targets["gpu"].gpu_request == "gres"


@pytest.mark.parametrize(
    "text",
    [
        "targets: {gpu: {account: x}}",
        "extends: slurm\nmpi: {plugin: null}",
        "targets: {gpu: {account: 7, time_limit: 30, mem: 4000, gpus: null}}",
        "directives: {exclusive: true, nice: 5, mem: false, comment: x}",
        "locked: [mpi.plugin]\nenvironments: {horovod: {build_variables: {CXX: g++}}}",
    ],
)
def test_layers_that_say_little_are_taken(text: str) -> None:
    assert errors(text, site_schema()) == []
    without_name = text.replace("extends: slurm\n", "")
    assert errors(f"site: slurm\n{without_name}", project_schema()) == []
    inner = json.dumps({"sites": {"slurm": yaml.safe_load(without_name), "local": None}})
    assert errors(inner, project_schema()) == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("schedular: slurm", ": Additional properties"),
        ("targets: {gpu: {slots: 0}}", "targets.gpu.slots"),
        ("mpi: {launcher: orterun}", "mpi.launcher"),
        ("modules: cuda", "modules"),
        ("ports: {first: 80}", "ports.first"),
    ],
)
def test_what_hpctf_refuses_is_marked(text: str, where: str) -> None:
    assert [one for one in errors(text, site_schema()) if one.startswith(where)]
    assert [one for one in errors(text, project_schema()) if one.startswith(where)]
    assert errors(json.dumps({"sites": {"a": yaml.safe_load(text)}}), project_schema())


def test_only_a_projects_file_chooses_a_site() -> None:
    assert errors("site: slurm", site_schema())
    assert errors("name: x", project_schema())


def test_the_command_prints_them(tmp_path: Path) -> None:
    assert json.loads(hpctf("site", "schema", cwd=tmp_path).stdout) == site_schema()
    printed = hpctf("site", "schema", "--project", cwd=tmp_path).stdout
    assert json.loads(printed) == project_schema()
