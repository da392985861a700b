"""The steps of an export, each a script in the Python that has what it needs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctf.common.files import PRIVATE_FILE, read_json, tail, write_json
from hpctf.common.paths import EXPORT_SCRIPTS
from hpctf.errors import ExportError
from hpctf.run_folder.failure_lines import LOOK_BACK, headline
from hpctf.scheduler.programs import environment_of

ON_CPU = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}
"""Where TensorFlow sees a GPU, it writes operations of cuDNN's into the graph (keras, #21799);
oneDNN's sums are in another order than those of ONNX Runtime's."""


@dataclass(frozen=True)
class Python:
    """An interpreter, and the environment that it is started in; `what` names it in messages."""

    path: str
    what: str
    variables: Mapping[str, str] | None = None


def run(
    script: str, python: Python, jobs: Sequence[Mapping[str, Any]], folder: Path
) -> list[dict[str, Any]]:
    """Run a script on jobs, one process for all of them, and return its answers.

    Parameters
    ----------
    folder
        Where the request, the answer and the log lie.

    Raises
    ------
    ExportError
        It did not answer: it could not be started, or was killed.
    """
    request, log = folder / f"{script}.json", folder / f"{script}.log"
    write_json(request, {"models": list(jobs)}, PRIVATE_FILE)
    answer = folder / f"{script}.json.answer"
    answer.unlink(missing_ok=True)
    variables = {**environment_of("python", python.variables), **ON_CPU}
    try:
        with log.open("wb") as stream:
            done = subprocess.run(
                [python.path, "-s", os.path.join(EXPORT_SCRIPTS, f"{script}.py"), request],
                env=variables,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                check=False,
            )
        return list(read_json(answer))
    except FileNotFoundError as error:
        if error.filename == python.path:
            raise ExportError(
                f"{python.what} cannot be started: {error.strerror}.",
                "Build the environment again: hpctf env remove ENVIRONMENT, then export again.",
            ) from None
    except OSError as error:
        raise ExportError(
            f"{python.what} cannot be started: {error.strerror}.",
            "Build the environment again: hpctf env remove ENVIRONMENT, then export again.",
        ) from None
    raise ExportError(
        f"{python.what} ended without an answer: {_reason(done.returncode, log)}.",
        "Free memory on this machine, or run the command on a larger one.",
    )


def _reason(code: int, log: Path) -> str:
    if code < 0:
        hint = ", as it is where memory is short" if code == -9 else ""
        return f"signal {-code} ended it{hint}"
    last = headline(tail(log, LOOK_BACK))
    return f"exit code {code}: {last[:300].rstrip('.')}" if last else f"exit code {code}"
