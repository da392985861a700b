"""Whether ranks have ended, as their state files tell."""

from __future__ import annotations

import os

from hpctf.common.files import append_record, read_records

TYPE_CHECKING = False  # not typing's: importing it costs each rank 8 ms
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


LOCAL_ATTEMPT = "HPCTF_LOCAL_ATTEMPT"


def attempt_of(env: Mapping[str, str]) -> int:
    """Return which start of the job this is: 0, and one more each time it is requeued."""
    return int(env.get("SLURM_RESTART_COUNT") or env.get(LOCAL_ATTEMPT) or 0)


def is_cancelled(run_folder: str) -> bool:
    """Whether somebody has asked hpctf to cancel the run."""
    return os.path.exists(os.path.join(run_folder, "state", "cancel.json"))


def is_superseded(run_folder: str, attempt: int) -> bool:
    """Whether the job has started again, while this start lives on.

    A node that Slurm has lost, and started the job again without, may only have been cut off. Once
    it is back, Slurm does not end all that runs there still (measured: Slurm 22.05.8).
    """
    return any(
        record.get("event") == "started" and int(record.get("attempt") or 0) > attempt
        for record in read_records(os.path.join(run_folder, "state", "job.jsonl"))
    )


def has_failed(run_folder: str, attempt: int) -> bool:
    """Whether a rank has failed of itself in an attempt of the job: each such one says so."""
    return any(record.get("attempt") == attempt for record in read_records(_failures(run_folder)))


def record_failure(run_folder: str, attempt: int, rank: str) -> None:
    """Say that a rank has failed of itself."""
    append_record(_failures(run_folder), {"attempt": attempt, "rank": rank})


def _failures(run_folder: str) -> str:
    return os.path.join(run_folder, "state", "failed.jsonl")


class Ends:
    """Looks whether every one of some ranks has ended in one attempt of the job.

    A requeued job's ranks append to the same files, so what an earlier attempt left there must
    not count. Each look reads on from the first rank that had not ended: cheap, however many.
    """

    def __init__(self, run_folder: str, roles: Iterable[dict[str, Any]], attempt: int) -> None:
        self._attempt = attempt
        self._waiting = [
            os.path.join(run_folder, "state", f"{role['name']}-{index}.jsonl")
            for role in roles
            for index in range(role["count"])
        ]

    def all(self) -> bool:
        """Whether the last of them has ended."""
        while self._waiting and self._has_ended(self._waiting[0]):
            self._waiting.pop(0)
        return not self._waiting

    def _has_ended(self, state: str) -> bool:
        ended = ours = False
        for record in read_records(state):
            if record.get("event") == "started":
                ours = record.get("attempt") == self._attempt
                ended = False
            elif record.get("event") == "ended":
                ended = ours and record.get("attempt") == self._attempt
        return ended
