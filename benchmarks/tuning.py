"""What tuning costs

Judging a value of a trial by a policy, drawing trials ahead, and asking for a trial when a study
has many, with 20 trials that have not ended. Journals lie on this machine's disk.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.figures import Figure
from hpctf.tuning.expressions import choice, normal, quniform
from hpctf.tuning.goals import PrimaryMetricGoal
from hpctf.tuning.histories import Histories
from hpctf.tuning.judging import judge
from hpctf.tuning.policies import parse_policy
from hpctf.tuning.sampling import RandomParameterSampling
from hpctf.tuning.search import open_search
from hpctf.tuning.spaces import parse_expression
from hpctf.tuning.trials import Told

QUICK = False
SIZES = (200, 1_000, 5_000)
SPACE = {
    "lr": parse_expression("loguniform(1e-5, 1e-1)"),
    "batch": choice(16, 32, 64),
    "units": quniform(8, 256, 8),
    "bias": normal(0, 1),
}
LAST = 100
"""How many asks are timed at each size."""

PENDING = 20


def policies() -> Iterator[Figure]:
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
        yield Figure(f"judging one of {judged:,} values by `{words}`, CPU", "µs", (each * 1e6,))


def draws() -> Iterator[Figure]:
    """1,000 trials that do not depend on earlier ones."""
    for rule in ("random", "sobol"):
        sampling = RandomParameterSampling(SPACE, {"rule": rule})
        sampling.first_trials(1, 1)
        started = time.perf_counter()
        sampling.first_trials(1, 1000)
        taken = time.perf_counter() - started
        yield Figure(f"drawing 1,000 trials, `{rule}`", "ms", (taken * 1e3,))


def asks(sampler: str, size: int, folder: Path) -> Iterator[Figure]:
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

    yield Figure(f"asking `{sampler}`", "ms", in_ms(wall), size, "trials")
    yield Figure(f"asking `{sampler}`, CPU", "ms", in_ms(cpu), size, "trials")
    started = time.perf_counter()
    open_search(path, SPACE, "minimize", sampler=sampler, seed=1)
    taken = time.perf_counter() - started
    yield Figure(f"opening the journal of `{sampler}`", "ms", (taken * 1e3,), size, "trials")


def in_ms(seconds: list[float]) -> tuple[float, ...]:
    """Return the same in milliseconds."""
    return tuple(1e3 * one for one in seconds)


def value_of(parameters: dict[str, Any]) -> float:
    value: float = parameters["bias"] ** 2 + parameters["units"]
    return value


def measure(bench: Bench) -> Iterator[Figure]:
    yield from policies()
    yield from draws()
    for sampler in ("tpe", "random", "cmaes", "qmc"):
        for size in SIZES:
            yield from asks(sampler, size, bench.folder)
