"""Environments for the tests, kept by content: for training, built by `hpctf env build` itself, and
with the tools that runs are exported to."""

from __future__ import annotations

import configparser
import fcntl
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(
    os.environ.get("HPCTF_CACHE")
    or ("/var/cache/hpctf" if os.geteuid() == 0 else ROOT / ".venv/cache")
)

SITE = CACHE / "site.yaml"
"""A site of this machine whose store every user can read."""


OLDER_TENSORFLOW = "2.18" if sys.version_info < (3, 13) else "2.20"
"""An older TensorFlow, with a Horovod of its own: Python 3.13 has none before 2.20."""


def build_environment(
    tensorflow: str, *more: str, backend: str = "mpi", pip: str | None = "scikit-learn"
) -> subprocess.CompletedProcess[str]:
    """Build an environment with TensorFlow, `pip` and, for mpi, Horovod and mpi4py, unless it is
    kept.

    Its interpreter is what the command prints. Two test processes at once build it once.
    """
    write_site()
    words = ["--site", str(SITE), "--backend", backend, *(["--pip", pip] if pip else [])]
    words += ["--framework-version", tensorflow, *more]
    return subprocess.run(
        [sys.executable, "-c", "from hpctf.cli import main; main()", "env", "build", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=CACHE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def write_site() -> None:
    """Write `SITE`, unless it is there."""
    CACHE.mkdir(parents=True, exist_ok=True)
    content = {
        "name": "tests",
        "scheduler": "local",
        "umask": "0022",
        "environments": {"store": str(CACHE / "environments")},
    }
    text = json.dumps(content)
    if not SITE.exists() or SITE.read_text() != text:
        SITE.write_text(text)


def own_environment(name: str) -> str:
    """Return the interpreter of one of hpctf's own environments, built unless it is kept."""
    from hpctf.environment.own import own_python
    from hpctf.site.loading import load_site

    write_site()
    return str(own_python(name, load_site(str(SITE))))


TOOLS = (
    "mlflow==3.17.2",
    "tensorboard==2.21.0",
    "setuptools<81",
    "pandas",
    "jupyterlab",
    "anywidget",
)
"""What is too large for the environment in which all tests run."""


COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}
"""Variables of a Python that keeps what it has compiled of the tools for the next, whatever the
machine says: MLflow takes more than twice as long to import without, and all of them ten times as
long to compile as what the tests import."""


def build_tools() -> subprocess.CompletedProcess[str]:
    """Build an environment with hpctf's own requirements and `TOOLS`, unless it is kept.

    Its interpreter is what the answer's stdout holds.
    """
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return kept("tools", [*setup["options"]["install_requires"].split(), *TOOLS])


CLIENTS = (
    "onnx==1.23.2",
    "tritonclient[http]==2.73.0",
    "schemathesis==4.32.5",
    "kserve==0.21.0; python_version < '3.14'",
    "azureml-inference-server-http==1.5.1",
    "inference-schema==1.8",
)
"""What makes ONNX models for the tests, calls services as others do, and Azure ML's own server of
entry scripts."""


def build_clients() -> subprocess.CompletedProcess[str]:
    """Build an environment with `CLIENTS`, as `build_tools` does."""
    return kept("clients", list(CLIENTS))


def kept(name: str, wanted: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Build an environment with what is wanted, by uv with these options, unless it is kept.

    Its interpreter is what the answer's stdout holds.
    """
    digest = hashlib.sha256("\n".join([sys.executable, *wanted]).encode()).hexdigest()[:10]
    home = CACHE / f"{name}-{digest}"
    python = home / "bin/python"
    CACHE.mkdir(parents=True, exist_ok=True)
    done = subprocess.CompletedProcess([], 0, f"{python}\n", "")
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (home / ".ready").exists():
            return done
        uv = [sys.executable, "-m", "uv"]
        for words in (
            [*uv, "venv", "--clear", "--python", sys.executable, str(home)],
            [*uv, "pip", "install", "--python", str(python), *options, *wanted],
        ):
            made = subprocess.run(words, capture_output=True, text=True)
            if made.returncode:
                return made
        (home / ".ready").touch()
    return done
