"""hpctf where MLflow and TensorBoard are, and what MLflow has got."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.support.built import COMPILED
from tests.support.forking import Forking
from tests.support.waiting import HANGS_S, wait_until

STORE = "sqlite:///mlflow.db"
"""What `hpctf export mlflow` writes to unless told otherwise."""

READ = """
import json, sys
from mlflow.tracking import MlflowClient

client = MlflowClient(sys.argv[1])
found = {}
for experiment in client.search_experiments():
    for run in client.search_runs([experiment.experiment_id]):
        run_id = run.info.run_id
        history = {
            name: sorted([m.step, repr(m.value), m.timestamp] for m in points)
            for name in run.data.metrics
            for points in [client.get_metric_history(run_id, name)]
        }
        artifacts, folders = [], [None]
        while folders:
            for one in client.list_artifacts(run_id, folders.pop()):
                (folders if one.is_dir else artifacts).append(one.path)
        found.setdefault(run.data.tags["hpctf.run_id"], []).append({
            "mlflow_id": run_id, "experiment": experiment.name, "name": run.info.run_name,
            "status": run.info.status, "start": run.info.start_time, "end": run.info.end_time,
            "params": run.data.params, "tags": run.data.tags, "metrics": history,
            "artifacts": sorted(artifacts), "uri": run.info.artifact_uri,
        })
print(json.dumps(found))
"""


def run_in(
    python: str, *words: str | Path, cwd: Path, code: int = 0, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run that Python with words, and this checkout's hpctf."""
    done = subprocess.run(
        [python, *map(str, words)],
        cwd=cwd,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
    )
    assert done.returncode == code, f"{done.returncode}: {done.stdout}\n{done.stderr}"
    return done


def environment(**more: str) -> dict[str, str]:
    """Return the variables for a Python with this checkout's hpctf."""
    own = {"PYTHONPATH": str(ROOT), "HPCTF_SITE": "local", **COMPILED}
    return {**os.environ, **own, **more}


class WithMlflow:
    """The tools' Python, which has imported MLflow once for all commands of this test process."""

    def __init__(self, python: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hpctf-mlflow-")
        self.empty = Path(self._folder.name) / "mlflow.db"
        """A database with MLflow's tables and nothing in them, which takes seconds to make."""
        prepare = (
            "from mlflow.tracking import MlflowClient\n"
            f"MlflowClient('sqlite:///{self.empty}').search_experiments()"
        )
        self._python = Forking(python, prepare, environment())

    def run(
        self, *words: str | Path, cwd: Path, code: int = 0, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it with words in a process of its own, as `run_in` does."""
        done = self._python.run(*words, cwd=cwd, env=environment(**env))
        out, err = done.stdout.decode(), done.stderr.decode()
        assert done.returncode == code, f"{done.returncode}: {out}\n{err}"
        return subprocess.CompletedProcess(words, code, out, err)


@cache
def with_mlflow(python: str) -> WithMlflow:
    """Return that Python with MLflow imported."""
    return WithMlflow(python)


def in_mlflow(python: str, uri: str, cwd: Path) -> dict[str, dict[str, Any]]:
    """Return all runs of a store by hpctf's id; each is there once."""
    said = with_mlflow(python).run("-c", READ, uri, cwd=cwd).stdout
    found = json.loads(said.splitlines()[-1])
    assert all(len(runs) == 1 for runs in found.values()), found
    return {run_id: runs[0] for run_id, runs in found.items()}


@contextmanager
def mlflow_server(python: str, folder: Path, port: int, *words: str) -> Iterator[str]:
    """Start an MLflow server, and end it; returns its address."""
    command = [python, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", *words]
    # Jobs of its own, which nobody gives it here: seven more processes that import MLflow.
    env = environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    with (folder / f"server-{port}.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(address) or server.poll() is not None)
        assert server.poll() is None, (folder / f"server-{port}.log").read_text()
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _answers(address: str) -> bool:
    import urllib.request

    try:
        with urllib.request.urlopen(f"{address}/health", timeout=HANGS_S):
            return True
    except OSError:
        return False


def free_port() -> int:
    """Return a port that nobody listened on a moment ago."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def tensorboard(python: str, cwd: Path, *words: str | Path) -> Iterator[str]:
    """Run `hpctf tensorboard` and yield its address; Ctrl-C ends it, and all that it started."""
    command = [python, "-m", "hpctf", "tensorboard", *map(str, words)]
    env = environment(TMPDIR=str(cwd))
    with (cwd / "said").open("w") as said:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=said, text=True
        )
    assert process.stdout
    address = process.stdout.readline().strip()
    try:
        assert address, (cwd / "said").read_text()
        children = _descendants(process.pid)
        assert len(children) >= 2
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(HANGS_S)
        process.stdout.close()
    assert code == 130
    wait_until(lambda: not [pid for pid in children if _lives(pid)])
    assert not list(cwd.glob("hpctf-tensorboard-*"))


def _descendants(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [one for child in map(int, found) for one in (child, *_descendants(child))]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
