"""Scores models as batch scoring does, and compares with what an export has on record: a script.

Its arguments are the folder of the scoring worker, and a file that holds for each model what
``score.json`` would, and its ``reference``. It prints the largest difference of each.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

folder = os.path.normpath(sys.argv[1])
sys.path.insert(0, os.path.dirname(folder))
models = importlib.import_module(os.path.basename(folder) + ".models")
del sys.path[0]

with open(sys.argv[2]) as stream:
    asked = json.load(stream)
found = {}
for about in asked:
    model = models.load_model(about)
    from hpctf_compare import compare  # where the loading is from, too

    def ask(names, inputs, model=model):
        given = {one.name: inputs[one.name].astype(one.dtype) for one in model.inputs}
        outputs = model.score(given, len(next(iter(given.values()))), 5)
        return [
            outputs[name].astype(object) if outputs[name].dtype.kind == "U" else outputs[name]
            for name in names
        ]

    found[about["id"]], _ = compare(ask, about["reference"])
print(json.dumps(found))
