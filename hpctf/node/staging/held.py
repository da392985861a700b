"""What a rank has of its node's copies: where they lie, and that they stay while it reads them."""

from __future__ import annotations

import os

from hpctf.common.files import read_records
from hpctf.errors import StagingError
from hpctf.node.messages import say
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
        self._environment: dict[str, str] = record.get("environment") or {}
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

    def moved(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Return a plan whose training runs in this node's copy of its environment, if there is
        one: what names a file of the shared one otherwise still finds it there."""
        root = self._root()
        entry, shared = plan["entry"], plan["staging"].get("environment")
        if not root or not shared:
            return plan
        before = os.path.join(shared, "current", "")
        words = [entry["python"], *entry["command"]]
        python, *command = [
            os.path.join(root, word[len(before) :]) if word.startswith(before) else word
            for word in words
        ]
        return {**plan, "entry": {**entry, "python": python, "command": command}}

    def _root(self) -> str:
        """Return where this node's copy of the environment is, mounted by the first rank to come;
        nothing if there is none."""
        root, image = self._environment.get("root", ""), self._environment.get("image")
        if not image:
            return root
        from hpctf.common.locks import locked
        from hpctf.node.staging.mounting import mount

        with locked(f"{root}.lock", 0o077):
            os.makedirs(root, 0o700, exist_ok=True)
            problem = mount(image, root)
        if problem:
            say(f"{os.uname().nodename}: runs the shared environment: {problem}")
            return ""
        return root

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
