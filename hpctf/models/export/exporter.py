"""Exports models: loaded, converted, verified, and put into place whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpctf._version import __version__
from hpctf.environment.progress import Tell, tell_nobody
from hpctf.errors import ExportError
from hpctf.models.export.options import (
    EXTERNAL_FROM,
    MOST,
    MOST_OF_HALF,
    Exported,
    Options,
    Source,
    Variant,
)
from hpctf.models.export.steps import Python, run

Outcome = Exported | ExportError
"""What came of a model: one that cannot be exported does not keep others from it."""


def export_models(
    sources: Sequence[Source],
    options: Options,
    training: Python,
    exporting: Python,
    folder: Path,
    tell: Tell = tell_nobody,
    external_from: int = EXTERNAL_FROM,
) -> list[Outcome]:
    """Export models into a folder of their own, each to ``<stem>.onnx`` or ``<stem>.tflite``.

    One process of the training's Python loads all of them, one of hpctf's environment converts
    them, and one verifies them (LiteRT's is the same).

    Parameters
    ----------
    folder
        Empty, and nobody else's: it holds SavedModels and logs, too.

    Raises
    ------
    ExportError
        One of the processes did not answer.
    """
    tell(f"Loading with {training.what}")
    found = _loaded(sources, options, training, folder)
    if options.form == "litert":
        tell("Converting to LiteRT, and comparing what it answers with what the model answers")
        found = _in_litert(sources, found, options, exporting, folder)
    else:
        tell(f"Converting to ONNX, opset {options.opset}")
        found = _converted(sources, found, options, exporting, folder, external_from)
        tell("Comparing what ONNX Runtime answers with what the model answers")
        found = _verified(sources, found, options, exporting, folder)
    return [
        _outcome(source, answer, options, folder)
        for source, answer in zip(sources, found, strict=True)
    ]


def _loaded(
    sources: Sequence[Source], options: Options, training: Python, folder: Path
) -> list[dict[str, Any]]:
    jobs = []
    for source in sources:
        to = folder / source.stem
        to.mkdir()
        jobs.append(
            {
                "path": str(source.path),
                "kind": source.kind,
                "to": str(to),
                "code": None if source.code is None else str(source.code),
                "script": source.script,
                "imports": list(options.imports),
                "allow_code": options.allow_code,
            }
        )
    return run("save", training, jobs, folder)


def _stepped(
    script: str,
    python: Python,
    sources: Sequence[Source],
    found: list[dict[str, Any]],
    folder: Path,
    job_of: Callable[[Source, dict[str, Any]], dict[str, Any]],
) -> list[dict[str, Any]]:
    """Run a script on the models that are not refused yet, and return what is known of all then."""
    pairs = zip(sources, found, strict=True)
    jobs = [job_of(source, answer) for source, answer in pairs if "refused" not in answer]
    answers = iter(run(script, python, jobs, folder) if jobs else [])
    return [one if "refused" in one else {**one, **next(answers)} for one in found]


def _converted(
    sources: Sequence[Source],
    found: list[dict[str, Any]],
    options: Options,
    exporting: Python,
    folder: Path,
    external_from: int,
) -> list[dict[str, Any]]:
    def job_of(source: Source, answer: dict[str, Any]) -> dict[str, Any]:
        return {
            "saved_model": str(folder / source.stem / "saved_model"),
            "to": str(folder / f"{source.stem}.onnx"),
            "opset": options.opset,
            "layers": answer["layers"],
            "external_from": external_from,
            "metadata": {
                "hpctf.model": source.id,
                "hpctf.version": __version__,
                "tensorflow": answer["tensorflow"],
                "keras": answer["keras"],
            },
        }

    return _stepped("convert", exporting, sources, found, folder, job_of)


def _verified(
    sources: Sequence[Source],
    found: list[dict[str, Any]],
    options: Options,
    exporting: Python,
    folder: Path,
) -> list[dict[str, Any]]:
    def job_of(source: Source, answer: dict[str, Any]) -> dict[str, Any]:
        return {
            "onnx": str(folder / f"{source.stem}.onnx"),
            "reference": str(folder / source.stem / "reference.npz"),
            "within": _most(answer),
            "layers": answer["layers"],
            "quantize": options.quantize,
            "variant": str(_variant_of(source, options, folder)),
            "variant_within": options.within,
        }

    # What the model takes and gives is as ONNX Runtime says it: types and shapes, too.
    return _stepped("verify", exporting, sources, found, folder, job_of)


def _in_litert(
    sources: Sequence[Source],
    found: list[dict[str, Any]],
    options: Options,
    exporting: Python,
    folder: Path,
) -> list[dict[str, Any]]:
    def job_of(source: Source, answer: dict[str, Any]) -> dict[str, Any]:
        return {
            "saved_model": str(folder / source.stem / "saved_model"),
            "reference": str(folder / source.stem / "reference.npz"),
            "to": str(folder / f"{source.stem}{options.ending}"),
            "within": _most(answer),
            "layers": answer["layers"],
        }

    return _stepped("litert", exporting, sources, found, folder, job_of)


def _most(answer: dict[str, Any]) -> float:
    return MOST_OF_HALF if answer.get("half") else MOST


def _variant_of(source: Source, options: Options, folder: Path) -> Path:
    return folder / f"{source.stem}-{options.quantize}.onnx"


def _outcome(source: Source, answer: dict[str, Any], options: Options, folder: Path) -> Outcome:
    if "refused" in answer:
        return ExportError(
            f"Cannot export model {source.id}: {answer['refused']}", answer.get("hint") or None
        )
    path = folder / f"{source.stem}{options.ending}"
    variant = None
    if "variant" in answer:
        variant = Variant(options.quantize or "", **answer["variant"])
        if variant.kept:
            variant = replace(variant, path=_variant_of(source, options, folder))
    return Exported(
        path=path,
        source=source.id,
        opset=answer.get("opset"),
        largest=answer["largest"],
        bytes=answer["bytes"],
        inputs=answer["inputs"],
        outputs=answer["outputs"],
        tensorflow=answer["tensorflow"],
        keras=answer["keras"],
        half=answer["half"],
        exact=tuple(answer["exact"]) if answer.get("exact") else None,
        variant=variant,
    )
