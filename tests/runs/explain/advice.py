"""What a training environment says of names and scripts of old, for test_advice: JSON to JSON.

Reads what to write in the place of numpy's names; prints the errors that scripts get, and what is
wrong with following the advice.
"""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Iterator
from typing import Any


def error_of(script: str, names: dict[str, Any] | None = None) -> str:
    """Run a script, and return the traceback that it ends with; empty if it completes."""
    try:
        exec(compile(script, "train.py", "exec"), dict(names or {}))
    except BaseException:
        return traceback.format_exc()
    return ""


def numpy_names() -> Iterator[str]:
    """Yield the names that numpy itself has on its lists of what was removed, and older ones."""
    import numpy

    older = (
        "product",
        "cumproduct",
        "int0",
        "uint0",
        "bool8",
        "str0",
        "bytes0",
        "void0",
        "object0",
    )
    older += ("unicode", "typeDict", "math", "rank", "disp", "asscalar", "msort", "trapz", "in1d")
    for name in (*numpy.__expired_attributes__, *numpy.__former_attrs__, *older):
        if not hasattr(numpy, name):
            yield name


def is_code(words: str) -> bool:
    """Whether words are Python, and not a sentence."""
    try:
        compile(words, "train.py", "eval")
    except SyntaxError:
        return False
    return bool(words)


def of_numpy(instead: dict[str, str]) -> dict[str, Any]:
    import ast
    import inspect
    import math
    import warnings

    import numpy as np

    place: dict[str, Any] = {"np": np, "ast": ast, "inspect": inspect, "warnings": warnings}
    place |= {"math": math, "a": np.ones((1,)), "t": np.float32, "types": [np.float32], "text": "1"}
    place |= {"function": error_of, "formatter": {}, "file": ["1,2"]}
    found = {}
    for name in numpy_names():
        said = [error_of(f"import numpy as np; np.{name}"), error_of(f"from numpy import {name}")]
        codes = [words for words in re.split(r" \(or |\)$", instead[name]) if is_code(words)]
        if "(or " not in instead[name]:
            codes = [instead[name]] if is_code(instead[name]) else []
        found[name] = [said, len(codes), "".join(error_of(code, place) for code in codes)]
    return found


def tensorflow_1() -> Iterator[tuple[str, str]]:
    """Yield what TensorFlow 1 has and TensorFlow 2 has not: modules and their names."""
    import tensorflow as tf

    old = tf.compat.v1
    for module in ("", *(name for name in dir(old) if name in dir(tf))):
        there = getattr(old, module) if module else old
        here = getattr(tf, module) if module else tf
        if not module or hasattr(there, "__path__"):
            for name in sorted(set(dir(there)) - set(dir(here))):
                if not name.startswith("_"):
                    yield module, name


def of_tensorflow() -> dict[str, Any]:
    found = {}
    for module, name in tensorflow_1():
        dotted = ".".join(word for word in ("tf", module, name) if word)
        said = error_of(f"import tensorflow as tf; {dotted}")
        wrong = error_of(f"import tensorflow.compat.v1 as tf; {dotted}")
        found[dotted] = [said, wrong]
    return found


def main() -> None:
    """Answer what is asked for."""
    asked = json.load(sys.stdin)
    answer: dict[str, Any] = {
        "scripts": {name: error_of(s) for name, s in asked["scripts"].items()}
    }
    if "numpy" in asked:
        answer["numpy"] = of_numpy(asked["numpy"])
        answer["tensorflow"] = of_tensorflow()
    print("\n" + json.dumps(answer), flush=True)


main()
