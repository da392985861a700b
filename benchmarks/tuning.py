"""What tuning costs: judging a value, and asking for a trial when a study has many.

    python benchmarks/tuning.py [TRIALS ...] [SAMPLER ...]

TRIALS are the sizes of studies: 1000 and 5000 unless given. Journals lie in TMPDIR.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from hpctf.tuning.expressions import choice, normal, quniform
from hpctf.tuning.goals import PrimaryMetricGoal
from hpctf.tuning.histories import Histories
from hpctf.tuning.judging import judge
from hpctf.tuning.policies import parse_policy
from hpctf.tuning.sampling import RandomParameterSampling
from hpctf.tuning.search import open_search
from hpctf.tuning.spaces import parse_expression

SPACE = {
    "lr": parse_expression("loguniform(1e-5, 1e-1)"),
    "batch": choice(16, 32, 64),
    "units": quniform(8, 256, 8),
    "bias": normal(0, 1),
}
LAST = 100
"""How many asks are timed at each size."""

PENDING = 20


def policies() -> None:
    """1,000 trials of 100 values, 20 at a time."""
    for words in ("bandit:slack=0.1", "median", "truncation:20"):
        policy, generator = parse_policy(words), random.Random(1)
        histories = Histories(PrimaryMetricGoal.MAXIMIZE)
        running, waiting = list(range(20)), list(range(20, 1000))
        started, judged = time.process_time(), 0
        while running:
            trial = generator.choice(running)
            interval = histories.add(trial, generator.random() + 0.1)
            judge(policy, histories, trial)
            judged += 1
            if interval == 100:
                running.remove(trial)
                running += waiting[:1]
                del waiting[:1]
        each = (time.process_time() - started) / judged
        print(f"judging {judged:,} values by {words}: {each * 1e6:.0f} µs each (CPU)")


def draws() -> None:
    for rule in ("random", "sobol"):
        sampling = RandomParameterSampling(SPACE, {"rule": rule})
        sampling.first_trials(1, 1)
        started = time.perf_counter()
        sampling.first_trials(1, 1000)
        print(f"drawing 1,000 {rule} trials: {time.perf_counter() - started:.3f} s")


def asks(sampler: str, sizes: list[int], folder: Path) -> None:
    """The last asks at each size, with `PENDING` trials that have not ended."""
    search = open_search(folder / sampler, SPACE, "minimize", sampler=sampler, seed=1)
    pending: list[tuple[int, float]] = []
    wall: list[float] = []
    cpu: list[float] = []
    for number in range(max(sizes)):
        before = time.perf_counter(), time.process_time()
        asked = search.ask()
        wall.append(time.perf_counter() - before[0])
        cpu.append(time.process_time() - before[1])
        pending.append((asked.number, asked.parameters["bias"] ** 2 + asked.parameters["units"]))
        if len(pending) > PENDING:
            search.tell(*pending.pop(0))
        if number + 1 in sizes:
            in_ms = [1000 * statistics.median(times[-LAST:]) for times in (wall, cpu)]
            size = (folder / sampler).stat().st_size / 1e6
            print(
                f"{sampler}, {number + 1:,} trials: ask {in_ms[0]:.0f} ms ({in_ms[1]:.0f} ms CPU), "
                f"longest {1000 * max(wall[-LAST:]):.0f} ms; journal {size:.1f} MB",
                flush=True,
            )
    started = time.perf_counter()
    open_search(folder / sampler, SPACE, "minimize", sampler=sampler, seed=1)
    print(f"{sampler}: opening it again takes {time.perf_counter() - started:.2f} s")


def main() -> None:
    sizes = [int(word) for word in sys.argv[1:] if word.isdecimal()] or [1000, 5000]
    samplers = [word for word in sys.argv[1:] if not word.isdecimal()]
    policies()
    draws()
    with tempfile.TemporaryDirectory() as folder:
        for sampler in samplers or ["tpe", "random", "cmaes", "qmc"]:
            asks(sampler, sizes, Path(folder))


if __name__ == "__main__":
    main()
