"""submitit's local executor: every rank a process of this machine, under one controller.

The controller has a session and logs of its own, so that `hpctf submit` returns and Ctrl-C leaves
the run going.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from submitit.core import core
from submitit.core.utils import DelayedSubmission, JobPaths
from submitit.local.local import LocalJob

from hpctf.plan import Plan
from hpctf.scheduler.programs import environment_of
from hpctf.submission.payload import PAYLOAD, write_payload
from hpctf.submission.sbatch import write_script
from hpctf.submission.script import render_local

NO_LIMIT_S = 10 * 365 * 86400


class DetachedExecutor(core.Executor):
    """Starts a plan's ranks under a controller that outlives this process."""

    def __init__(self, plan: Plan, source_directory: Path | None = None) -> None:
        self._run = Path(plan.run_folder)
        super().__init__(self._run / "submitit")
        self._plan = plan
        self._source_directory = source_directory

    def _internal_process_submissions(
        self, delayed_submissions: list[DelayedSubmission]
    ) -> list[core.Job[Any]]:
        write_payload(delayed_submissions[0], self.folder, self._source_directory)
        process = start_detached(
            self._plan, [self._plan.launch.start, "local", str(self._run)], self._environment()
        )
        JobPaths(self.folder, str(process.pid)).submitted_pickle.symlink_to(PAYLOAD)
        tasks = list(range(self._plan.tasks))
        return [LocalJob(self.folder, str(process.pid), tasks=tasks, process=process)]

    def _environment(self) -> dict[str, str]:
        launch, processes = self._plan.launch, self._plan.tasks
        command = [launch.hpctf_python, "-I", "-S", launch.start, "rank", str(self._run)]
        if launch.method == "mpirun":
            command = [launch.command, "-n", str(processes), *launch.options, *command]
            processes = 1
        env = {
            **environment_of("local"),
            "SUBMITIT_LOCAL_NTASKS": str(processes),
            "SUBMITIT_LOCAL_COMMAND": shlex.join(command),
            "SUBMITIT_LOCAL_TIMEOUT_S": str(self._plan.time_limit_s or NO_LIMIT_S),
            "SUBMITIT_LOCAL_SIGNAL_DELAY_S": "0",
            "SUBMITIT_LOCAL_NODEID": "0",
            "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
            "SUBMITIT_LOCAL_WITH_SHELL": "",
            "SUBMITIT_STDERR_TO_STDOUT": "1",
            "SUBMITIT_EXECUTOR": "local",
        }
        if os.geteuid() == 0:
            env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        return env


def start_detached(plan: Plan, words: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a script of hpctf's, with its arguments, as the controller of a local run: in a session
    of its own, its output in the job's log."""
    run = Path(plan.run_folder)
    with (run / "logs" / "job.log").open("ab") as log:
        return subprocess.Popen(
            _with_modules(plan, run, words),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=run,
            umask=int(plan.umask, 8),
        )


def _with_modules(plan: Plan, run: Path, controller: list[str]) -> list[str]:
    """Return the controller's command. Modules are loaded around it, as in a batch script, and
    their PYTHONPATH and PYTHONHOME are not for it."""
    launch = plan.launch
    if not launch.modules:
        return [launch.hpctf_python, *controller]
    script = run / "job.sh"
    write_script(script, render_local(plan))
    return ["bash", str(script), launch.hpctf_python, "-E", *controller]
