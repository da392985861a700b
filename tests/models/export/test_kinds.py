"""Every kind of model answers in ONNX Runtime as it did, or is refused with the reason."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hpctf.common.paths import EXPORT_SCRIPTS, SCORING_WORKER
from hpctf.common.units import file_size
from hpctf.errors import ExportError
from hpctf.models.export.exporter import Outcome
from hpctf.models.export.options import (
    MOST,
    MOST_OF_HALF,
    Exported,
    Options,
    Variant,
    weights_of,
)
from hpctf.models.export.steps import ON_CPU, Python, run
from hpctf.models.onnx_files import weight_files
from tests.models.export.conftest import HERE, NEWEST, export_kinds, kind_of
from tests.models.export.report import KIND, VARIANT
from tests.support.measured import note

KERAS_3 = (
    *("cnn", "lstm", "gru", "masked", "custom", "subclassed", "two", "attention", "sequential"),
    *("normalization", "strings", "mixed"),
)
EXPORTED = {
    **{kind: f"{kind}.keras" for kind in KERAS_3},
    "large": "large.keras",
    "module": "module",
    "two.saved": "two-saved",
    "cnn.h5": "cnn.h5",
    "lstm.h5": "lstm.h5",
    "gru.old": "gru-2.keras",
}
"""The twelve kinds by Keras 3; more than one file holds; TensorFlow alone; tf-keras' files."""

REFUSED = {
    "unsupported": r"ONNX has nothing for Betainc \(layer 'beta'\)",
    "noise": "answers the same question twice in different ways",
    "lambda_": "holds a Lambda layer, whose code lies in the file",
}


WITHIN = 0.05
"""How far variants may be off."""


@pytest.fixture(scope="module")
def folder(tensorflow: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp(f"kinds-{tensorflow}")


@pytest.fixture(scope="module")
def outcomes(python: str, exporting: Python, folder: Path) -> dict[str, Outcome]:
    """What came of each kind; the tests look at it."""
    kinds = {**EXPORTED, **{kind: f"{kind}.keras" for kind in REFUSED}}
    options = Options(quantize="int8", within=WITHIN)  # own_layers.py is found
    return export_kinds(python, exporting, kinds, options, folder)


def exported(outcome: Outcome) -> Exported:
    assert isinstance(outcome, Exported), outcome
    return outcome


@pytest.mark.parametrize("kind", EXPORTED)
def test_a_kind_answers_as_before(
    kind: str, outcomes: dict[str, Outcome], tensorflow: str, request: pytest.FixtureRequest
) -> None:
    made = exported(outcomes[kind])
    by = made.keras or "TensorFlow"
    words = f"{made.largest:.1e} ({by})" if made.largest else f"0 ({by})"
    note(request.node, KIND, kind, f"TensorFlow {tensorflow}", words)
    assert made.tensorflow.startswith(tensorflow)
    assert made.half == (kind == "mixed")
    if made.exact is None:
        assert made.largest <= (MOST_OF_HALF if made.half else MOST)
    else:  # TensorFlow 2.15 adds up in half precision
        export, model = made.exact
        assert kind == "mixed" and export <= MOST_OF_HALF < made.largest and export < model
    assert made.path.stat().st_size > 0 and made.opset == 18
    assert all(one["shape"][0] == "batch" for one in (*made.inputs, *made.outputs))


@pytest.mark.parametrize("kind", REFUSED)
def test_a_kind_that_cannot_be_exported_is_refused(
    kind: str, outcomes: dict[str, Outcome], folder: Path
) -> None:
    error = outcomes[kind]
    assert isinstance(error, ExportError)
    with pytest.raises(ExportError, match=REFUSED[kind]):
        raise error
    assert error.message.startswith(f"Cannot export model {kind}:1: ")
    assert not (folder / f"exported/{kind}.onnx").exists()


def test_inputs_and_outputs_keep_their_names(outcomes: dict[str, Outcome]) -> None:
    two = exported(outcomes["two"])
    assert [one["name"] for one in two.inputs] == ["one", "other"]
    assert [(one["name"], one["shape"]) for one in two.outputs] == [
        ("scores", ["batch", 2]),
        ("value", ["batch", 1]),
    ]
    [word] = exported(outcomes["strings"]).inputs
    assert word == {"name": "word", "type": "tensor(string)", "shape": ["batch", 1]}
    [steps] = exported(outcomes["lstm"]).inputs
    assert steps["shape"] == ["batch", f"{steps['name']}_1", 5]


def test_each_is_loaded_by_the_keras_that_wrote_it(
    outcomes: dict[str, Outcome], tensorflow: str
) -> None:
    exports = {kind: exported(outcomes[kind]) for kind in EXPORTED}
    by = {kind: one.keras.split(".")[0] for kind, one in exports.items()}
    of_its_time = tensorflow == "2.15"  # whose Keras is Keras 2
    assert {by[kind] for kind in KERAS_3} == {"Keras 2" if of_its_time else "Keras 3"}
    old = {by[kind] for kind in ("cnn.h5", "lstm.h5", "gru.old")}
    assert old == {"Keras 2" if of_its_time else "tf-keras 2"}


def test_weights_that_one_file_cannot_hold_lie_beside_it(outcomes: dict[str, Outcome]) -> None:
    large = exported(outcomes["large"])
    with open(large.path, "rb") as stream:
        assert weight_files(stream) == [weights_of(large.path).name]
    assert weights_of(large.path).stat().st_size > large.path.stat().st_size
    assert {*large.files} >= {large.path, weights_of(large.path)}
    inside = exported(outcomes["cnn"]).path
    with open(inside, "rb") as stream:
        assert weight_files(stream) == [] and not weights_of(inside).exists()


def test_every_kind_can_be_converted_with_its_weights_outside_the_graph(
    outcomes: dict[str, Outcome], exporting: Python, folder: Path, tensorflow: str
) -> None:
    """As a model of more than 2 GB is."""
    if tensorflow != NEWEST:
        return  # the SavedModels of each are alike
    asked = json.loads((folder / "exported/convert.json").read_text())["models"]
    jobs = [{**job, "to": f"{job['to']}.outside", "external_from": 1} for job in asked]
    found = run("convert", exporting, jobs, folder)
    converted = [job for job, answer in zip(jobs, found, strict=True) if "refused" not in answer]
    assert len(converted) == len(EXPORTED)
    checks = [
        {
            "onnx": job["to"],
            "reference": str(Path(job["saved_model"]).with_name("reference.npz")),
            "within": MOST if "mixed" not in job["to"] else MOST_OF_HALF,
            "layers": [],
        }
        for job in converted
    ]
    assert not [
        answer for answer in run("verify", exporting, checks, folder) if "refused" in answer
    ]
    names = [path.name for path in (folder / "exported").iterdir()]
    assert not [name for name in names if name.startswith("tmp")], "the weights' file is removed"


def test_a_variant_is_kept_where_it_is_worth_it(outcomes: dict[str, Outcome]) -> None:
    kept = exported(outcomes["large"]).variant
    assert kept is not None and kept.kept and kept.path is not None and kept.path.exists()
    assert kept.bytes is not None and kept.bytes_before is not None
    assert kept.bytes < kept.bytes_before and kept.largest is not None and kept.largest <= 0.05
    assert not list(kept.path.parent.glob("mixed-int8*"))
    half = exported(outcomes["mixed"]).variant
    assert half is not None and not half.kept and half.why.startswith("it cannot be made")


def test_variants_of_all_kinds(
    outcomes: dict[str, Outcome],
    exporting: Python,
    folder: Path,
    tensorflow: str,
    request: pytest.FixtureRequest,
) -> None:
    """What is kept is smaller or faster and near enough; the page of kinds says which."""
    if tensorflow != NEWEST:
        return  # what is quantised is ONNX
    stems = {kind: kind.replace(".", "-") for kind in EXPORTED}
    made = folder / "exported"
    jobs = [
        {
            "onnx": str(made / f"{stem}.onnx"),
            "reference": str(made / stem / "reference.npz"),
            "within": MOST_OF_HALF,
            "layers": [],
            "quantize": "fp16",
            "variant": str(folder / f"{stem}-fp16.onnx"),
            "variant_within": WITHIN,
        }
        for stem in stems.values()
    ]
    halves = run("verify", exporting, jobs, folder)
    for kind, half in zip(stems, halves, strict=True):
        whole = exported(outcomes[kind]).variant
        assert whole is not None
        for name, variant in (("int8", whole), ("fp16", Variant("fp16", **half["variant"]))):
            note(request.node, VARIANT, kind, name, told(variant))
            if variant.kept:
                assert variant.bytes and variant.bytes_before and variant.seconds_before
                assert variant.largest is not None and variant.largest <= WITHIN
                smaller = variant.bytes < variant.bytes_before
                assert smaller or variant.seconds < variant.seconds_before  # type: ignore[operator]
            else:
                assert variant.why
        assert (folder / f"{stems[kind]}-fp16.onnx").exists() == half["variant"]["kept"]


def told(variant: Variant) -> str:
    """Return what the page says of a variant."""
    if variant.bytes is None or variant.bytes_before is None:
        return f"not kept: {variant.why.split(':')[0]}"
    sizes = f"{file_size(variant.bytes_before)} to {file_size(variant.bytes)}"
    kept = "" if variant.kept else "not kept: "
    assert variant.seconds and variant.seconds_before
    speed = f"{variant.seconds_before / variant.seconds:.2f} × as fast"
    return f"{kept}{sizes}, {speed}, {variant.largest:.1e}"


def test_what_answers_otherwise_is_refused_and_half_precision_is_smaller(
    outcomes: dict[str, Outcome], exporting: Python, folder: Path
) -> None:
    made = folder / "exported"
    wrong = dict(np.load(made / "cnn/reference.npz"))
    name = next(name for name in wrong if name.startswith("out:7:"))
    wrong[name][3, 2] += 1e-4
    np.savez(folder / "wrong.npz", **wrong)
    layers = json.loads((made / "save.json.answer").read_text())[0]["layers"]
    job = {"onnx": str(made / "cnn.onnx"), "within": 1e-5, "layers": layers}
    half = {"quantize": "fp16", "variant": str(folder / "half.onnx"), "variant_within": 1e-2}
    refused, smaller, too_far = run(
        "verify",
        exporting,
        [
            {**job, "reference": str(folder / "wrong.npz")},
            {**job, **half, "reference": str(made / "cnn/reference.npz")},
            {**job, **half, "reference": str(made / "cnn/reference.npz"), "variant_within": 1e-9},
        ],
        folder,
    )
    assert "Output 'dense', of Softmax (layer 'dense'), differs by 1.0e-04" in refused["refused"]
    variant = smaller["variant"]
    assert variant["kept"] and variant["bytes"] < variant["bytes_before"]
    assert "at most 1e-09 is allowed" in too_far["variant"]["why"]
    assert not (folder / "half.onnx").exists()  # the last one was not kept


def test_each_is_scored_as_it_answers(
    outcomes: dict[str, Outcome], folder: Path, python: str
) -> None:
    """By what batch scoring loads models with, in the environment that trained them."""
    asked = [
        {
            "id": kind,
            "kind": kind_of(name),
            "path": str(folder / "made" / name),
            "scripts": EXPORT_SCRIPTS,
            "code": str(HERE),
            "script": "",
            "imports": [],
            "allow_code": False,
            "reference": str(folder / "exported" / kind.replace(".", "-") / "reference.npz"),
        }
        for kind, name in EXPORTED.items()
    ]
    (folder / "asked.json").write_text(json.dumps(asked))
    words = [python, "-s", str(HERE / "score_models.py"), SCORING_WORKER, folder / "asked.json"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **ON_CPU})
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == set(EXPORTED)
    assert {kind for kind, far in found.items() if far > MOST and kind != "mixed"} == set()
    assert found["mixed"] <= MOST_OF_HALF


IN_LITERT = ("cnn", "two", "sequential", "attention", "cnn.h5", "module")


def test_litert_answers_as_before_or_is_refused(
    outcomes: dict[str, Outcome], exporting: Python, folder: Path, tensorflow: str
) -> None:
    if tensorflow != NEWEST:
        return  # the SavedModels of each are alike
    made = folder / "exported"
    kinds = [kind.replace(".", "-") for kind in (*IN_LITERT, "unsupported", "lstm")]
    jobs = [
        {
            "saved_model": str(made / kind / "saved_model"),
            "reference": str(made / kind / "reference.npz"),
            "to": str(folder / f"{kind}.tflite"),
            "within": MOST,
            "layers": ["beta", "lstm"],
        }
        for kind in kinds
    ]
    *right, unsupported, lstm = run("litert", exporting, jobs, folder)
    assert not [answer for answer in right if "refused" in answer]
    assert all(answer["largest"] <= MOST for answer in right)
    assert right[0]["inputs"] == [
        {"name": "image", "type": "float32", "shape": ["batch", 12, 12, 3]}
    ]
    assert unsupported["refused"] == "LiteRT has nothing for Betainc (layer 'beta')."
    assert lstm["refused"].startswith("LiteRT has nothing for TensorListReserve (layer 'lstm')")
    assert {path.stem for path in folder.glob("*.tflite")} == set(kinds[:-2])
