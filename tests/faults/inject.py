"""Faults, really injected: daemons stopped, links cut, Slurm configured anew, and all put back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.fixture import Cluster, up
from tests.support.waiting import HANGS_S, wait_until

_HERE = Path(__file__).resolve().parent
_LIB = _HERE.parent / "cluster" / "lib.sh"


class Faults:
    """What can be done to a cluster that nobody else uses meanwhile.

    Every context manager puts things back on leaving; `repair` makes sure of it.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._conf = cluster.directory / "conf" / "slurm.conf"
        self._as_it_was = self._conf.read_text()

    @contextmanager
    def stopped(self, *daemons: str, signal: str = "TERM") -> Iterator[None]:
        """Stop daemons such as ``slurmctld``, ``slurmdbd`` or ``slurmd-n2`` for a while."""
        self.stop(*daemons, signal=signal)
        try:
            yield
        finally:
            self.start(*daemons)

    def stop(self, *daemons: str, signal: str = "TERM") -> None:
        """End daemons by a signal and wait until they are gone."""
        self._lib("stop_daemons", signal, *daemons)

    def start(self, *daemons: str) -> None:
        """Start daemons that were stopped, and wait until Slurm answers."""
        for daemon in daemons:
            if daemon.startswith("slurmd-"):
                self._lib("start_slurmd", daemon.removeprefix("slurmd-"))
            elif daemon == "slurmdbd":
                self._lib("start_slurmdbd")
            else:
                self._lib("start_slurmctld")
        if "slurmctld" in daemons:
            wait_until(self._controller_answers)

    @contextmanager
    def cut(self, node: str) -> Iterator[None]:
        """Take a node's network link down for a while."""
        link = f"hpctf-{node}"
        self.cluster.run("ip", "link", "set", link, "down")
        try:
            yield
        finally:
            self.cluster.run("ip", "link", "set", link, "up")

    @contextmanager
    def settings(self, *lines: str, **values: str) -> Iterator[None]:
        """Run slurmctld with other values in slurm.conf, and more lines, for a while.

        An empty value takes its line away.
        """
        text = self._as_it_was
        for key, value in values.items():
            text = re.sub(rf"(?m)^{key}=.*\n", "", text)
            text = f"{key}={value}\n{text}" if value else text
        self._conf.write_text("\n".join([text.rstrip("\n"), *lines]) + "\n")
        self._restart_controller()
        try:
            yield
        finally:
            self._conf.write_text(self._as_it_was)
            self._restart_controller()

    @contextmanager
    def forgetful(self, first_job_id: str) -> Iterator[None]:
        """Run a slurmctld that has forgotten all jobs, and gives out that id next, for a while."""
        state = self.cluster.directory / "state"
        memory = [*state.glob("job_state*"), *state.glob("hash.*")]
        kept = state.with_name("state.kept")
        kept.mkdir()
        self.stop("slurmctld")
        try:
            for path in memory:
                path.rename(kept / path.name)
            self._conf.write_text(f"FirstJobId={first_job_id}\n{self._as_it_was}")
            self._lib("start_slurmctld", "slurmctld", "-i")  # 26.05 wants it if a file is missing
            wait_until(self._controller_answers)
            yield
        finally:
            self.stop("slurmctld")
            for path in [*state.glob("job_state*"), *state.glob("hash.*")]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            for path in kept.iterdir():
                path.rename(state / path.name)
            kept.rmdir()
            self._conf.write_text(self._as_it_was)
            self.start("slurmctld")

    def repair(self) -> None:
        """Bring back what a test that failed half-way left down."""
        if self._conf.read_text() != self._as_it_was:
            self._conf.write_text(self._as_it_was)
            self._restart_controller()
        up()

    def _restart_controller(self) -> None:
        self.stop("slurmctld")
        self.start("slurmctld")

    def _controller_answers(self) -> bool:
        return self.cluster.run("scontrol", "ping", check=False).returncode == 0

    def _lib(self, function: str, *words: str) -> None:
        lines = (
            f'. "{_LIB}"; export HPCTF_CLUSTER_DIR=$CLUSTER_DIR; '
            'export SLURM_CONF="$CLUSTER_DIR/conf/slurm.conf"; exec 9>/dev/null; "$@"'
        )
        done = subprocess.run(
            ["bash", "-ec", lines, "bash", function, *words],
            env={**os.environ, "HPCTF_CLUSTER_DIR": str(self.cluster.directory)},
            capture_output=True,
            text=True,
            timeout=HANGS_S,
        )
        assert done.returncode == 0, done.stderr
