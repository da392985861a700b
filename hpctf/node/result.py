"""A rank's result, in submitit's own form: ``submitit/<job>_<rank>_result.pkl``.

It holds ("success", value) or ("error", text). A function's value is pickled by the training
process itself, whose packages hpctf's interpreter need not have, and only moved into place here.
"""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING

from hpctf.common.files import tail, write_atomic

if TYPE_CHECKING:
    from hpctf.node.identity import Identity
    from hpctf.node.process import Ended


def job_id(env: dict[str, str] | os._Environ[str]) -> str:
    """Return submitit's name of the job: ``id``, or ``array_task`` in a job array."""
    if "SLURM_ARRAY_JOB_ID" in env:
        return f"{env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"
    return env.get("SLURM_JOB_ID") or env["SUBMITIT_LOCAL_JOB_ID"]


class ResultKeeper:
    """Writes the result of one rank."""

    def __init__(self, run_folder: str, me: Identity) -> None:
        self._run_folder = run_folder
        self._me = me
        # Named without submitit, whose import takes each rank 0.1 s of CPU time and 10 MB.
        name = f"{job_id(os.environ)}_{me.rank}_result.pkl"
        self._target = os.path.join(run_folder, "submitit", name)

    def keep(self, ended: Ended) -> None:
        """Put the rank's result in place, atomically."""
        me = self._me
        waiting = os.path.join(self._run_folder, "submitit", f".{me.name}.pkl")
        if os.path.exists(waiting):  # a function's outcome, of `hpctf.node.function_call`
            os.replace(waiting, self._target)
            return
        if ended.status == 0:
            about = {"rank": me.rank, "role": me.role, "index": me.index, "host": me.host}
            outcome: tuple[str, object] = ("success", {**about, "exit_code": ended.status})
        else:
            log = os.path.join(self._run_folder, "logs", f"{me.name}.log")
            words = f"{me.name} on {me.host} ended with status {ended.status}"
            outcome = ("error", "\n".join([words, *tail(log)]))
        write_atomic(self._target, pickle.dumps(outcome))
