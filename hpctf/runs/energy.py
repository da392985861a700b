"""The energy that the nodes of runs used: Slurm is asked once the run is over, and the run folder
keeps the answer."""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hpctf.common.files import write_json
from hpctf.errors import HpctfError
from hpctf.run_folder.documents import read_energy, read_final
from hpctf.runs.status.lost_submissions import identity_of

if TYPE_CHECKING:
    from hpctf.run_folder.layout import RunFolder
    from hpctf.scheduler.jobs import Identity

_ANSWERED_LATER_S = 86_400.0
"""For how long after a run's end slurmdbd may yet be told of its energy."""


def node_energies(runs: Sequence[RunFolder]) -> dict[str, int]:
    """Return the joules that the nodes of runs used, by the runs' ids, as Slurm measured them.

    Left out are runs that are not over, that ran where Slurm measures nothing (``node_energy`` of
    the site file is ``none``), or of which it does not know. It is asked once for all runs of a
    cluster; where it cannot be asked, what is on record is returned.
    """
    known: dict[str, int] = {}
    asked: dict[str | None, list[_Asked]] = defaultdict(list)
    for run in runs:
        if run.plan["scheduler"] != "slurm" or run.plan["node_energy"] == "none":
            continue
        if run.is_study or (run.study is not None and not run.script.exists()):
            continue  # an agent's job is all of its trials'
        final = read_final(run.path)
        kept = read_energy(run.path)
        if final is None or final["job_id"] is None:
            continue
        if kept["time"] != final["time"]:
            identity = identity_of(run, run.read_record())
            asked[final["cluster"]].append(_Asked(run, final, identity))
        elif kept["joules"]:
            known[run.id] = kept["joules"]
    for cluster, jobs in asked.items():
        known.update(_ask(cluster, jobs))
    return known


class _Asked(NamedTuple):
    run: RunFolder
    final: dict[str, Any]
    identity: Identity


def _ask(cluster: str | None, jobs: list[_Asked]) -> dict[str, int]:
    from hpctf.scheduler.energy import energies

    try:
        found = energies({job.final["job_id"]: job.identity for job in jobs}, cluster)
    except HpctfError:  # accounting is away, or there is none, or nobody can read its answer
        return {}
    for run, final, _ in jobs:
        joules = found.get(final["job_id"])
        if joules is None and time.time() - final["time"] < _ANSWERED_LATER_S:
            continue
        with contextlib.suppress(OSError):  # somebody who may look, but not write
            if run.record_file.stat().st_uid == os.geteuid():
                document = {"joules": joules, "time": final["time"]}
                write_json(run.energy, document, shared=True)
    return {job.run.id: found[i] for job in jobs if (i := job.final["job_id"]) in found}
