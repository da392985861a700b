"""What a rank has of its node's copies: where they lie, and that they stay while it reads them."""

from __future__ import annotations

import os

from hpctf.common.files import read_records
from hpctf.errors import StagingError
from hpctf.node.staging.area import TAKEN, Held

TYPE_CHECKING = False  # not typing's: importing it costs each rank 8 ms
if TYPE_CHECKING:
    from typing import Any

INPUT = "HPCTF_INPUT_"


class Copies:
    """The copies that this node has made in one start of the job, held until this process ends.

    Raises
    ------
    StagingError
        There are none on record, or they have gone since.
    """

    def __init__(self, run_folder: str, attempt: int) -> None:
        host = os.uname().nodename
        record = _record(run_folder, host, attempt)
        if record is None:
            raise StagingError(
                f"node {host} has not put on record where its copies of the inputs are.",
                "See what it says in the job's log: hpctf logs RUN --role job.",
            )
        self.area: str = record["area"]
        self._places: dict[str, str] = record["places"]
        self._held = Held(record["folder"])
        if record["folder"]:
            self._held.hold()
            _touch(os.path.join(record["folder"], TAKEN))
        for name, place in self._places.items():
            if not os.path.exists(place):
                raise StagingError(
                    f"the copy of input {name}, {place!r}, is no longer on node {host}.",
                    "Something else has removed it: let the copies lie elsewhere, staging.folder.",
                )

    def variables(self) -> dict[str, str]:
        """Return what the script is to find: its inputs are this node's copies."""
        found = {}
        for name, place in self._places.items():
            found[INPUT + name.upper()] = place
            found["AZUREML_DATAREFERENCE_" + name] = place
        if self.area:
            found["HPCTF_STAGING_DIR"] = self.area
        return found

    def leave(self) -> None:
        """Use the copies no longer, and remove them if no other rank of this node does: the job is
        being taken off, and no step comes after this one."""
        if self._held.folder and self._held.is_mine_alone():
            self._held.remove()
        self._held.release()


def _record(run_folder: str, host: str, attempt: int) -> dict[str, Any] | None:
    found = None
    for record in read_records(os.path.join(run_folder, "state", f"node-{host}.jsonl")):
        if record.get("event") == "staged" and record.get("attempt") == attempt:
            found = record
    return found


def _touch(path: str) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError:
        return
