"""Tries the other ways to start MPI ranks, within the same allocation, if the site's has failed.

``python launchers.py RUN_FOLDER PYTHON`` in the batch script, after the site's own step. Stops at
the first way that makes one world of all ranks; ``outputs/tried.json`` keeps what became of each.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from typing import Any

TRY_S = 40.0
"""Seconds that each way may take: one that does not fit may hang."""
FIRST = ("pmix", "pmi2", "cray_shasta", "openmpi")
"""What is tried first; versions of these (pmix_v4) are the same plugins under other names."""


def main(run: str, python: str) -> int:
    """Try the other launchers, if the world is not whole."""
    with open(os.path.join(run, "plan.json"), encoding="utf-8") as stream:
        plan = json.load(stream)
    outputs = os.path.join(run, "outputs")
    nodes = sum(role["count"] for role in plan["roles"])
    if whole(outputs, "site", nodes):
        return 0
    options = plan["launch"]["options"]
    mpirun = plan["launch"].get("command") or "mpirun"
    used = [word.partition("=")[2] for word in options if word.startswith("--mpi=")]
    listed = plugins()
    other = [word for word in options if not word.startswith("--mpi=")]
    tried: list[dict[str, Any]] = []
    by_srun = plan["launch"]["method"] == "srun"
    ways = [("srun", name) for name in worth_trying(listed, used if by_srun else [])]
    if by_srun and shutil.which(mpirun):
        ways.append(("mpirun", ""))
    begun = glob.glob(os.path.join(glob.escape(outputs), "facts-*.json"))
    if not begun and not refused_plugin(run):
        ways = []  # it is not for MPI that the ranks did not begin
    for launcher, plugin in ways:
        name = plugin or launcher
        if launcher == "srun":
            command = ["srun", f"--mpi={plugin}", f"--nodes={nodes}", f"--ntasks={nodes}"]
            command += ["--kill-on-bad-exit=1", *(other if by_srun else [])]
        else:
            command = [mpirun, "-n", str(nodes)]
        script = os.path.join(run, "snapshot", "mpi_probe.py")
        command += [python, script, os.path.join(outputs, f"mpi-{name}")]
        words = attempt(command)
        works = whole(outputs, name, nodes)
        tried.append({"launcher": launcher, "plugin": plugin, "works": works, "words": words})
        if works:
            break
    path = os.path.join(outputs, "tried.json")
    with open(f"{path}.tmp", "w", encoding="utf-8") as stream:
        json.dump({"plugins": listed, "tried": tried}, stream)
    os.replace(f"{path}.tmp", path)
    return 0


def refused_plugin(run: str) -> bool:
    """Return whether srun started no rank since it does not know the plugin."""
    try:
        with open(os.path.join(run, "logs", "job.log"), encoding="utf-8", errors="replace") as log:
            return "Invalid MPI type" in log.read()
    except OSError:
        return False


def whole(outputs: str, name: str, size: int) -> bool:
    """Return whether every rank was in one world of that size."""
    sizes = []
    for path in glob.glob(os.path.join(glob.escape(outputs), f"mpi-{name}-*.json")):
        with open(path, encoding="utf-8") as stream:
            sizes.append(json.load(stream)["size"])
    return sizes == [size] * size


def plugins() -> list[str]:
    """Return the plugins that this srun knows."""
    try:
        done = subprocess.run(
            ["srun", "--mpi=list"], capture_output=True, text=True, timeout=TRY_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return named_plugins(done.stdout + done.stderr)


def named_plugins(text: str) -> list[str]:
    """Read ``srun --mpi=list``: a name a line after its heading, and some versions of pmix on a
    line of their own.

    `hpctf.admin.survey.inventory` reads the same, but is not there on the nodes.
    """
    lines = [line.replace("srun:", "").strip() for line in text.splitlines()]
    heads = [n for n, line in enumerate(lines) if re.match(r"MPI (plugin )?types are", line)]
    listed = lines[heads[-1] + 1 :] if heads else []
    names = [line for line in listed if re.match(r"[a-z0-9_]+$", line)]
    return [name for name in dict.fromkeys(names) if name != "none"]


def worth_trying(listed: list[str], used: list[str]) -> list[str]:
    """Return the plugins to try, likely ones first; ``none`` starts ranks that are alone."""
    first = [name for name in FIRST if name in listed]
    rest = [name for name in listed if name not in first and not name.startswith("pmix_")]
    return [name for name in first + rest if name not in used]


def attempt(command: list[str]) -> str:
    """Run a command to its end, or kill it after a while; return its last words."""
    environment = {key: value for key, value in os.environ.items() if key != "SLURM_MPI_TYPE"}
    if os.geteuid() == 0:
        environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        env=environment,
    )
    try:
        words, _ = process.communicate(timeout=TRY_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            words, _ = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            words, _ = process.communicate()
        words += f"\nno end within {TRY_S:g} s"
    return words[-2000:]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
