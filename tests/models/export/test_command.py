"""``hpctf models export`` writes a file, registers it, or leaves everything as it was.

The scripts are stood in for: what they do is tried in test_kinds.
"""

from __future__ import annotations

import json
import platform
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import hpctf
from hpctf import Model, UsageError
from hpctf.cli.models import models
from hpctf.environment.lock import Lock
from hpctf.environment.spec import EnvironmentSpec
from hpctf.environment.store import LOCK_FILE
from hpctf.errors import BuildError, ExportError, HpctfError, UntrustedPath
from hpctf.models.export import exporter
from hpctf.models.export.options import Options
from hpctf.models.export.steps import Python, run
from hpctf.models.export.training_python import training_python
from hpctf.site.loading import load_site

Jobs = Sequence[Mapping[str, Any]]


class Scripts:
    """Stands for the three scripts: writes files, and answers as they do."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, Any]] = {
            "save": {"half": False, "layers": [], "tensorflow": "2.21.0", "keras": "Keras 3.15.1"},
            "convert": {"opset": 18},
            "verify": {"largest": 3e-7, "bytes": 5, "inputs": [], "outputs": []},
        }
        self.answers["litert"] = self.answers["verify"]
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pythons: dict[str, str] = {}
        self.external = False

    def __call__(self, script: str, python: Python, jobs: Jobs, folder: Path) -> list[Any]:
        [job] = jobs
        self.jobs[script], self.pythons[script] = dict(job), python.path
        if script in ("convert", "litert"):
            Path(job["to"]).write_text("onnx")
            if self.external:
                Path(job["to"] + ".data").write_text("weights")
        if job.get("quantize") and self.answers["verify"].get("variant", {}).get("kept"):
            Path(job["variant"]).write_text("int8")
        return [self.answers[script]]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Scripts:
    made = Scripts()
    monkeypatch.setattr(exporter, "run", made)
    monkeypatch.setattr(
        "hpctf.export.onnx_model.exporting_python", lambda *_: Python("exporting", "exporting")
    )
    return made


@pytest.fixture(autouse=True)
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setenv("HPCTF_SITE", "local")
    monkeypatch.setenv("HPCTF_MODELS_ROOT", str(tmp_path / "models"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "model.keras").write_text("keras")
    return Model.register(tmp_path / "model.keras", "digits", {"data": "mnist"})


def files() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*") if path.is_file())


def test_it_is_written_here_under_the_models_name(scripts: Scripts) -> None:
    done = CliRunner().invoke(models, ["export", "digits"])
    assert (done.exit_code, done.stdout) == (0, f"{Path('digits-1.onnx').absolute()}\n")
    assert "Largest difference to the model: 3.0e-07" in done.stderr
    assert "of digits:1 (TensorFlow 2.21.0, Keras 3.15.1)" in done.stderr
    assert files() == ["digits-1.onnx"]
    assert scripts.jobs["convert"]["metadata"]["hpctf.model"] == "digits:1"


def test_out_names_a_folder_or_a_file(scripts: Scripts) -> None:
    scripts.external = True
    hpctf.export_onnx("digits:1", "a/b")
    made = hpctf.export_onnx("digits@latest", "c/net.onnx").exported
    assert made.files == [Path(f"c/net.onnx{end}").absolute() for end in ("", ".data")]
    assert files() == [
        f"{name}.onnx{end}" for name in ("a/b/digits-1", "c/net") for end in ("", ".data")
    ]


def test_a_file_that_exists_stays_without_force(scripts: Scripts) -> None:
    Path("digits-1.onnx").write_text("old")
    with pytest.raises(UsageError, match="exists already"):
        hpctf.export_onnx("digits")
    assert not scripts.jobs and Path("digits-1.onnx").read_text() == "old"
    hpctf.export_onnx("digits", force=True)
    assert Path("digits-1.onnx").read_text() == "onnx"


@pytest.mark.parametrize("script", ["save", "convert", "verify"])
def test_a_refusal_writes_nothing(scripts: Scripts, script: str) -> None:
    scripts.answers[script] = {"refused": "It is not right.", "hint": "Make it right."}
    with pytest.raises(ExportError) as refused:
        hpctf.export_onnx("digits", "a/b")
    assert refused.value.message == "Cannot export model digits:1: It is not right."
    assert refused.value.hint == "Make it right." and refused.value.exit_code == 3
    assert files() == [] and not Path("a").exists()


def test_a_registered_export_says_what_it_was_made_of(scripts: Scripts, digits: Model) -> None:
    kept = {"kept": True, "largest": 0.004, "bytes": 2, "bytes_before": 5}
    scripts.answers["verify"]["variant"] = kept
    done = CliRunner().invoke(models, ["export", "digits", "--register", "--quantize", "int8"])
    assert done.stdout.split() == ["digits-onnx:1", "digits-onnx-int8:1"] and files() == []
    whole, variant = Model("digits-onnx"), Model("digits-onnx-int8")
    assert whole.properties == {
        "exported_from": "digits:1",
        "opset": 18,
        "largest_difference": 3e-7,
    }
    assert (whole.record.kind, whole.record.framework, whole.tags) == (
        *("onnx", "Onnx"),
        {"data": "mnist"},
    )
    assert variant.properties["largest_difference"] == 0.004
    assert variant.path.read_text() == "int8"
    del scripts.answers["verify"]["variant"]
    assert hpctf.export_onnx(digits, register=True).models[0].id == "digits-onnx:2"


def test_the_page_says_of_a_variant_what_was_measured(scripts: Scripts) -> None:
    scripts.answers["verify"]["variant"] = {
        "kept": False,
        "why": "it is neither smaller nor faster",
        "largest": 0.001,
        "bytes": 9_000,
        "bytes_before": 5_000,
        "seconds": 2e-4,
        "seconds_before": 1e-4,
    }
    done = CliRunner().invoke(models, ["export", "digits", "--quantize", "int8"])
    assert (
        "int8: not kept, since it is neither smaller nor faster: 9.0 kB in place of 5.0 kB; "
        "0.2 ms per batch of 64 in place of 0.1 ms; largest difference 1.0e-03"
    ) in done.stderr
    assert files() == ["digits-1.onnx"]


def test_litert_is_one_file_and_registered_beside_the_model(scripts: Scripts) -> None:
    done = CliRunner().invoke(models, ["export", "digits", "--format", "litert"])
    assert (done.exit_code, files()) == (0, ["digits-1.tflite"])
    assert "digits-1.tflite: 5 B, of digits:1" in done.stderr
    [model] = hpctf.export_litert("digits", register=True).models
    assert (model.id, model.record.kind) == ("digits-litert:1", "litert")
    done = CliRunner().invoke(models, ["export", "digits", "--format", "litert", "--opset", "9"])
    assert isinstance(done.exception, UsageError) and "--opset is for ONNX" in str(done.exception)


def test_json_holds_all_of_it(scripts: Scripts) -> None:
    found = json.loads(CliRunner().invoke(models, ["export", "digits", "--json"]).stdout)
    assert found["path"] == str(Path("digits-1.onnx").absolute())
    assert (found["opset"], found["largest"], found["models"]) == (18, 3e-7, [])


def test_what_is_no_model_of_tensorflows_is_refused(tmp_path: Path, scripts: Scripts) -> None:
    (tmp_path / "net.onnx").write_text("onnx")
    Model.register(tmp_path / "net.onnx", "net")
    with pytest.raises(UsageError, match="net:1: it is in ONNX already"):
        hpctf.export_onnx("net")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"opset": 19}, "opset is 19, but hpctf exports 9 to 18"),
        ({"quantize": "int4"}, "must be int8 or fp16"),
        ({"within": 1.0}, "must lie between 0 and 1"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Options(**options)


Given = Callable[..., Model]


@pytest.fixture
def with_run(digits: Model, tmp_path: Path) -> Given:
    """Gives a version the record of a run that was trained with a Python."""

    def give(python: str, container: object = None) -> Model:
        digits.folder.run.mkdir()
        plan = {
            "entry": {"python": python, "container": container},
            "launch": {"modules": []},
        }
        (digits.folder.run / "plan.json").write_text(json.dumps(plan))
        return digits

    return give


def python_with(tmp_path: Path, code: int) -> str:
    """Return a program that stands for a Python with TensorFlow (0) or without (1)."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\nexit {code}\n")
    path.chmod(0o755)
    return str(path)


def test_the_python_that_trained_it_loads_it(
    with_run: Given, tmp_path: Path, scripts: Scripts, caplog: pytest.LogCaptureFixture
) -> None:
    python = python_with(tmp_path, 0)
    with_run(python)
    CliRunner().invoke(models, ["export", "digits"])
    assert scripts.pythons == {"save": python, "convert": "exporting", "verify": "exporting"}
    assert not caplog.text


@pytest.mark.parametrize("container", [None, {"image": "x.sif"}])
def test_without_it_hpctfs_own_environment_loads_it(
    with_run: Given,
    tmp_path: Path,
    scripts: Scripts,
    container: object,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with_run(python_with(tmp_path, 0 if container else 1), container)
    CliRunner().invoke(models, ["export", "digits"])
    assert scripts.pythons["save"] == "exporting"
    assert "No Python that trained digits:1 is on record with TensorFlow" in caplog.text


def test_an_environment_that_is_gone_is_built_again_from_its_lock_or_nothing_is_exported(
    with_run: Given, scripts: Scripts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lock = with_run("/gone/bin/python").folder.run / LOCK_FILE
    python = tmp_path / "built"
    spec = EnvironmentSpec("pip", python=sys.executable, python_version=platform.python_version())
    lock.write_text(Lock("tf2.18-py3.11", spec, ("tensorflow==2.18.1",)).text())
    built: list[EnvironmentSpec] = []

    def build(spec: EnvironmentSpec, *_: object) -> Path:
        built.append(spec)
        return python

    monkeypatch.setattr("hpctf.models.export.training_python.ensure", build)
    done = CliRunner().invoke(models, ["export", "digits"])
    assert done.exit_code == 0 and scripts.pythons["save"] == str(python)
    assert [one.locked for one in built] == [("tensorflow==2.18.1",)]
    assert "is gone: building it again from its lock" in done.stderr

    def fail(*_: object) -> Path:
        raise BuildError("pip finds no tensorflow 2.18.1.")

    monkeypatch.setattr("hpctf.models.export.training_python.ensure", fail)
    with pytest.raises(BuildError, match="trained it cannot be built again: pip finds no") as no:
        hpctf.export_onnx("digits", force=True)
    assert "--python EXE" in str(no.value.hint) and str(lock) in str(no.value.hint)


def test_it_is_told_if_another_tensorflow_than_that_of_the_training_loads_it(
    digits: Model, scripts: Scripts, caplog: pytest.LogCaptureFixture
) -> None:
    record = digits.folder.path / "model.json"
    of_run = {"id": "r", "experiment": "e", "folder": "/gone"}
    found = {**json.loads(record.read_text()), "run": of_run, "framework_version": "2.18.1"}
    record.write_text(json.dumps(found))
    hpctf.export_onnx("digits")
    assert "trained with TensorFlow 2.18.1, but 2.21.0 has loaded it" in caplog.text
    scripts.answers["save"]["tensorflow"] = "2.18.1"
    caplog.clear()
    hpctf.export_onnx("digits", force=True)
    assert "2.18.1" not in caplog.text


def test_the_code_on_record_goes_along_if_nobody_else_could_have_written_it(
    digits: Model, scripts: Scripts, tmp_path: Path
) -> None:
    digits.folder.run.mkdir()
    layers = tmp_path / "layers.py"
    layers.write_text("class Scaled: ...")
    archive = digits.folder.run / "code.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(layers, "src/layers.py")
    hpctf.export_onnx("digits", imports=[str(layers), "src.layers"])
    assert Path(scripts.jobs["save"]["code"]).name == ".code"
    assert scripts.jobs["save"]["imports"] == [str(layers), "src.layers"]

    archive.chmod(0o666)
    hpctf.export_onnx("digits", force=True)
    assert scripts.jobs["save"]["code"] is None
    with pytest.raises(UntrustedPath, match="The code of the model's run"):
        hpctf.export_onnx("digits", force=True, imports=["layers"])
    with pytest.raises(UsageError, match=r"There is no file .*gone\.py"):
        hpctf.export_onnx("digits", force=True, imports=["gone.py"])


def test_a_python_of_ones_own_choice_must_have_tensorflow(digits: Model, tmp_path: Path) -> None:
    site = load_site("local")
    with pytest.raises(UsageError, match="has no TensorFlow"):
        training_python(digits.folder, site, python_with(tmp_path, 1))
    with pytest.raises(UsageError, match="there is no such program"):
        training_python(digits.folder, site, "no-such-python")
    found = training_python(digits.folder, site, python_with(tmp_path, 0))
    assert found is not None and found.path == str(tmp_path / "python")


def test_a_record_that_others_could_have_written_is_not_executed(
    with_run: Given, tmp_path: Path
) -> None:
    model = with_run(python_with(tmp_path, 0))
    (model.folder.run / "plan.json").chmod(0o666)
    with pytest.raises(UntrustedPath):
        training_python(model.folder, load_site("local"))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("echo ModuleNotFoundError: No module named onnx. >&2; exit 1", "exit code 1: ModuleNot"),
        ("kill -9 $$", "signal 9 ended it, as it is where memory is short"),
        ("exit 0", "exit code 0"),
    ],
)
def test_a_script_that_does_not_answer_is_one_sentence(body: str, why: str, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    with pytest.raises(ExportError, match=f"mine ended without an answer: {why}"):
        run("save", Python(str(program), "mine"), [], tmp_path)
    with pytest.raises(HpctfError, match="mine cannot be started: No such file"):
        run("save", Python(str(tmp_path / "none"), "mine"), [], tmp_path)
