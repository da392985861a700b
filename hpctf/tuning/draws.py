"""The parameters of each trial, from the study's seed and the trial's number alone.

A trial's uniform numbers come from a hash of the seed, the number and the parameter's name, not
from a generator with a state: the same study gives the same trials on any number of agents and
after a restart, a longer study begins with the trials of a shorter one, and another parameter
changes none of the others' draws.

Nothing is tried twice where a space has an end: as Azure ML says of ``max_total_runs``, "there may
be fewer runs when the sample space is smaller than this value". A repeated draw is passed over, and
the study ends when every combination has had its trial.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

from hpctf.errors import UsageError
from hpctf.tuning.distributions import Expression, identity

Units = Mapping[str, float]
"""By parameter a number between 0 and 1, both excluded."""

_BITS = 53
_MOST_REPEATS = 1000
_MOST_SORTED = 1_000_000


def unit_of(seed: int, number: int, name: str) -> float:
    """Return a uniform number between 0 and 1, both excluded."""
    key = identity([seed, number, name]).encode()
    whole = int.from_bytes(blake2b(key, digest_size=8).digest(), "big") >> (64 - _BITS)
    return (whole + 0.5) / 2.0**_BITS if whole < 2**_BITS - 1 else 1 - 2.0**-_BITS


def seed_of(seed: int, number: int) -> int:
    """Return a seed of 32 bits for a sampler that draws trial `number` of a study."""
    key = identity([seed, number]).encode()
    return int.from_bytes(blake2b(key, digest_size=4).digest(), "big")


def size_of(space: Mapping[str, Expression]) -> int | None:
    """Return how many combinations a space has; None if there is no end of them."""
    size = 1
    for expression in space.values():
        outcomes = expression.outcomes()
        try:
            size *= len(outcomes) if outcomes is not None else 0
        except OverflowError:  # quniform(0, 1e300, 1): too many for a length
            return None
    return size or None


def values_at(space: Mapping[str, Expression], units: Units) -> dict[str, Any]:
    """Return the value of each parameter."""
    return {name: expression.at(units[name]) for name, expression in space.items()}


def random_trials(space: Mapping[str, Expression], seed: int) -> Iterator[dict[str, Any]]:
    """Yield the parameters of trial 0, 1, 2 and so on, drawn at random."""

    def units(number: int) -> dict[str, float]:
        return {name: unit_of(seed, number, name) for name in space}

    return _without_repeats(space, units, seed)


def sobol_trials(space: Mapping[str, Expression], seed: int) -> Iterator[dict[str, Any]]:
    """Yield the parameters of trial 0, 1, 2 and so on from a scrambled Sobol sequence.

    It fills the space more evenly than random draws do (quasi-Monte Carlo).

    Raises
    ------
    UsageError
        scipy is not installed.
    """
    try:
        from scipy.stats.qmc import Sobol
    except ImportError:
        raise UsageError(
            "Sobol sampling needs scipy, which is not installed.", "pip install 'hpctf[tune]'"
        ) from None

    sequence = Sobol(len(space), scramble=True, rng=seed_of(seed, 0))
    block: list[list[float]] = []

    def units(number: int) -> dict[str, float]:
        if number == len(block):  # blocks of powers of two keep the sequence's balance
            block.extend(sequence.random(max(64, len(block))).tolist())
        inside = (min(max(unit, 2**-54), 1 - 2**-53) for unit in block[number])
        return dict(zip(space, inside, strict=True))

    return _without_repeats(space, units, seed)


def grid_trials(space: Mapping[str, Expression]) -> Iterator[dict[str, Any]]:
    """Yield every combination once; the last parameter changes fastest."""
    outcomes = [expression.outcomes() for expression in space.values()]
    endless = [name for name, found in zip(space, outcomes, strict=True) if found is None]
    if endless:
        raise UsageError(
            f"Parameter {endless[0]} has no end of values, and a grid needs every one.",
            f"Choose them: {endless[0]}=choice(0.001, 0.01, 0.1).",
        )
    for values in itertools.product(*(found for found in outcomes if found is not None)):
        yield dict(zip(space, values, strict=True))


def _without_repeats(
    space: Mapping[str, Expression], units: Callable[[int], Units], seed: int
) -> Iterator[dict[str, Any]]:
    size = size_of(space)
    if size is None:
        for number in itertools.count():
            yield values_at(space, units(number))

    seen: set[str] = set()
    repeats = 0
    for number in itertools.count():
        values = values_at(space, units(number))
        if identity(values) not in seen:
            seen.add(identity(values))
            yield values
        else:
            repeats += 1
        if len(seen) == size:
            return
        # what is left is rare: a rule that depends on the sequence alone keeps trials' numbers
        if repeats > _MOST_REPEATS + 4 * len(seen):
            break

    rest = (values for values in grid_trials(space) if identity(values) not in seen)
    assert size is not None
    if size <= _MOST_SORTED:
        yield from sorted(rest, key=lambda values: unit_of(seed, 0, identity(values)))
    else:
        yield from rest
