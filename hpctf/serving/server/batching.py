"""Requests that wait for a model run together: nobody waits for others to come.

While the model runs, requests gather; as soon as it is free, all that have gathered and fit run as
one. A model whose runs are short runs between two looks at the network; one whose runs are long
runs in a thread. A request that is the only one runs at once: others cost it nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from hpctf.serving.server.limits import Limits
from hpctf.serving.server.model import Model
from hpctf.serving.server.refusal import Refusal, too_busy

MOST_ROWS = 64
"""Rows that run together at most; a single request may have more."""

MOST_WAITING = 1024
"""Requests that wait at most; others are told to come again."""

_SHORT_S = 0.001
"""A run that takes no longer may keep the network waiting; others get a thread."""

_Outputs = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class _Waiting:
    inputs: Mapping[str, Any]
    rows: int
    answer: asyncio.Future[_Outputs]

    def fits(self, other: _Waiting) -> bool:
        """Whether the rows of both have the same sizes."""
        return all(
            value.shape[1:] == other.inputs[name].shape[1:] for name, value in self.inputs.items()
        )


class Batcher:
    """Runs a model for whoever waits. `note` gets the number of requests of each run."""

    def __init__(self, model: Model, limits: Limits, note: Callable[[int], None]) -> None:
        self._model = model
        self._limits = limits
        self._note = note
        self._waiting: deque[_Waiting] = deque()
        self._is_busy = False
        self._short_bytes = 0
        self._thread = ThreadPoolExecutor(1, "model")

    async def run(self, inputs: Mapping[str, Any]) -> _Outputs:
        """Return the model's outputs for one request.

        Raises
        ------
        Refusal
            The model does not take these inputs, or too many wait.
        """
        if self._limits.busy <= 1 and not self._is_busy:
            size = _bytes(inputs)
            if size <= self._short_bytes:
                self._note(1)
                return self._timed(size, self._model.run, inputs)
        if len(self._waiting) >= MOST_WAITING:
            raise too_busy("Too many requests wait for this model.")
        loop = asyncio.get_running_loop()
        rows = {len(value) for value in inputs.values()} if self._model.joins_rows else {0}
        one = _Waiting(inputs, rows.pop() if len(rows) == 1 else 0, loop.create_future())
        self._waiting.append(one)
        if not self._is_busy:
            self._is_busy = True
            loop.call_soon(self._turn)
        return await one.answer

    def _turn(self) -> None:
        batch = self._next()
        if not batch:
            self._is_busy = False
            return
        self._note(len(batch))
        size = sum(_bytes(one.inputs) for one in batch)
        if size <= self._short_bytes:
            self._end(batch, self._timed(size, self._run, batch))
            return
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._thread, self._timed, size, self._run, batch)
        done.add_done_callback(lambda future: self._end(batch, future.result()))

    def _next(self) -> list[_Waiting]:
        """Take the requests that run next: the first, and those behind it that fit."""
        batch: list[_Waiting] = []
        rows = 0
        while self._waiting:
            one = self._waiting[0]
            if one.answer.cancelled():  # its client has gone
                self._waiting.popleft()
                continue
            if batch and not (
                one.rows and batch[0].rows and rows + one.rows <= MOST_ROWS and one.fits(batch[0])
            ):
                break
            batch.append(self._waiting.popleft())
            rows += one.rows
        return batch

    def _run(self, batch: list[_Waiting]) -> list[_Outputs | Exception]:
        """Run a batch. If it fails, each runs alone: nobody suffers from another's values."""
        try:
            if len(batch) == 1:
                return [self._model.run(batch[0].inputs)]
            return _joined(self._model, batch)
        except Exception as error:
            return [error] if len(batch) == 1 else [_alone(self._model, one) for one in batch]

    def _timed(self, size: int, run: Callable[[Any], T], given: Any) -> T:
        """Run, and remember how many bytes of inputs make a run that is short, as it went last."""
        start = time.perf_counter()
        try:
            return run(given)
        finally:
            if time.perf_counter() - start <= _SHORT_S:
                self._short_bytes = max(self._short_bytes, size)
            else:
                self._short_bytes = min(self._short_bytes, size - 1)

    def _end(self, batch: list[_Waiting], results: list[_Outputs | Exception]) -> None:
        for one, result in zip(batch, results, strict=True):
            if one.answer.done():
                continue
            if isinstance(result, Exception):
                one.answer.set_exception(result)
            else:
                one.answer.set_result(result)
        asyncio.get_running_loop().call_soon(self._turn)


def _bytes(inputs: Mapping[str, Any]) -> int:
    return sum(value.nbytes for value in inputs.values())


def _joined(model: Model, batch: list[_Waiting]) -> list[_Outputs | Exception]:
    names = batch[0].inputs
    found = model.run({name: np.concatenate([one.inputs[name] for one in batch]) for name in names})
    ends = np.cumsum([one.rows for one in batch])[:-1]
    parts = {name: np.split(value, ends) for name, value in found.items()}
    return [{name: part[number] for name, part in parts.items()} for number in range(len(batch))]


def _alone(model: Model, one: _Waiting) -> _Outputs | Exception:
    try:
        return model.run(one.inputs)
    except Refusal as refusal:
        return refusal
