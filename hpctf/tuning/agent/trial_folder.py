"""A trial's run folder: made when the trial starts, so that none costs anything before.

It is a whole run folder, with a copy of the snapshot, since scripts write beside themselves. All
that works on a run works on a trial.
"""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import signal
import time
from typing import Any

from hpctf.common.files import append_record
from hpctf.common.folders import remove_tree
from hpctf.errors import HpctfError
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.ownership import seal
from hpctf.run_folder.rank_states import JOB_STATE, ranks_of, state_records
from hpctf.runs.provenance import CONTENTS, DIFF
from hpctf.tuning.agent.carrying_over import carry_over
from hpctf.tuning.earlier import GoesOn
from hpctf.tuning.study import Study, arguments_of

RANK = "worker-0"
"""The one rank of a trial."""

_COPIED = (CONTENTS, DIFF, "environment.json", "environment.lock")
"""What says what the code and the environment were: a trial can be submitted again as a run."""

_GONE_S = 10.0
"""Seconds that the process of an earlier start has to end by itself."""
_LOOK_S = 0.1


def open_trial(study: Study, number: int, attempt: int, job_id: str) -> RunFolder:
    """Return a trial's folder, ready for its start `attempt`; it is made if it is not there.

    Raises
    ------
    OSError, HpctfError
        The file system refuses.
    """
    trial = study.trial(number)
    if trial.record_file.exists():
        trial.update_record(job_id=job_id)
        trial.final.unlink(missing_ok=True)
        _outlast_earlier(trial)
    else:
        make_trial(study, number, job_id=job_id)
    host = os.uname().nodename
    started = {"time": time.time(), "attempt": attempt, "job_id": job_id, "host": host}
    append_record(trial.state / JOB_STATE, {"event": "started", **started})
    return trial


def make_trial(study: Study, number: int, **record: Any) -> RunFolder:
    """Make a trial's run folder; `record` is what its ``run.json`` says of its job.

    Raises
    ------
    OSError, HpctfError
        The file system refuses: nothing is left.
    """
    trial = study.trial(number)
    if trial.path.exists():  # whoever was making it has died
        remove_tree(trial.path)
    plan = plan_of(study, number)
    try:
        trial.make(ranks_of(plan), int(plan["umask"], 8))
        shutil.copytree(study.folder.snapshot, trial.snapshot, symlinks=True)
        for name in _COPIED:
            if (study.folder.path / name).exists():
                shutil.copy2(study.folder.path / name, trial.path / name)
        if number < len(study.definition.resume_child_runs):
            carry_over(GoesOn(**study.definition.resume_child_runs[number]), trial, plan)
        with contextlib.suppress(OSError, HpctfError):  # its results are then not trusted
            seal(trial.path)
        # last of all: a folder without a record is one that was not finished
        trial.write_documents(plan, {**_record(study, trial, number), **record})
    except BaseException:
        trial.remove()
        raise
    return trial


def plan_of(study: Study, number: int) -> dict[str, Any]:
    """Return the plan of a trial, with the trial's arguments."""
    plan = copy.deepcopy(study.trial_plan)
    plan["run_id"] = study.trial_id(number)
    plan["run_folder"] = str(study.trial(number).path)
    words = arguments_of(study.parameters_of(number))
    plan["entry"] = {**plan["entry"], "command": [*plan["entry"]["command"], *words]}
    return plan


def _record(study: Study, trial: RunFolder, number: int) -> dict[str, Any]:
    of_study = study.folder.read_record()
    of_study.pop("format", None)
    own = study.parameters_of(number)
    parameters = {**of_study["parameters"], **own}
    request = dict(of_study.get("request") or {})
    request["arguments"] = [*(request.get("arguments") or []), *arguments_of(own)]
    return {
        **of_study,
        "request": request,
        "id": trial.id,
        "kind": "trial",
        "study": study.id,
        "trial": number,
        "parameters": parameters,
        "submitted": time.time(),
        "submitter": None,
    }


def end_leftover(trial: RunFolder) -> None:
    """Kill the process of a trial whose rank was killed, and so could not end it."""
    pid = _last_process(trial)
    if pid is not None and _is_of(pid, trial):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _outlast_earlier(trial: RunFolder) -> None:
    """Wait until the process of an earlier start on this node has ended; it may be writing its
    checkpoint. Its rank ends it once the agent is gone."""
    pid = _last_process(trial)
    until = time.monotonic() + _GONE_S
    while pid is not None and _is_of(pid, trial):
        if time.monotonic() > until:
            end_leftover(trial)
        time.sleep(_LOOK_S)


def _last_process(trial: RunFolder) -> int | None:
    """Return the process of a trial's last start, if that was on this node."""
    last: dict[str, Any] = {}
    for record in state_records(trial.state / f"{RANK}.jsonl"):
        if record.get("event") == "started":
            last = record
    pid = last.get("pid")
    return pid if type(pid) is int and last.get("host") == os.uname().nodename else None


def _is_of(pid: int, trial: RunFolder) -> bool:
    """Whether a process of this machine is a trial's, as its environment says."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            return os.fsencode(f"HPCTF_RUN_FOLDER={trial.path}") in stream.read().split(b"\0")
    except OSError:
        return False
