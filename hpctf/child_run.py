"""A child run, seen from the login side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpctf.client.hpctf.run_metrics import Child
from hpctf.tracking.metrics import Reading


class ChildRun(Reading):
    """A run that a training made within its own, such as a fold (``run.child_run("fold-1")``).

    Parameters
    ----------
    child
        Where it lies; `parent_state` is the state of the run that made it.
    """

    def __init__(self, child: Child, parent_state: str) -> None:
        super().__init__(Path(child.folder))
        self._about = child
        self._parent_state = parent_state

    def __repr__(self) -> str:
        return f"ChildRun(id={self.id!r})"

    def _repr_html_(self) -> str:
        from hpctf.notebook.cards import child_card

        return child_card(self._about, self.status)

    @property
    def id(self) -> str:
        return self._about.id

    @property
    def place(self) -> Path:
        """Its folder, in its parent's."""
        return self._folder

    @property
    def name(self) -> str:
        """What the training called it."""
        return self._about.name

    @property
    def parent(self) -> str:
        """The id of the run that made it."""
        return str(self._about.about.get("parent"))

    @property
    def created(self) -> float:
        """Seconds since the epoch."""
        return self._about.created

    @property
    def status(self) -> str:
        """Completed or Failed as it has said, else its parent's state."""
        ended = self._about.ended()
        return str(ended["state"]) if ended else self._parent_state

    def get_status(self) -> str:
        """Return `status`."""
        return self.status

    def get_details(self) -> dict[str, Any]:
        """Return what is known of it, ready for JSON."""
        return {
            "id": self.id,
            "name": self.name,
            "parent": self.parent,
            "created": self.created,
            "state": self.status,
            "tags": self.get_tags(),
            "properties": self.get_properties(),
        }
