"""What `hpctf watch` costs: time to its first picture, bytes and CPU a second from then on.

    python benchmarks/watch.py FOLDER

One run of this machine logs nothing while it is watched, another one ten values a second and an
epoch each second.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hpctf import Experiment, Run, TensorFlow  # noqa: E402
from tests.support.terminal import Terminal  # noqa: E402
from tests.support.waiting import wait_until  # noqa: E402

SECONDS = 10
SIZES = ((80, 24), (160, 50))
TRAINING = """
import sys, time
from hpctf import Run
run = Run.get_context()
for step in range(2000):
    run.log("batch/loss", 1 / (step + 1), step)
    if step % 10 == 9:
        run.log("loss", 10 / (step + 1), step // 10)
        run.log("accuracy", 1 - 1 / (step + 1), step // 10)
        run.progress(epoch=step // 10 + 1, epochs=200)
    if step > 100:
        time.sleep(0.1 if sys.argv[1] == "busy" else 60)
"""


def start(folder: Path, kind: str) -> Run:
    """Start a run and let it log its first epochs."""
    source = folder / "proj"
    source.mkdir(parents=True, exist_ok=True)
    (source / "train.py").write_text(TRAINING)
    estimator = TensorFlow(source, entry_script="train.py", script_params={kind: ""})
    run = Experiment("watched", site="local", runs_root=folder / "runs").submit(estimator)
    wait_until(lambda: "accuracy" in run.last_metrics())
    time.sleep(2)  # until the first sample
    return run


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(folder: Path, run: Run, columns: int, lines: int) -> str:
    """Watch a run for a while, and say what that cost."""
    began = time.monotonic()
    seen = Terminal("watch", run.id, cwd=folder, columns=columns, lines=lines)
    seen.shows("q or Ctrl-C")
    first_s, first_bytes = time.monotonic() - began, len(seen.sent)
    time.sleep(2)
    sent, cpu = len(seen.sent), cpu_s(seen.process.pid)
    time.sleep(SECONDS)
    sent, cpu = len(seen.sent) - sent, cpu_s(seen.process.pid) - cpu
    seen.type("q")
    seen.ends()
    return (
        f"first picture after {first_s:.2f} s with {first_bytes} bytes, "
        f"then {sent / SECONDS:.0f} bytes and {100 * cpu / SECONDS:.1f} % of a core a second"
    )


def main(folder: Path) -> None:
    """Print a line for each run and size."""
    for kind in ("quiet", "busy"):
        run = start(folder, kind)
        for columns, lines in SIZES:
            print(f"{kind}, {columns}x{lines}: {measure(folder, run, columns, lines)}", flush=True)
        run.cancel()
        run.wait_for_completion(raise_on_error=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
