"""Child runs as Azure ML's submission scripts and notebooks see them."""

from __future__ import annotations

from typing import NoReturn

from hpctf import child_run
from hpctf.azureml.refusing import NotHere, refuses


@refuses("Run")
class ChildRun(child_run.ChildRun):
    """A child run that says what to write instead of the names that only a run has."""

    @classmethod
    def of(cls, child: child_run.ChildRun) -> ChildRun:
        """Return the same child run."""
        return cls(child._about, child._parent_state)

    def _get_outputs_datapath(self) -> NoReturn:
        raise NotHere(
            f"{self.id} is a child run, which has no ./outputs of its own.",
            f"Use those of the run that made it: ws.get_run({self.parent!r}).",
        )
