"""Training environments for the tests, built by `hpctf env build` itself and kept by content."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(
    os.environ.get("HPCTF_CACHE")
    or ("/var/cache/hpctf" if os.geteuid() == 0 else ROOT / ".venv/cache")
)

SITE = CACHE / "site.yaml"
"""A site of this machine whose store every user can read."""


def build_environment(tensorflow: str) -> subprocess.CompletedProcess[str]:
    """Build an environment with TensorFlow, Horovod, mpi4py and scikit-learn, unless it is kept.

    Its interpreter is what the command prints. Two test processes at once build it once.
    """
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
    words = ["--site", str(SITE), "--backend", "mpi", "--pip", "scikit-learn"]
    words += ["--framework-version", tensorflow]
    return subprocess.run(
        [sys.executable, "-c", "from hpctf.cli import main; main()", "env", "build", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=CACHE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
