"""A registered model in ONNX or LiteRT: a file that answers as the model does, or nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.common.files import cannot_write
from hpctf.common.folders import remove_tree
from hpctf.common.notes import notify
from hpctf.common.numbered import hidden_name, remove_abandoned
from hpctf.environment.progress import Tell, tell_nobody
from hpctf.errors import UsageError
from hpctf.model import Model, about_of
from hpctf.models import sources
from hpctf.models.export.exporter import export_models
from hpctf.models.export.options import (
    KINDS,
    NEWEST_OPSET,
    Exported,
    Options,
    Source,
    weights_of,
)
from hpctf.models.export.training_python import exporting_python, training_python
from hpctf.models.training_code import checked_imports, unpack
from hpctf.site.loading import load_site

if TYPE_CHECKING:
    from hpctf.site.model import Site


@dataclass(frozen=True)
class Export:
    """An exported model: its facts, and the versions that it and its variant were registered as."""

    exported: Exported
    models: Sequence[Model] = ()


def export_onnx(
    model: Model | str,
    out: str | os.PathLike[str] | None = None,
    *,
    opset: int = NEWEST_OPSET,
    quantize: str | None = None,
    within: float = 1e-2,
    imports: Sequence[str] = (),
    allow_code: bool = False,
    python: str | None = None,
    register: bool = False,
    force: bool = False,
    site: Site | str | None = None,
    tell: Tell = tell_nobody,
) -> Export:
    """Export a registered model to ONNX, and verify that it answers as before (docs/models.md).

        exported = hpctf.export_onnx("digits@champion", "models").exported
        onnxruntime.InferenceSession(exported.path)

    Parameters
    ----------
    model
        The model, or its name: ``digits``, ``digits:3`` or ``digits@champion``.
    out
        A file that ends in ``.onnx``, or a folder for ``<name>-<version>.onnx``; by default the
        working directory, and with `register` none.
    opset
        ONNX's operator set, up to 18.
    quantize
        ``int8`` or ``fp16``: a variant is written beside it, if it is smaller or faster and differs
        by no more than `within`, relative to an output's largest number above 1.
    imports
        Modules that define layers and models of the training's own, or files with such code
        (``layers.py``). They are run. Those of the code on record are found without.
    allow_code
        Whether Lambda layers are loaded, whose code lies in the model's file.
    python
        The Python that loads the model, in place of the one that trained it.
    register
        Whether it is registered as the next version of ``<name>-onnx``, and a variant that is kept
        of ``<name>-onnx-int8``; the properties say which version it was made of.
    force
        Whether files that have the names are replaced.
    tell
        Takes the words of each step.

    Raises
    ------
    UsageError
        The model is not one of Keras' or TensorFlow's, or a file exists.
    ExportError
        It cannot be converted, or answers otherwise than before: nothing was written.
    BuildError, SiteError
        An environment cannot be built.
    """
    options = Options("onnx", opset, quantize, within, tuple(imports), allow_code)
    return _export(model, out, options, python, register, force, site, tell)


def export_litert(
    model: Model | str,
    out: str | os.PathLike[str] | None = None,
    *,
    imports: Sequence[str] = (),
    allow_code: bool = False,
    python: str | None = None,
    register: bool = False,
    force: bool = False,
    site: Site | str | None = None,
    tell: Tell = tell_nobody,
) -> Export:
    """Export a registered model to LiteRT, as `export_onnx` does to ONNX: a file ``.tflite``."""
    options = Options("litert", imports=tuple(imports), allow_code=allow_code)
    return _export(model, out, options, python, register, force, site, tell)


def _export(
    model: Model | str,
    out: str | os.PathLike[str] | None,
    options: Options,
    python: str | None,
    register: bool,
    force: bool,
    site: Site | str | None,
    tell: Tell,
) -> Export:
    chosen = load_site(site) if site is None or isinstance(site, str) else site
    found = Model(model, site=chosen) if isinstance(model, str) else model
    _check_kind(found, options)
    options = replace(options, imports=checked_imports(options.imports, chosen))
    target = None if out is None and register else _target(found, out, options.ending)
    if target is not None and not force:
        _refuse_existing(target, options)
    trained = training_python(found.folder, chosen, python, tell)
    exporting = exporting_python(chosen, tell)
    if trained is None:
        notify(
            f"No Python that trained {found.id} is on record with TensorFlow: hpctf's own "
            "environment for exports loads it. To choose another: --python EXE"
        )
    with _work_folder(target, found.registry.root) as folder:
        code = unpack(found.folder, chosen, folder / ".code", bool(options.imports))
        stem = f"{found.name}-{found.version}" if target is None else target.stem
        source = Source(found.id, stem, found.path, found.record.kind, *(code or ()))
        [made] = export_models([source], options, trained or exporting, exporting, folder, tell)
        if not isinstance(made, Exported):
            raise made
        _note_other_tensorflow(found, made)
        registered = _register(found, made, options) if register else []
        if target is not None:
            made = _put_into_place(made, target)
    return Export(made, registered)


def _check_kind(model: Model, options: Options) -> None:
    kind = model.record.kind
    if kind not in KINDS:
        already = f"is in {options.format_name} already"
        what = already if kind == options.form else f"is {model.record.path!r}"
        raise UsageError(
            f"Cannot export model {model.id}: it {what}, and hpctf exports .keras and .h5 files of "
            "Keras', and SavedModels.",
            f"Copy its files instead: hpctf models download {model.id}",
        )


def _target(model: Model, out: str | os.PathLike[str] | None, ending: str) -> Path:
    """Return the file that a model's export is to be."""
    path = Path(os.path.abspath(os.path.expanduser(os.curdir if out is None else out)))
    return path if path.suffix == ending else path / f"{model.name}-{model.version}{ending}"


def _refuse_existing(target: Path, options: Options) -> None:
    variant = target.with_name(f"{target.stem}-{options.quantize}{options.ending}")
    for path in (target, weights_of(target), variant, weights_of(variant)):
        if os.path.lexists(path):
            raise UsageError(
                f"{str(path)!r} exists already.", "Name another one (--out), or pass --force."
            )


@contextlib.contextmanager
def _work_folder(target: Path | None, root: Path) -> Iterator[Path]:
    """Yield a folder of one's own, on the file system of the target, or of the models root if the
    export is only registered: a /tmp in memory would not hold a large model. It is removed, and so
    are folders above it that were made for an export that has failed."""
    above = root if target is None else target.parent
    made: Path | None = None
    new: list[Path] = []
    try:
        if target is None:
            remove_abandoned(root)  # of exports that were killed
        new = [folder for folder in (above, *above.parents) if not folder.exists()]
        above.mkdir(parents=True, exist_ok=True)
        place = above / hidden_name()
        place.mkdir(mode=0o700)
        made = place
        yield made
    except OSError as error:
        raise cannot_write(made or above, error) from None
    finally:
        if made is not None:
            with contextlib.suppress(OSError):
                remove_tree(made)
        with contextlib.suppress(OSError):  # those that hold an export stay
            for folder in new:
                folder.rmdir()


def _note_other_tensorflow(model: Model, made: Exported) -> None:
    """Say so if another TensorFlow than that of the training has loaded a model."""
    record = model.record
    trained = record.framework_version
    if record.run is not None and trained and trained != made.tensorflow:
        notify(
            f"{model.id} was trained with TensorFlow {trained}, but {made.tensorflow} has loaded "
            "it: it may answer otherwise than it did. To choose another: --python EXE"
        )


def _put_into_place(made: Exported, target: Path) -> Exported:
    """Move an export to its folder: weights first, so that whoever sees the model has them."""
    names = [path.name for path in made.files]
    for path in reversed(made.files):
        os.replace(path, target.with_name(path.name))
    if weights_of(target).name not in names:
        weights_of(target).unlink(missing_ok=True)  # of what it has replaced
    variant = made.variant
    if variant is not None and variant.path is not None:
        variant = replace(variant, path=target.with_name(variant.path.name))
    return replace(made, path=target, variant=variant)


def _register(model: Model, made: Exported, options: Options) -> list[Model]:
    """Register an export and its variant beside the model, as versions of names of their own."""
    name = f"{model.name}-{options.form}"
    found = [_registered(model, name, made.path, made, made.largest, options)]
    variant = made.variant
    if variant is not None and variant.path is not None:
        name = f"{name}-{variant.kind}"
        found.append(_registered(model, name, variant.path, made, variant.largest, options))
    return found


def _registered(
    model: Model,
    name: str,
    path: Path,
    made: Exported,
    largest: float | None,
    options: Options,
) -> Model:
    properties: dict[str, Any] = {"exported_from": model.id, "largest_difference": largest}
    properties |= {} if made.opset is None else {"opset": made.opset}
    about = about_of(model.tags, properties, model.description, options.framework)
    source, made_of = sources.of_path(path), model.record.run
    return Model.of(model.registry, model.registry.register(name, source, about, None, made_of))
