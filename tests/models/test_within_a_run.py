"""A script registers its model itself, by hpctf's own names and by Azure ML's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hpctf import Model
from tests.support.projects import hpctf

SCRIPT = """
import json
{by}
run = Run.get_context()
with open("outputs/weights", "w") as file:
    file.write("0.5")
first = run.register_model("digits", "outputs/weights", {{"data": "a=b"}}, description="small")
kept = "outputs/weights"
second = run.register_model(model_name="digits", model_path=kept, properties={{"n": 1}})
try:
    run.register_model("not a name", "outputs/weights")
except RuntimeError as error:
    refused = str(error)
with open("outputs/told", "w") as file:
    json.dump([first.id, second.version, second.name, first.tags, refused], file)
"""
BY = ["from hpctf import Run", "from azureml.core import Run"]


@pytest.mark.parametrize("by", BY)
def test_a_script_registers_its_model(by: str, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project/train.py").write_text(SCRIPT.format(by=by))
    words = ("submit", "--site", "local", "--python", sys.executable, "--wait", "project/train.py")
    submitted = hpctf(*words, cwd=tmp_path)
    assert submitted.returncode == 0, submitted.stderr
    run = submitted.stdout.strip()
    told = json.loads((tmp_path / "runs/train" / run / "outputs/told").read_text())
    assert told[:4] == ["digits:1", 2, "digits", {"data": "a=b"}]
    assert told[4].startswith("run.register_model('not a name'): ")

    latest = Model("digits", models_root=tmp_path / "runs/.models")
    assert latest.id == "digits:2" and latest.run_id == run
    assert Path(latest.path).read_text() == "0.5"
