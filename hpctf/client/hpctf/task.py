"""Which part of a distributed training a process has, as its environment tells."""

import json
import os
from typing import Any, Dict, Mapping, NamedTuple, Optional

BACKENDS = ("single", "mpi", "ps", "collective")


class Task(NamedTuple):
    """What a process does in its run, and which share of the data is its own.

    Attributes
    ----------
    backend
        ``single``, ``mpi``, ``ps`` or ``collective``; ``single`` outside of a run.
    role
        ``chief``, ``worker`` or ``ps``.
    rank, size
        Its number among the processes that train, and how many of those there are: with ``ps`` the
        workers alone.
    """

    backend: str
    role: str
    rank: int
    size: int


def current_task(environ: Optional[Mapping[str, str]] = None) -> Task:
    """Return the task of a process.

    Parameters
    ----------
    environ
        The variables to read; by default the process's own.

    Raises
    ------
    ValueError
        The backend is none that hpctf has.
    RuntimeError
        The backend needs TF_CONFIG, and it is missing, is no JSON, or names no such task.
    """
    environ = os.environ if environ is None else environ
    backend = environ.get("HPCTF_BACKEND") or "single"
    if backend not in BACKENDS:
        raise ValueError(
            f"HPCTF_BACKEND={backend}: there is no such backend. It is one of "
            f"{', '.join(BACKENDS)}."
        )
    if backend == "single":
        return Task(backend, "worker", 0, 1)
    if backend == "mpi":
        rank, size = environ.get("HPCTF_RANK", "0"), environ.get("HPCTF_WORLD_SIZE", "1")
        return Task(backend, "worker", int(rank), int(size))
    config = _tf_config(backend, environ)
    tasks = {role: len(addresses) for role, addresses in config["cluster"].items()}
    role, index = config["task"]["type"], int(config["task"]["index"])
    if backend == "ps":
        return Task(backend, role, index if role == "worker" else 0, tasks.get("worker", 0))
    before = tasks.get("chief", 0) if role == "worker" else 0
    return Task(backend, role, before + index, tasks.get("chief", 0) + tasks.get("worker", 0))


def _tf_config(backend: str, environ: Mapping[str, str]) -> Dict[str, Any]:
    """Return TF_CONFIG, which must name a cluster and this task in it."""
    text = environ.get("TF_CONFIG", "")
    try:
        found: Dict[str, Any] = json.loads(text)
        found["cluster"][found["task"]["type"]][int(found["task"]["index"])]
    except (ValueError, KeyError, IndexError, TypeError):
        what = f"is {text[:200]!r}" if text else "is not set"
        raise RuntimeError(
            f"The backend is {backend}, but TF_CONFIG {what}. hpctf sets it for every task: leave "
            "it as it is in the script, and in whatever starts the script."
        ) from None
    return found
