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
from typing import Any

from hpctf.tuning.expressions import choice, normal, quniform
from hpctf.tuning.goals import PrimaryMetricGoal
from hpctf.tuning.histories import Histories
from hpctf.tuning.judging import judge
from hpctf.tuning.policies import parse_policy
from hpctf.tuning.sampling import RandomParameterSampling
from hpctf.tuning.search import open_search
from hpctf.tuning.spaces import parse_expression
from hpctf.tuning.trials import Told

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


def asks(sampler: str, size: int, folder: Path) -> None:
    """The last asks of a study of that size, with `PENDING` trials that have not ended."""
    path = folder / f"{sampler}-{size}"
    search = open_search(path, SPACE, "minimize", sampler=sampler, seed=1)
    earlier = RandomParameterSampling(SPACE).first_trials(2, size - LAST - PENDING)
    search.warm_start(
        [Told(n, "complete", found, (value_of(found),)) for n, found in enumerate(earlier)], "it"
    )
    pending = [search.ask() for _ in range(PENDING)]
    wall: list[float] = []
    cpu: list[float] = []
    for _ in range(LAST):
        before = time.perf_counter(), time.process_time()
        pending.append(search.ask())
        wall.append(time.perf_counter() - before[0])
        cpu.append(time.process_time() - before[1])
        ended = pending.pop(0)
        search.tell(ended.number, value_of(ended.parameters))

    in_ms = [1000 * statistics.median(times) for times in (wall, cpu)]
    started = time.perf_counter()
    open_search(path, SPACE, "minimize", sampler=sampler, seed=1)
    print(
        f"{sampler}, {size:,} trials: ask {in_ms[0]:.0f} ms ({in_ms[1]:.0f} ms CPU), longest "
        f"{1000 * max(wall):.0f} ms; a journal of {path.stat().st_size / 1e6:.1f} MB opens in "
        f"{time.perf_counter() - started:.2f} s",
        flush=True,
    )


def value_of(parameters: dict[str, Any]) -> float:
    value: float = parameters["bias"] ** 2 + parameters["units"]
    return value


def main() -> None:
    sizes = [int(word) for word in sys.argv[1:] if word.isdecimal()] or [1000, 5000]
    samplers = [word for word in sys.argv[1:] if not word.isdecimal()]
    policies()
    draws()
    with tempfile.TemporaryDirectory() as folder:
        for sampler in samplers or ["tpe", "random", "cmaes", "qmc"]:
            for size in sizes:
                asks(sampler, size, Path(folder))


if __name__ == "__main__":
    main()
