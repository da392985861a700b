"""Converts SavedModels to LiteRT, and compares what its interpreter answers: a script for hpctf's
own environment of exports.

A request holds ``models``; each has ``saved_model``, ``reference`` (what ``save.py`` wrote),
``to`` (the file to write), ``within`` and ``layers``. The answer has the largest difference, or why
it is ``refused``.
"""

import os
import re
import traceback
from typing import Any, Dict, List, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from hpctf_answers import answer_request, first_line
from hpctf_compare import compare
from hpctf_names import BATCH, dim_names, shown

_SIGNATURE = "serving_default"


def _answer(job: Dict[str, Any]) -> Dict[str, Any]:
    try:
        return convert(job)
    except Exception as error:  # of the converter's, the interpreter's
        traceback.print_exc()
        return {
            "refused": _why(str(error), job["layers"])
            or f"{type(error).__name__}: {first_line(error)}"
        }


def _why(said: str, layers: Sequence[str]) -> str:
    """Return which operations LiteRT has not, as its converter says, with their places:
    ``loc(fused["Betainc:", "model/beta/Betainc@function"]): error: 'tf.Betainc' op ...``."""
    named = []
    for line in said.splitlines():
        found = re.search(r"error: .*?'tf\.(\w+)' op ", line)
        place = re.search(r'"([^":@]+)@', line)
        if found:
            named.append(shown(found.group(1), place.group(1) if place else "", layers))
    return f"LiteRT has nothing for {', '.join(list(dict.fromkeys(named))[:4])}." if named else ""


def convert(job: Dict[str, Any]) -> Dict[str, Any]:
    """Write one model, and return how far its answers are from those on record."""
    converter = tf.lite.TFLiteConverter.from_saved_model(
        job["saved_model"], signature_keys=[_SIGNATURE]
    )
    content = converter.convert()
    runner = tf.lite.Interpreter(model_content=content).get_signature_runner(_SIGNATURE)

    def ask(names: Sequence[str], inputs: Dict[str, Any]) -> List[Any]:
        answers = runner(**inputs)
        return [answers[name] for name in names]

    largest, name = compare(ask, job["reference"])
    if not largest <= job["within"]:
        return {
            "refused": f"LiteRT answers otherwise than the model. Output {name!r} differs by "
            f"{largest:.1e}; at most {job['within']:.0e} is allowed."
        }
    with open(job["to"], "wb") as stream:
        stream.write(content)
    return {
        "largest": largest,
        "bytes": len(content),
        "inputs": _described(runner.get_input_details()),
        "outputs": _described(runner.get_output_details()),
    }


def _described(details: Dict[str, Any]) -> List[Dict[str, Any]]:
    free = [
        (name, axis, None)
        for name, one in details.items()
        for axis, size in enumerate(one["shape_signature"])
        if size < 0
    ]
    names = dim_names(free, [])
    return [
        {
            "name": name,
            "type": np.dtype(one["dtype"]).name,
            "shape": [
                names.get((name, axis), BATCH if size < 0 else int(size))
                for axis, size in enumerate(one["shape_signature"])
            ],
        }
        for name, one in details.items()
    ]


if __name__ == "__main__":
    answer_request(_answer)
