"""What the login-side tests share: a project, a plan of it, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hpctf import TensorFlow
from hpctf.cli import COMMANDS
from hpctf.common.paths import SITE_CONFIGS
from hpctf.plan import Plan
from hpctf.planning.planner import Planned, make_plan
from hpctf.site.loading import load_site
from hpctf.site.model import Site
from tests.support.forking import Forking
from tests.support.waiting import HANGS_S

HERE = Path(__file__).parent
CLUSTER_SITE = HERE / "sites" / "cluster.yaml"
"""A site that uses all that a site file can say."""
PACKAGED = sorted(path.stem for path in Path(SITE_CONFIGS).glob("*.yaml"))
"""The sites that come with hpctf."""


def project(folder: Path, script: str = "train.py", text: str = "print('hello')\n") -> Path:
    """Make a source folder with one script and return it."""
    path = folder / script
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return folder


def site_of(name: str | Path | Site = "slurm", **changes: Any) -> Site:
    """Return a site, with some of its keys replaced as if its YAML said so."""
    return replace(name if isinstance(name, Site) else load_site(name), **changes)


def planned(
    source: Path,
    site: str | Path | Site = "slurm",
    run_folder: str = "/shared/runs/e/e_1_a",
    **asked: Any,
) -> Planned:
    """Plan a training of `source`."""
    estimator = TensorFlow(source, entry_script="train.py", **asked)
    return make_plan(
        estimator, site_of(site), run_id="e_1_a", experiment="e", run_folder=run_folder
    )


def options(plan: Plan, component: int = 0) -> dict[str, str]:
    """Return the sbatch options of one component."""
    return dict(plan.components[component].directives)


def hpctf(
    *words: str | Path,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    text: bool = True,
    memory: int | None = None,
) -> subprocess.CompletedProcess[Any]:
    """Run an hpctf command in `cwd`, as from a shell, in a process of its own.

    Parameters
    ----------
    memory
        How many bytes it may have at most.
    """
    code = "from hpctf.cli import main; main()"
    if memory is not None:
        limit = f"resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))"
        code = f"import resource; {limit}; {code}"
    command = ("-c", code, *map(str, words))
    variables = _of_a_shell(HPCTF_RUNS_ROOT=str(cwd / "runs")) | (env or {})
    if _imported().alike(variables):
        done: Any = _imported().run(*command, cwd=cwd, env=variables)
        out, err = (said.decode() if text else said for said in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(command, done.returncode, out, err)
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=text,
        timeout=HANGS_S,
    )


def _of_a_shell(**more: str) -> dict[str, str]:
    here = {"PYTHONPATH": str(HERE.parents[1])}  # this checkout, whatever is installed
    return {**os.environ, **here, **more}


@cache
def _imported() -> Forking:
    return imported(sys.executable, _of_a_shell())


def imported(python: str | Path, env: Mapping[str, str], user: str | None = None) -> Forking:
    """Return a Python that has imported what commands take longest to import."""
    commands = ", ".join(module for module, _ in COMMANDS.values())
    prepare = f"""
import hpctf, {commands}
import contextlib, os, tempfile
with (
    tempfile.TemporaryDirectory() as folder,
    open(os.devnull, "w") as nowhere,
    contextlib.redirect_stdout(nowhere),
    contextlib.suppress(SystemExit),
):
    os.environ["HPCTF_RUNS_ROOT"] = folder
    open(f"{{folder}}/train.py", "w").close()
    hpctf.cli.cli.main(["submit", "--site", "local", "--dry-run", f"{{folder}}/train.py"])
"""
    return Forking(python, prepare, env, user)
