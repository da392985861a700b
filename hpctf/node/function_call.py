"""Runs a function entry, in the training environment: ``python call.py RUN_FOLDER VERSION``.

Standard library only, Python 3.8 and up. The function comes in submitit's DelayedSubmission,
pickled with the copy of cloudpickle that lies beside it, so neither package need be installed in
the training environment. Its bytecode is of the Python whose version is given, and of no other.
"""

import os
import pickle
import sys
import traceback
import types
from typing import Any, Tuple


class DelayedSubmission:
    """Stands for submitit's class of that name while its pickle is read."""


def load(folder: str) -> Tuple[Any, Any, Any]:
    """Return (function, args, kwargs) of the payload in `folder`."""
    sys.path.insert(0, folder)
    import cloudpickle  # noqa: F401  (the copy in `folder`)

    stand_ins = {name: types.ModuleType(name) for name in ("submitit", "submitit.core")}
    stand_ins["submitit.core.utils"] = types.ModuleType("submitit.core.utils")
    stand_ins["submitit.core.utils"].__dict__["DelayedSubmission"] = DelayedSubmission
    sys.modules.update(stand_ins)
    with open(os.path.join(folder, "payload.pkl"), "rb") as stream:
        payload = pickle.load(stream)
    for name in stand_ins:
        del sys.modules[name]
    sys.path.remove(folder)
    return payload.function, payload.args, payload.kwargs


def main(run_folder: str, version: str) -> int:
    """Call the function, leave its outcome for the rank's wrapper, return the exit code."""
    own = "{}.{}".format(*sys.version_info)
    if own != version:
        sys.exit(
            "hpctf: the function is of Python {}, but the training runs with Python {}: functions "
            "cannot go from one to the other. Put it in a script (entry_script), or use an "
            "environment of Python {} (python_version).".format(version, own, version)
        )
    folder = os.path.join(run_folder, "submitit")
    name = "{HPCTF_ROLE}-{HPCTF_INDEX}".format(**os.environ)
    first = 0 if getattr(sys.flags, "safe_path", False) else 1  # else this file's folder is first
    sys.path[:first] = [os.getcwd()]
    try:
        function, args, kwargs = load(folder)
        outcome = ("success", function(*args, **kwargs))
    except Exception:
        traceback.print_exc()
        outcome = ("error", traceback.format_exc())
    import cloudpickle

    try:
        data = cloudpickle.dumps(outcome)
    except Exception as error:
        traceback.print_exc()
        why = "{}: {}".format(type(error).__name__, " ".join(str(error).split()))
        print("hpctf: the return value cannot be pickled: " + why, file=sys.stderr, flush=True)
        outcome = ("error", "The return value cannot be pickled:\n" + traceback.format_exc())
        data = pickle.dumps(outcome)
    target = os.path.join(folder, f".{name}.pkl")
    with open(target + ".tmp", "wb") as stream:
        stream.write(data)
    os.replace(target + ".tmp", target)
    return 0 if outcome[0] == "success" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
