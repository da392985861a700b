"""``hpctf models export``: a registered model in ONNX or LiteRT."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import answer_json, given_of, json_option, say, site_option
from hpctf.cli.help_groups import GroupedCommand, in_group
from hpctf.cli.layer_options import LAYERS
from hpctf.common.terminal import visible
from hpctf.common.units import file_size, in_short
from hpctf.errors import UsageError
from hpctf.estimator.parameter import OUTPUT, SLURM

if TYPE_CHECKING:
    from hpctf.export.onnx_model import Export
    from hpctf.models.export.options import Variant


@click.command(cls=GroupedCommand)
@click.argument("name", metavar="MODEL")
@in_group(
    "Export",
    click.option(
        "--out", metavar="PATH", help="A file .onnx or .tflite, or a folder (default: here)."
    ),
    click.option(
        "--format",
        "form",
        type=click.Choice(["onnx", "litert"]),
        default="onnx",
        show_default=True,
        help="Format to export to.",
    ),
    click.option(
        "--register",
        is_flag=True,
        help="Register it as the next version of NAME-onnx or NAME-litert.",
    ),
    click.option(
        "--quantize",
        type=click.Choice(["int8", "fp16"]),
        help="Also write a smaller variant, if that is worth it.",
    ),
    click.option(
        "--within",
        type=float,
        default=0.01,
        show_default=True,
        help="The variant's answers may differ by at most this much.",
    ),
    click.option("--opset", type=int, default=18, show_default=True, help="ONNX's operator set."),
)
@in_group(
    "Loading the model",
    click.option(
        "--python", metavar="EXE", help="Python that loads the model (default: what trained it)."
    ),
    *LAYERS,
)
@in_group(SLURM, site_option)
@in_group(
    OUTPUT,
    click.option("-f", "--force", is_flag=True, help="Replace files of the same names."),
    json_option,
)
def export(name: str, form: str, as_json: bool, **options: Any) -> None:
    """Export MODEL to ONNX or LiteRT, and verify that it answers as before.

    The Python that trained the model loads it, and computes its answers for batches of 1, 7 and 64.
    An environment of hpctf's own converts it, and compares these with ONNX Runtime's answers. If
    they differ by more than 1e-5 (1e-3 in half precision), nothing is written.
    """
    from hpctf.environment.progress import telling
    from hpctf.export.onnx_model import export_litert, export_onnx

    if form == "litert":
        given = given_of(click.get_current_context(), options)
        for option in ("opset", "quantize", "within"):
            if option in given:
                raise UsageError(f"--{option} is for ONNX, and not for LiteRT.", "Leave it out.")
            del options[option]
    with telling() as tell:
        made = (export_litert if form == "litert" else export_onnx)(name, tell=tell, **options)
    if as_json:
        answer_json(_details(made))
        return
    for line in _page(made):
        say(visible(line))
    for answer in [model.id for model in made.models] or [str(made.exported.path)]:
        click.echo(visible(answer))


def _page(made: Export) -> list[str]:
    """Return the lines that describe an export."""
    exported = made.exported
    by = ", ".join(filter(None, (f"TensorFlow {exported.tensorflow}", exported.keras)))
    opset = "" if exported.opset is None else f", opset {exported.opset}"
    lines = [
        f"{exported.path.name}: {file_size(exported.bytes)}{opset}, of {exported.source} ({by})",
        f"Largest difference to the model: {exported.largest:.1e} (batches of 1, 7 and 64)",
    ]
    if exported.exact is not None:
        lines.append(
            "In single precision the model answers {:.1e} from that; its own answers in half "
            "precision are {:.1e} from it".format(*exported.exact)
        )
    for word, several in (("Input ", exported.inputs), ("Output", exported.outputs)):
        for one in several:
            shape = " × ".join(map(str, one["shape"])) or "one number"
            kind = one["type"].removeprefix("tensor(").removesuffix(")")
            lines.append(f"{word} {one['name']}: {kind}, {shape}")
    return lines + ([] if exported.variant is None else [_of_variant(exported.variant)])


def _of_variant(variant: Variant) -> str:
    facts = []
    if variant.bytes is not None and variant.bytes_before is not None:
        facts.append(f"{file_size(variant.bytes)} in place of {file_size(variant.bytes_before)}")
    if variant.seconds is not None and variant.seconds_before is not None:
        one, other = _milliseconds(variant.seconds), _milliseconds(variant.seconds_before)
        facts.append(f"{one} per batch of 64 in place of {other}")
    if variant.largest is not None:
        facts.append(f"largest difference {variant.largest:.1e}")
    told = "kept" if variant.kept else f"not kept, since {variant.why}"
    return f"{variant.kind}: {told}{': ' if facts else ''}{'; '.join(facts)}"


def _details(made: Export) -> dict[str, Any]:
    found = asdict(made.exported)
    found["path"] = None if made.models else str(made.exported.path)
    if found["variant"] is not None:
        path = found["variant"]["path"]
        found["variant"]["path"] = None if path is None or made.models else str(path)
    return {**found, "models": [model.id for model in made.models]}


def _milliseconds(seconds: float) -> str:
    return f"{in_short(float(f'{seconds * 1000:.2g}'))} ms"
