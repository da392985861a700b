"""Which rank of which run this process belongs to, what it leaves on record of itself, and how it
ends if it must not train.
"""

import json
import os
import sys
from contextlib import suppress
from typing import Any, Dict, Mapping, NoReturn

SKIP = "HPCTF_SKIP_PREFLIGHT"
"""Set to 1 by who wants to train all the same."""

REFUSED = 78
"""Exit code of a rank that must not train (EX_CONFIG in sysexits.h)."""

_at_start: Dict[str, str] = {}


def begin(variables: Mapping[str, str]) -> None:
    """Note hpctf's variables as they were before the script could change its environment."""
    _at_start.update(variables)


def variable(name: str, default: str = "") -> str:
    """Return one of hpctf's variables as the rank's wrapper has set it."""
    return _at_start.get(name, default)


def name() -> str:
    """Return ``worker-0`` and so on: the name of the rank's files."""
    return f"{_at_start.get('HPCTF_ROLE')}-{_at_start.get('HPCTF_INDEX')}"


def host() -> str:
    """Return the name of the rank's node."""
    return os.uname().nodename


def world_size() -> int:
    """Return how many ranks the run has."""
    return int(_at_start.get("HPCTF_WORLD_SIZE") or 1)


def trains_with_others() -> bool:
    """Whether the ranks of this run are to find each other by MPI, and there are several."""
    return _at_start.get("HPCTF_BACKEND") == "mpi" and world_size() > 1


def leave(event: str, **what: Any) -> None:
    """Append to the rank's state file, once however many processes of the rank say the same.

    `hpctf.run_folder.worlds` reads it when the job ends.
    """
    if trains_with_others():
        _append(event, what)


def refused(words: str) -> None:
    """Put on record what the script is about to be refused by an exception: if it catches that and
    ends well, the run has not completed (`hpctf.node.conclude.passed_over`)."""
    _append("refusal", {"reason": words})


def _append(event: str, what: Dict[str, Any]) -> None:
    if _at_start.get(SKIP) == "1":
        return
    attempt = int(_at_start.get("HPCTF_RESTART_COUNT") or 0)
    record = {"event": event, "attempt": attempt, **what}
    line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
    path = os.path.join(_at_start.get("HPCTF_RUN_FOLDER", ""), "state", name() + ".jsonl")
    with suppress(OSError):  # a full disk must not end the training
        with open(path, "rb") as stream:
            known = stream.read()
        if line in known:
            return
        whole = line if known.endswith(b"\n") or not known else b"\n" + line
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)  # the wrapper's file: never a new one
        try:
            os.write(descriptor, whole)
        finally:
            os.close(descriptor)


def tell(words: str) -> None:
    """Say something on stderr."""
    sys.stderr.write(f"hpctf: {words}\n")


def end(words: str) -> NoReturn:
    """End this rank, and so the run, with a sentence and no traceback: a script that catches all
    would go on, also if this is not its main thread.

    Where a program passes the exit code over, the sentence on record is what the run fails with.
    """
    leave("refused", reason=words)
    try:
        _say(f"hpctf: {words}\n".encode("utf-8", "replace"))
    finally:
        os._exit(REFUSED)


def _say(line: bytes) -> None:
    """Write to the rank's log, and to where stderr goes if that is elsewhere. The script may have
    redirected, replaced or closed its streams."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):  # whatever the script has put in its place
            stream.flush()
    log = os.path.join(variable("HPCTF_RUN_FOLDER"), "logs", name() + ".log")
    written = -1
    with suppress(OSError):
        written = os.open(log, os.O_WRONLY | os.O_APPEND)  # the wrapper's file: never a new one
        os.write(written, line)
    with suppress(OSError):
        if written < 0 or not os.path.sameopenfile(written, 2):
            os.write(2, line)
