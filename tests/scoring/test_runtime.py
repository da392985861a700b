"""In which environment a model is scored, as its record says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hpctf import Model
from hpctf.errors import UntrustedPath, UsageError
from hpctf.models.version import Version
from hpctf.scoring.runtime import runtime_of
from hpctf.site.model import Site


def registered(top: Path, name: str, plan: dict[str, Any] | None = None) -> Version:
    """Register a file of that name; `plan` is that of the run that made it."""
    (top / name).write_text("weights")
    folder = Model.register(top / name, "m", models_root=top / "models").folder
    if plan is not None:
        folder.run.mkdir()
        (folder.run / "plan.json").write_text(json.dumps(plan))
    return folder


def plan_of(python: str, container: Any = None) -> dict[str, Any]:
    return {
        "entry": {"python": python, "container": container},
        "launch": {"modules": ["cuda/12"]},
    }


def runtime(version: Version, python: str | None = None) -> Any:
    return runtime_of(version, Site("here"), python, print)


def test_onnx_has_hpctfs_own_environment(tmp_path: Path) -> None:
    spec = runtime(registered(tmp_path, "m.onnx")).spec
    assert spec.key.startswith("scoring-py3.")


def test_all_else_has_the_python_of_its_run_with_its_modules(tmp_path: Path) -> None:
    found = runtime(registered(tmp_path, "m.keras", plan_of(sys.executable)))
    assert (found.spec, found.python, found.modules) == (None, sys.executable, ("cuda/12",))
    named = runtime(registered(tmp_path, "m.keras"), "/opt/tf/bin/python")
    assert named.python == "/opt/tf/bin/python"


@pytest.mark.parametrize(
    "plan", [None, plan_of("/gone/bin/python"), plan_of(sys.executable, {"image": "x.sif"}), {}]
)
def test_a_model_that_does_not_say_where_it_can_be_loaded_is_refused(
    tmp_path: Path, plan: dict[str, Any] | None
) -> None:
    with pytest.raises(UsageError, match="does not say in which environment") as refused:
        runtime(registered(tmp_path, "m.h5", plan))
    assert "--python EXE" in str(refused.value)


def test_a_record_that_others_could_have_written_is_not_executed(tmp_path: Path) -> None:
    version = registered(tmp_path, "m.keras", plan_of(sys.executable))
    (version.run / "plan.json").chmod(0o666)
    with pytest.raises(UntrustedPath, match="The record of the model's run"):
        runtime(version)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no ONNX or Keras model"):
        runtime(registered(tmp_path, "m.pkl"), sys.executable)
