"""The doctor's jobs: submitted as any training of the site is, followed, read, and taken away."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpctf.admin.doctor.report import Tell
from hpctf.common.files import read_json, tail, write_json
from hpctf.common.paths import PACKAGE
from hpctf.common.repeating import meanwhile
from hpctf.common.units import elapsed
from hpctf.errors import HpctfError, SubmissionError
from hpctf.estimator.tensorflow import ParameterServer, TensorFlow
from hpctf.experiment import Experiment
from hpctf.run import Run
from hpctf.run_folder.layout import run_folders
from hpctf.run_folder.rank_states import JobRecord, read_job
from hpctf.runs.status.listing import readable_runs
from hpctf.runs.status.query import statuses
from hpctf.runs.status.state import RunState
from hpctf.scheduler.programs import ask
from hpctf.site.loading import find_target
from hpctf.site.model import Site
from hpctf.submission.sbatch import uninterrupted

SCRIPTS = os.path.join(PACKAGE, "admin", "doctor", "on_nodes")
MPI_S = 60.0
"""Seconds that MPI may take on the nodes: ranks that cannot reach each other wait for ever."""
PATIENCE_S = 60.0
"""Seconds that a rank waits for a file of another host: NFS clients look for new names every 30."""
TENSORFLOW_S = 180.0
ASK_S = (0.5, 5.0)
LEAVE_S = 60.0
"""Seconds that a cancelled job has to leave its nodes."""


@dataclass(frozen=True)
class Request:
    """What the jobs are to be: where, how large, how long, and how long one waits for them.

    ``mpi`` says whether the Python has mpi4py; ``ports`` which ports are tried.
    """

    site: Site
    target: str | None
    nodes: int
    time_limit_s: int
    wait_s: float
    python: str
    mpi: bool
    tensorflow: bool
    ports: tuple[int, ...]


@dataclass
class Outcome:
    """What became of one job, and all that its ranks wrote down.

    ``refused`` holds sbatch's words, ``gave_up`` why the wait was ended. ``facts`` are the ranks'
    (by rank), ``worlds`` what each MPI process wrote, ``tried`` the other launchers and ``others``
    what the processes of the one that works wrote.
    """

    refused: str = ""
    gave_up: str = ""
    waited_s: float = 0.0
    job_id: str = ""
    status: RunState | None = None
    record: JobRecord = field(default_factory=JobRecord)
    facts: list[dict[str, Any]] = field(default_factory=list)
    worlds: list[dict[str, Any]] = field(default_factory=list)
    plugins: list[str] = field(default_factory=list)
    tried: list[dict[str, Any]] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    sight: str = ""


class Jobs:
    """The jobs of one examination: a context that leaves neither job nor file behind."""

    def __init__(self, request: Request, tell: Tell) -> None:
        self.request = request
        self._tell = tell
        self._experiment = Experiment(f"doctor-{os.urandom(4).hex()}", site=request.site)
        self._folder = self._experiment.runs_root / self._experiment.name
        self._made = [path for path in (self._folder, *self._folder.parents) if not path.exists()]
        self._sources: list[str] = []
        self._runs: dict[str, Run] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._looking: set[str] = set()

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *error: object) -> None:
        with uninterrupted():
            self._take_away()

    def submit(self) -> None:
        """Submit the step of all nodes, and a heterogeneous job where the site uses them."""
        site, request = self.request.site, self.request
        # If the site's launcher fails, the batch script tries others.
        own, training = shlex.quote(sys.executable), shlex.quote(request.python)
        others = f'{own} -I -S "$run/snapshot/launchers.py" "$run" {training}'
        main = replace(site, epilogue=(others, *site.epilogue))
        self._submit("job", main if request.mpi else site, self._all_nodes())
        if site.ps.placement == "hetjob":
            self._submit("hetjob", site, self._het_job())

    def follow(self) -> dict[str, Outcome]:
        """Wait until the jobs have ended, or have waited too long, and return what came out."""
        began = time.monotonic()
        waiting = dict(self._runs)
        said: dict[str, str] = {}
        with contextlib.ExitStack() as stack:
            for run in waiting.values():
                stack.enter_context(answering(run.folder.outputs, self.request.nodes))
            while waiting:
                waited = time.monotonic() - began
                found = statuses(run.folder for run in waiting.values())
                for kind, run in list(waiting.items()):
                    outcome, status = self._outcomes[kind], found[run.id]
                    outcome.status = status
                    words = f"{status.state}{f' ({status.reason})' if status.reason else ''}"
                    if said.get(kind) != words:
                        self._tell(f"[{elapsed(waited)}] {kind}: {words}")
                        said[kind] = words
                    if status.final:
                        outcome.waited_s = waited
                        del waiting[kind]
                    elif self._too_late(status, waited):
                        outcome.waited_s = waited
                        outcome.gave_up = status.reason or status.state
                        self._tell(f"{kind}: cancelled")
                        _cancel(waiting.pop(kind))
                time.sleep(min(ASK_S[1], max(ASK_S[0], waited / 20)) if waiting else 0)
        for kind, run in self._runs.items():
            self._read(kind, run)
        return self._outcomes

    def _too_late(self, status: RunState, waited: float) -> bool:
        queued = status.state in ("NotStarted", "Queued", "Preparing")
        more = 0 if queued else self.request.time_limit_s + 2 * LEAVE_S
        return waited > self.request.wait_s + more

    def _submit(self, kind: str, site: Site, estimator: TensorFlow) -> None:
        outcome = self._outcomes[kind] = Outcome()
        ours = self._experiment
        experiment = Experiment(ours.name, site=site, runs_root=ours.runs_root)
        try:
            run = experiment.submit(estimator, on_note=lambda note: None)
        except SubmissionError as error:
            outcome.refused = error.message
            return
        self._runs[kind] = run
        outcome.job_id = run.job_id or ""
        self._tell(f"Submitted {kind} {outcome.job_id}, {estimator.node_count} nodes.")

    def _all_nodes(self) -> TensorFlow:
        request = self.request
        _, target = find_target(request.site, request.target)
        return self._estimator(
            {"ports": list(request.ports), "mpi": request.mpi, "tensorflow": request.tensorflow},
            distributed_backend="mpi",
            node_count=request.nodes,
            process_count_per_node=1,
            use_gpu=bool(target.gpus),
        )

    def _het_job(self) -> TensorFlow:
        training = ParameterServer(1, 1, coordinator=False, chief=False, placement="hetjob")
        ask = {"ports": [], "mpi": False, "tensorflow": False}
        return self._estimator(ask, distributed_training=training, node_count=2)

    def _estimator(self, ask: dict[str, Any], **more: Any) -> TensorFlow:
        return TensorFlow(
            self._source(ask),
            entry_script="rank_probe.py",
            compute_target=self.request.target,
            max_run_duration_seconds=self.request.time_limit_s,
            max_restarts=0,
            python=self.request.python,
            **more,
        )

    def _source(self, ask: dict[str, Any]) -> str:
        """Return a folder with what the ranks run; the snapshot takes it to where nodes see it."""
        folder = tempfile.mkdtemp(prefix="hpctf-doctor-")
        self._sources.append(folder)
        for name in ("rank_probe.py", "mpi_probe.py", "launchers.py"):
            shutil.copyfile(os.path.join(SCRIPTS, name), os.path.join(folder, name))
        suffix = self.request.site.network.host_suffix
        limits = {"patience_s": PATIENCE_S, "mpi_s": MPI_S, "tensorflow_s": TENSORFLOW_S}
        write_json(os.path.join(folder, "ask.json"), {"host_suffix": suffix, **limits, **ask})
        return folder

    def _read(self, kind: str, run: Run) -> None:
        """Read what the job has left, giving a slow file system time to show it."""
        outcome, outputs = self._outcomes[kind], run.folder.outputs
        until = time.monotonic() + (10 if outcome.status and outcome.status.exit_code == 0 else 2)
        ranks = len(outcome.status.ranks) if outcome.status else 0
        while True:
            outcome.facts = _read_all(outputs, "facts-*.json")
            if len(outcome.facts) >= ranks or time.monotonic() > until:
                break
            time.sleep(0.2)
        outcome.facts.sort(key=lambda one: int(one["rank"]))
        outcome.worlds = _read_all(outputs, "mpi-site-*.json")
        for tried in _read_all(outputs, "tried.json"):
            outcome.plugins, outcome.tried = tried["plugins"], tried["tried"]
            for way in (one for one in outcome.tried if one["works"]):
                name = way["plugin"] or way["launcher"]
                outcome.others = _read_all(outputs, f"mpi-{name}-*.json")
        outcome.record = read_job(run.folder.path)
        logs = sorted(run.folder.logs.glob("*-*.log"))
        outcome.log = [line for log in (run.folder.logs / "job.log", *logs) for line in tail(log)]
        ended = outcome.status is not None and outcome.status.final
        begun = outcome.record.attempt is not None
        if kind == "job" and ended and not outcome.facts and not begun:
            self._tell("The job left no trace: looking whether nodes see the runs root.")
            outcome.sight = self._sight(run)

    def _sight(self, run: Run) -> str:
        """Return what nodes see of a run folder: ``none``, ``seen``, or empty if nobody knows. The
        job that looks has no file anywhere: its exit code is the answer."""
        directives = run.plan["components"][0]["directives"]
        options = [f"--{key}={value}" if value else f"--{key}" for key, value in directives]
        name = f"{self._experiment.name}-sight"
        look = f'[ -r "$0/plan.json" ] || exit {UNSEEN}'
        step = shlex.join(
            ["srun", "--kill-on-bad-exit=0", "--wait=0", "sh", "-c", look, str(run.folder.path)]
        )
        command = ["sbatch", "--wait", f"--job-name={name}", *options, "--output=/dev/null"]
        command += ["--chdir=/", f"--wrap={step}"]
        self._looking.add(name)
        try:
            done = ask(command, self.request.wait_s + LEAVE_S)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        self._looking.discard(name)
        return {0: "seen", UNSEEN: "none"}.get(done.returncode, "")

    def _take_away(self) -> None:
        """Cancel what has not ended, wait until it is gone, and remove all files."""
        for name in self._looking:
            with contextlib.suppress(OSError):
                ask(["scancel", f"--name={name}"])
        experiment = self._experiment
        folders = run_folders(experiment.runs_root, experiment.name)
        runs = readable_runs(folders, self._tell)
        for run in runs:
            _cancel(Run(run))
        until = time.monotonic() + LEAVE_S
        left = {run.id: run for run in runs}
        while left:
            for run_id, status in statuses(left.values()).items():
                if status.final or status.away or time.monotonic() > until:
                    left.pop(run_id)
            time.sleep(0.3 if left else 0)
        for run in runs:
            run.remove()
        with contextlib.suppress(OSError):
            for folder in self._made:
                folder.rmdir()
        for source in self._sources:
            shutil.rmtree(source, ignore_errors=True)


UNSEEN = 42
"""Exit code of a node that does not see the run folder."""


def _cancel(run: Run) -> None:
    with contextlib.suppress(HpctfError, OSError):
        run.cancel()


def _read_all(folder: Path, pattern: str) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.glob(pattern)):
        with contextlib.suppress(OSError, json.JSONDecodeError):
            found.append(read_json(path))
    return found


def answering(outputs: Path, ranks: int) -> AbstractContextManager[None]:
    """Answer every rank's hello from here, the login node, for as long as the context lasts."""
    open_ranks = set(range(ranks))

    def answer() -> bool:
        for rank in list(open_ranks):
            with contextlib.suppress(OSError, ValueError):
                read_json(outputs / f"hello-{rank}.json")
                write_json(outputs / f"login-{rank}.json", {"seen": time.time()})
                open_ranks.discard(rank)
        return bool(open_ranks)

    return meanwhile(answer, 0.05)
