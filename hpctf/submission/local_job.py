"""A run on this machine: every rank a process, under submitit's controller for local jobs.

The controller has a session and logs of its own, so that `hpctf submit` returns and Ctrl-C leaves
the run going.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from submitit.core.utils import DelayedSubmission, JobPaths

from hpctf.plan import Plan
from hpctf.scheduler.programs import environment_of
from hpctf.submission.payload import PAYLOAD, write_payload
from hpctf.submission.sbatch import write_script
from hpctf.submission.script import render_local

NO_LIMIT_S = 10 * 365 * 86400


def start(plan: Plan, submission: DelayedSubmission, source_directory: Path | None) -> int:
    """Start a plan's ranks under a controller that outlives this process; return its id."""
    run, launch = Path(plan.run_folder), plan.launch
    write_payload(submission, run / "submitit", source_directory)
    command, processes = (
        [launch.hpctf_python, "-I", "-S", launch.start, "rank", str(run)],
        plan.tasks,
    )
    if launch.method == "mpirun":
        command = [launch.command, "-n", str(plan.tasks), *launch.options, *command]
        processes = 1
    env = {
        **environment_of("local"),
        "SUBMITIT_LOCAL_NTASKS": str(processes),
        "SUBMITIT_LOCAL_COMMAND": shlex.join(command),
        "SUBMITIT_LOCAL_TIMEOUT_S": str(plan.time_limit_s or NO_LIMIT_S),
        "SUBMITIT_LOCAL_SIGNAL_DELAY_S": "0",
        "SUBMITIT_LOCAL_NODEID": "0",
        "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
        "SUBMITIT_LOCAL_WITH_SHELL": "",
        "SUBMITIT_STDERR_TO_STDOUT": "1",
        "SUBMITIT_EXECUTOR": "local",
    }
    if os.geteuid() == 0:
        env.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    with (run / "logs" / "job.log").open("ab") as log:
        process = subprocess.Popen(
            _controller(plan, run),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=run,
            umask=int(plan.umask, 8),
        )
    JobPaths(run / "submitit", str(process.pid)).submitted_pickle.symlink_to(PAYLOAD)
    return process.pid


def _controller(plan: Plan, run: Path) -> list[str]:
    """Return the controller's command. Modules are loaded around it, as in a batch script, and
    their PYTHONPATH and PYTHONHOME are not for it."""
    launch = plan.launch
    controller = [launch.start, "local", str(run)]
    if not launch.modules:
        return [launch.hpctf_python, *controller]
    script = run / "job.sh"
    write_script(script, render_local(plan))
    return ["bash", str(script), launch.hpctf_python, "-E", *controller]
