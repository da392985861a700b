"""Trains under Keras 3 on all ranks, and once more in one process on the whole batches.

Started by test_keras.py with mpirun, in the training environment, and started once: each case is
cheap, the start is not. Every rank writes what became of each case to the folder that is named;
more words name the cases, by default all of them.
"""

import importlib
import json
import os
import sys
import traceback

import model_cases  # noqa: F401  (it notes its cases)
import optimizer_cases  # noqa: F401
from comparing import CASES, FOLDER, RANK, case, message_of


@case
def horovods_own_modules():
    """Last of all, since who insists gets what would train wrong."""
    names = ("horovod.tensorflow.keras", "horovod.keras")
    said = {name: message_of(lambda name=name: importlib.import_module(name)) for name in names}
    os.environ["HPCTF_ALLOW_HOROVOD_KERAS"] = "1"
    module = importlib.import_module(names[0])
    return {"refused": said, "insisted": type(module.__loader__).__name__}


def main():
    chosen = sys.argv[2:] or list(CASES)
    answers = {}
    for name in chosen:
        try:
            answers[name] = CASES[name]()
        except Exception:
            answers[name] = {"error": traceback.format_exc()}
            (FOLDER / f"rank-{RANK}.json").write_text(json.dumps(answers))
            print(f"rank {RANK}: {name}:", answers[name]["error"], file=sys.stderr, flush=True)
            sys.exit(1)  # the other ranks would wait for ever
    (FOLDER / f"rank-{RANK}.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
