"""What the tests share: the cluster, the training environment, and people who use hpctf."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from hpctf import Experiment
from tests.cluster import fixture as shared_cluster
from tests.cluster.fixture import TEST_USER, Cluster, CommandFailed, cluster  # noqa: F401  (fixture)
from tests.support.browser import browser  # noqa: F401  (fixture)
from tests.support.built import build_environment, build_tools
from tests.support.forking import Forking
from tests.support.priority import together_on_cpus
from tests.support.projects import imported
from tests.support.waiting import HANGS_S

pytest_plugins = ("tests.support.ended_runs", "tests.support.pictures")

_OF_THE_TESTS = ("HPCTF_CLUSTER_DIR", "HPCTF_EXAMPLE_PYTHON", "HPCTF_UPDATE_GOLDEN")
"""Variables that steer the tests themselves."""

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI") == "true"
PYENV = Path(os.environ.get("PYENV_ROOT", "/root/.pyenv")) / "versions"
"""Where more versions of CPython are, if anywhere: Debian has one alone."""
_SCOPES = "hpctf/scopes"
_TRAIN_LITTLE = {"admin", "environment", "faults", "site"}
_HELD = pytest.StashKey[list[ExitStack]]()
"""What this process holds of the cluster: one use of it, or nothing."""


def pytest_configure(config: pytest.Config) -> None:
    """Keep the key that seals runs out of the developer's home: one for all tests, since fixtures
    share runs."""
    folder = tempfile.TemporaryDirectory(prefix="hpctf-state-")
    config.add_cleanup(folder.cleanup)
    os.environ["XDG_STATE_HOME"] = folder.name
    # A loaded machine is slow, which says nothing of what is tried.
    slow = [HealthCheck.too_slow]
    settings.register_profile("loaded", deadline=None, suppress_health_check=slow)
    settings.load_profile("loaded")
    _take_signals()


_NEEDS = {
    "slurm": ("cluster",),
    "tensorflow": ("training_python",),
    "browser": ("browser",),
    "slow": (
        *("clients_python", "deployed", "experiment", "installed", "run", "terminal"),
        *("tools_python", "wheels"),
    ),
}
"""What a test needs that has these fixtures. `make unit` is all that needs nothing."""


@pytest.hookimpl(tryfirst=True)  # before -m chooses by the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what tests need, and order them: what breaks the cluster begins, while others do without
    it, and what takes longest follows."""
    for item in items:
        for mark, fixtures in _NEEDS.items():
            if not _fixtures(item).isdisjoint(fixtures):
                item.add_marker(mark)
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    marks = _marks(item)
    return [
        _breaks_the_cluster(item),
        _trains_here(item),
        "index" in marks and "slurm" not in marks,
        "slow" in marks and "slurm" not in marks,
        {"slurm", "tensorflow"} <= marks,
        "slurm" in marks,
        True,
    ].index(True)


@pytest.hookimpl(tryfirst=True)  # before xdist tells of what was collected, and scheduling begins
def pytest_collection_finish(session: pytest.Session) -> None:
    """Note for `_Scopes` what goes to one process: files that train, but for folders that do little
    of it, and tests that break the cluster, which would wait for each other."""
    scopes = {}
    for item in session.items:
        if _breaks_the_cluster(item):
            scopes[item.nodeid] = "break the cluster"
        elif "tensorflow" in _marks(item) and _TRAIN_LITTLE.isdisjoint(item.path.parts):
            where = "here" if _trains_here(item) else "on the cluster"
            scopes[item.nodeid.partition("::")[0]] = f"train {where}"
    if session.config.cache is not None:
        session.config.cache.set(_SCOPES, scopes)


class _Scopes(LoadFileScheduling):
    """Gives each process a file at a time, and to one process all tests that break the cluster, all
    files that train here, and all that train on the cluster: trainings side by side would take each
    other the CPUs on which their ranks wait for each other."""

    @cached_property
    def _known(self) -> dict[str, str]:
        return dict(self.config.cache.get(_SCOPES, {}))

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return self._known.get(nodeid) or self._known.get(file, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Scopes:
    return _Scopes(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Let nobody break the cluster while a file's tests use it, which may share jobs."""
    held = item.config.stash.setdefault(_HELD, [])
    if not held and "cluster" in _fixtures(item) and shared_cluster.available() is None:
        held.append(ExitStack())
        held[0].enter_context(shared_cluster.use(alone=_breaks_the_cluster(item)))
    try:
        with together_on_cpus() if _trains_here(item) else nullcontext():
            return (yield)
    finally:
        if held and (nextitem is None or _holding(nextitem) != _holding(item)):
            held.pop().close()


def _holding(item: pytest.Item) -> tuple[Path, bool]:
    return item.path, _breaks_the_cluster(item)


def _trains_here(item: pytest.Item) -> bool:
    """Whether a test starts trainings of its own: the jobs of the cluster come first anyway."""
    marks = _marks(item)
    return "tensorflow" in marks and "slurm" not in marks


def _marks(item: pytest.Item) -> set[str]:
    return {mark.name for mark in item.iter_markers()}


def _breaks_the_cluster(item: pytest.Item) -> bool:
    return "faults" in _fixtures(item)


def _fixtures(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))


def _take_signals() -> None:
    """Take signals as in the foreground: what a shell starts in the background, as ``nohup make
    test &`` does, ignores SIGINT and SIGQUIT, and so would all that the tests start (sh(1))."""
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def skip_or_fail(reason: str) -> None:
    """Skip loudly; in CI nothing may be missing."""
    if IN_CI:
        pytest.fail(reason)
    pytest.skip(reason)


def need_environment_modules() -> None:
    """Skip where Environment Modules are not installed: fine where Lmod is, with which they
    conflict."""
    if Path("/usr/share/lmod").exists():
        pytest.skip("Lmod is installed, which conflicts with Environment Modules")
    if not Path("/usr/share/modules/init/bash").exists():
        skip_or_fail("Environment Modules are not installed (tools/debian-packages)")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the developer's own sites and runs out of the tests."""
    for name in [name for name in os.environ if name.startswith("HPCTF_")] + ["TF_CONFIG"]:
        if name not in _OF_THE_TESTS:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HPCTF_ADMIN_FOLDER", str(tmp_path / "admin"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def training_python() -> str:
    """The interpreter of an environment with TensorFlow, Horovod, mpi4py and scikit-learn."""
    made = build_environment("2.21")
    if made.returncode:
        skip_or_fail(f"the training environment cannot be made: {made.stderr[-2000:]}")
    return made.stdout.strip()


@pytest.fixture(scope="session")
def tools_python() -> str:
    """The interpreter of an environment with what hpctf needs, MLflow and TensorBoard."""
    made = build_tools()
    if made.returncode:
        skip_or_fail(f"the tools' environment cannot be made: {made.stderr[-2000:]}")
    return made.stdout.strip()


@pytest.fixture(scope="session")
def installed() -> Path:
    """hpctf installed as a wheel where every node and user can read it; returns its ``bin``.

    The dependencies are kept between sessions; the wheel is of this checkout.
    """
    root = Path("/var/cache/hpctf") if os.geteuid() == 0 else ROOT / ".venv/cache"
    root.mkdir(parents=True, exist_ok=True)
    described_by = [ROOT / "setup.cfg", ROOT / "tools/venv", Path(__file__)]
    source = b"".join([str(ROOT).encode(), *(path.read_bytes() for path in described_by)])
    home = root / f"hpctf-{hashlib.sha256(source).hexdigest()[:12]}"
    with (root / "hpctf.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / ".ready").exists():
            shutil.rmtree(home, ignore_errors=True)
            _run(ROOT / "tools/venv", home, "setuptools>=68", "wheel", f"{ROOT}[notebook,tune]")
            (home / ".ready").touch()
        stamp = _content_of_package()
        current = home / ".content"
        if not current.exists() or current.read_text() != stamp:
            shutil.rmtree(ROOT / "build", ignore_errors=True)  # a wheel takes in what lies there
            pip = [home / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps"]
            _run(*pip, "--no-build-isolation", "--force-reinstall", ROOT)
            current.write_text(stamp)
    return home / "bin"


def _content_of_package() -> str:
    digest = hashlib.sha256()
    for folder in ("hpctf", "templates", "site-configs", "docs"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"


_COMMAND = """
import sys
del sys.path[0], sys.argv[0]
from hpctf.cli import main
main()
"""
"""What the console script ``hpctf`` does, once its words are there."""


_IMPORTED: dict[tuple[Path, str | None], Forking] = {}
"""For each Python and user one that has imported what commands need."""


@dataclass
class Person:
    """Somebody who uses hpctf on the cluster's login node."""

    cluster: Cluster
    bin: Path
    home: Path
    user: str | None = None
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.env = {
            "HPCTF_RUNS_ROOT": str(self.home / "runs"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_STATE_HOME": str(self.home / "state"),
            "HPCTF_ADMIN_FOLDER": str(self.home / "admin"),
            "HPCTF_QUESTIONS_PER_MINUTE": "600",  # one person has this cluster for themselves
            **self.env,
        }

    def hpctf(
        self, *words: str | Path, check: bool = True, timeout: float = HANGS_S, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run an hpctf command and return what it printed."""
        variables = self.cluster.environment(self.user, {**self.env, **env})
        command = [str(self.bin / "hpctf"), *map(str, words)]
        kind = self.bin / "python", self.user
        if kind not in _IMPORTED:
            own = self.cluster.environment(self.user, self.env)
            _IMPORTED[kind] = imported(kind[0], own, self.user)
        python, where = _IMPORTED[kind], {"cwd": self.home, "timeout": timeout}
        with python.free(variables) as is_free:
            if not is_free:
                return self.cluster.run(
                    *command, user=self.user, check=check, env=variables, **where
                )
            said = python.run("-c", _COMMAND, *command, env=variables, **where)
        code, out, err = said.returncode, said.stdout.decode(), said.stderr.decode()
        if check and code != 0:
            raise CommandFailed(code, command, out, err)
        return subprocess.CompletedProcess(command, code, out, err)

    def write(self, name: str, text: str) -> Path:
        """Write a file of the person's own."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def folder(self, run: str) -> Path:
        """Return the folder of a run, by its whole id and without a command."""
        return next(self.home.glob(f"runs/*/{run}"))

    def status(self, run: str = "@last") -> dict[str, Any]:
        """Return ``hpctf status --json``."""
        found: dict[str, Any] = json.loads(self.hpctf("status", run, "--json").stdout)
        return found

    def output(self, name: str, run: str = "@last") -> str:
        """Return the content of a file in the run's outputs."""
        return (Path(self.status(run)["run_folder"]) / "outputs" / name).read_text()

    def leave(self) -> None:
        """Cancel what a test has left in the queue, and remove the home."""
        listed = self.cluster.run("squeue", "--noheader", "--format=%i|%Z", check=False).stdout
        rows = [line.split("|") for line in listed.splitlines()]
        mine = [job for job, folder in rows if Path(folder).is_relative_to(self.home)]
        if mine:
            self.cluster.run("scancel", *mine, check=False)
        shutil.rmtree(self.home, ignore_errors=True)

    def jobs(self) -> list[str]:
        """Return the queue's jobs of this person's runs."""
        ids = {json.loads(p.read_text())["id"] for p in self.home.glob("runs/*/*/run.json")}
        return [line for line in self.cluster.queue() if ids & set(line.split())]


def make_person(on: Cluster, installed: Path, name: str, user: str | None) -> Person:
    """Return a person with an empty home on the shared file system."""
    home = on.shared / f"{name}-{os.getpid()}-{os.urandom(3).hex()}"
    home.mkdir(mode=0o755)
    if user is not None:
        shutil.chown(home, user)
    return Person(on, installed, home, user)


@pytest.fixture
def person(cluster: Cluster, installed: Path, request: pytest.FixtureRequest) -> Iterator[Person]:  # noqa: F811
    """An ordinary user with an empty home, which goes away with what is in it."""
    someone = make_person(cluster, installed, "person", getattr(request, "param", TEST_USER))
    yield someone
    someone.leave()


@pytest.fixture
def trainer(
    cluster: Cluster,  # noqa: F811
    installed: Path,
    training_python: str,
    request: pytest.FixtureRequest,
) -> Iterator[Person]:
    """Somebody with a copy of the examples, and HPCTF_EXAMPLE_PYTHON to train with."""
    user = getattr(request, "param", TEST_USER)
    someone = make_trainer(cluster, installed, training_python, user)
    yield someone
    someone.leave()


def make_trainer(on: Cluster, installed: Path, python: str, user: str | None) -> Person:
    """Return a person with a copy of the examples, and HPCTF_EXAMPLE_PYTHON to train with."""
    someone = make_person(on, installed, "trainer", user)
    examples = someone.home / "examples"
    shutil.copytree(ROOT / "examples", examples)
    if user:
        for path in [examples, *examples.rglob("*")]:
            shutil.chown(path, user)
    someone.env["HPCTF_EXAMPLE_PYTHON"] = python
    return someone


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """An experiment of this machine's, with an empty runs root."""
    return Experiment("test", site="local", runs_root=tmp_path / "runs")


def run_python(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run this Python with words, in a child process."""
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env={**os.environ, **env}
    )
