"""A node of a run that stages data, without Slurm: the real steps, in a process of their own."""

from __future__ import annotations

import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpctf.node.staging.step import stage, unstage
from hpctf.run_folder.node_states import NodeState, read_nodes
from hpctf.site.model import StagingSettings
from tests.support.projects import planned, project, site_of

_JOBS = itertools.count(1)


@dataclass
class Node:
    """One start of a job on this machine, which keeps its copies below `disk`."""

    folder: Path
    disk: Path
    job: str
    attempt: str = "0"
    said: str = ""
    variables: dict[str, str] = field(default_factory=dict)

    def stage(self, before: Callable[[], None] = lambda: None) -> int:
        return self._run(stage, before)

    def unstage(self) -> int:
        return self._run(unstage)

    def state(self) -> NodeState:
        (node,) = read_nodes(self.folder, int(self.attempt))
        return node

    def is_staged(self) -> bool:
        nodes = read_nodes(self.folder, int(self.attempt))
        return [node.state for node in nodes] == ["staged"]

    def place(self, name: str = "data") -> Path:
        (log,) = (self.folder / "state").glob("node-*.jsonl")
        staged = [json.loads(line) for line in log.read_text().splitlines()]
        return Path([one for one in staged if one["event"] == "staged"][-1]["places"][name])

    def left(self) -> list[str]:
        """What is on the disk of jobs and of copies that are kept."""
        area = self.disk / f"hpctf-{os.geteuid()}"
        return sorted(str(path.relative_to(area)) for path in area.glob("*/*"))

    def _run(self, step: Callable[[str], int], before: Callable[[], None] = lambda: None) -> int:
        said = self.folder / "said"
        child = self.start(step, before)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        self.said = said.read_text()
        return code

    def start(self, step: Callable[[str], int], before: Callable[[], None] = lambda: None) -> int:
        """Begin a step, and return its process."""
        child = os.fork()
        if child:
            return child
        code = 99
        try:
            with (self.folder / "said").open("w") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
            sys.stdout = sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            os.environ.update(self.variables)
            os.environ.update(SLURM_JOB_ID=self.job, SLURM_RESTART_COUNT=self.attempt)
            before()
            code = step(str(self.folder))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)


def node(
    tmp_path: Path,
    disk: Path,
    inputs: dict[str, Any],
    nodes: int = 1,
    host: str = "a",
    **settings: Any,
) -> Node:
    """Return a node of a new job that stages `inputs`; `settings` are the site's, of staging."""
    job = str(next(_JOBS))
    folder = tmp_path / f"run-{job}"
    (folder / "state").mkdir(parents=True)
    disk.mkdir(exist_ok=True)
    site = site_of(staging=StagingSettings(**{"folder": str(disk), **settings}))
    source = project(tmp_path / "proj")
    asked = {"distributed_backend": "collective", "node_count": nodes} if nodes > 1 else {}
    plan = planned(source, site, run_folder=str(folder), stage=inputs, **asked).plan
    (folder / "plan.json").write_text(plan.to_json())
    (folder / "state/staged-0").touch()
    return Node(folder, disk, job, variables={"SLURMD_NODENAME": host})
