"""What the options of ``hpctf tune`` say: the space, further objectives, trials that come first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.common.absence import absence_of
from hpctf.common.command_line import check_path
from hpctf.errors import UsageError

if TYPE_CHECKING:
    from hpctf.tuning.trials import Define

_ENQUEUE = """Write --enqueue '{"lr": 0.01}'."""


def space_of_options(params: tuple[str, ...], file: str | None) -> dict[str, Any] | Define:
    """Return the space that ``--param`` and ``--space`` describe."""
    from hpctf.site.yaml_files import NotReadable, read_text
    from hpctf.tuning.functions import function_of_file
    from hpctf.tuning.spaces import parse_parameters, parse_space

    found: dict[str, Any] = {}
    if file is not None:
        check_path("--space", file)
        if file.endswith(".py"):
            if params:
                raise UsageError(
                    "--param and a --space that is a function contradict each other.",
                    "Draw the parameter in the function.",
                )
            return function_of_file(Path(file).expanduser())
        try:
            text = read_text(Path(file).expanduser())
        except FileNotFoundError:
            absence = absence_of(Path(file).expanduser())
            raise UsageError(f"--space {file} {absence}.", "Check the path.") from None
        except NotReadable as error:
            raise UsageError(f"--space {file} cannot be read: {error}.") from None
        found.update(parse_space(text, file))
    found.update(parse_parameters(params))
    if not found:
        raise UsageError(
            "There is nothing to vary.", "Pass --param 'lr=loguniform(1e-5, 1e-1)', or --space."
        )
    return found


def objective(text: str) -> tuple[str, str]:
    """Return the metric and the goal of an ``--objective``."""
    name, _, goal = text.rpartition("=")
    if not name:
        raise UsageError(f"--objective {text} has no goal.", "Use --objective latency=minimize.")
    return name, goal


def parameters(text: str) -> dict[str, Any]:
    """Return the parameters of an ``--enqueue``."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--enqueue {text} is not JSON: {error}.", _ENQUEUE) from None
    if not isinstance(found, dict):
        raise UsageError(f"--enqueue {text} has no names.", _ENQUEUE)
    return found
