"""Asking an interpreter of this machine what its environment holds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from typing import Any

from hpctf.common.answers import PRINT, answer_of
from hpctf.scheduler.programs import ask

_TIMEOUT_S = 30


def ask_python(python: str, code: str, question: Any, variables: Mapping[str, str]) -> Any:
    """Return what `code` leaves as ``answer`` in an interpreter; None if it cannot be asked.

    Parameters
    ----------
    code
        Finds the question in ``question``; it may use ``json`` and ``sys``.
    question
        Anything that JSON holds.
    variables
        The person's own for the training: PYTHONPATH may be among them.
    """
    whole = f"import json, sys\nquestion = json.loads(sys.argv[1])\n{code}\n{PRINT}"
    try:
        # `-c` puts the current folder on the path, where anything may lie: not in that of `ask`.
        words = [python, "-c", whole, json.dumps(question)]
        return answer_of(ask(words, _TIMEOUT_S, kind="python", variables=variables).stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
