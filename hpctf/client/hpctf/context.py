"""The run that a process belongs to."""

import os
import uuid
from pathlib import Path
from typing import Mapping, Optional


class Run:
    """The run that a training process belongs to, as its environment tells.

    Get it with `get_context`, in a script that hpctf runs or in one that is tried out by hand.

    Parameters
    ----------
    environ
        The process's variables; those that begin with HPCTF_ tell of the run.

    Attributes
    ----------
    id, experiment
        Names of the run; outside of a job ``OfflineRun_`` and a random word, and ``offline``.
    role, index
        What this process is: ``chief``, ``worker`` or ``ps``, and which one of its kind.
    rank, local_rank, world_size
        Its number among all processes and among those of its node, and how many there are.
    outputs, checkpoints
        Folders: what is kept with the run, and what outlives its restarts as well. Outside of a
        job ``outputs`` and ``checkpoints`` where the script runs.
    restart_count
        How often the run's job was started again: 0 at first.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.id = environ.get("HPCTF_RUN_ID") or "OfflineRun_" + uuid.uuid4().hex
        self.experiment = environ.get("HPCTF_EXPERIMENT", "offline")
        self.role = environ.get("HPCTF_ROLE", "worker")
        self.index = int(environ.get("HPCTF_INDEX", 0))
        self.rank = int(environ.get("HPCTF_RANK", 0))
        self.local_rank = int(environ.get("HPCTF_LOCAL_RANK", 0))
        self.world_size = int(environ.get("HPCTF_WORLD_SIZE", 1))
        self.outputs = Path(environ.get("HPCTF_OUTPUTS_DIR", "outputs")).absolute()
        self.checkpoints = Path(environ.get("HPCTF_CHECKPOINT_DIR", "checkpoints")).absolute()
        self.restart_count = int(environ.get("HPCTF_RESTART_COUNT", 0))
        self.offline = "HPCTF_RUN_ID" not in environ

    @classmethod
    def get_context(
        cls, allow_offline: bool = True, *, environ: Optional[Mapping[str, str]] = None
    ) -> "Run":
        """Return the run of this process.

        Parameters
        ----------
        allow_offline
            Whether a process outside of any run gets an offline run, as in Azure ML.
        environ
            The variables to read; by default the process's own.

        Raises
        ------
        RuntimeError
            There is no run, and `allow_offline` is false.
        """
        run = cls(os.environ if environ is None else environ)
        if run.offline and not allow_offline:
            raise RuntimeError(
                "Run.get_context(allow_offline=False): this process belongs to no run. "
                "Start the script with: hpctf submit"
            )
        return run

    def __repr__(self) -> str:
        return "Run(id={!r}, experiment={!r}, role={!r}, index={})".format(
            self.id, self.experiment, self.role, self.index
        )
