"""The entry script: a process of its own, in its own environment, that is started again if it ends.

It and the server exchange frames over a socket (`hpctf.serving.entry`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpctf.common.paths import SERVICE_ENTRY
from hpctf.errors import UsageError
from hpctf.serving.entry.frames import LENGTHS
from hpctf.serving.entry.requests import Request
from hpctf.serving.entry.script import Answer, refusal
from hpctf.serving.server.refusal import Refusal, too_busy

MOST_WAITING = 256
_AGAIN_S = 1.0
"""Seconds between the end of a script and its next start."""

_LENGTHS = struct.Struct(LENGTHS)
_SECRET = frozenset({"authorization", "cookie"})
"""Headers that the script does not get."""


@dataclass(frozen=True)
class EntrySettings:
    """An Azure ML entry script: ``init()`` is called once, ``run(data)`` for each request.

    Parameters
    ----------
    python
        The interpreter that runs it.
    script, folder
        The file, and the folder that it is run in and imports from.
    models
        Folder that AZUREML_MODEL_DIR names.
    timeout_s
        Seconds that ``run`` may take.
    """

    python: str
    script: str
    folder: str
    models: str
    models_root: str
    timeout_s: float = 60.0
    environment: Mapping[str, str] = field(default_factory=dict)


class EntryScript:
    """Runs an entry script. `tell` gets the words of what goes wrong."""

    def __init__(self, settings: EntrySettings, tell: Callable[[str], None]) -> None:
        self._settings = settings
        self._tell = tell
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._again: asyncio.Task[None] | None = None
        self.schemas: Mapping[str, Any] = {}
        """What inference-schema says of ``input`` and ``output``."""

    @property
    def is_ready(self) -> bool:
        """Whether ``init()`` has returned, and the process runs."""
        return self._reader is not None

    async def start(self) -> None:
        """Start the process, and return once ``init()`` has.

        Raises
        ------
        UsageError
            The script, or its ``init()``, failed.
        """
        settings = self._settings
        ours, theirs = socket.socketpair()
        with theirs:
            environment = {
                **os.environ,
                **settings.environment,
                "AZUREML_MODEL_DIR": settings.models,
                "HPCTF_ENTRY_MODELS": settings.models_root,
            }
            command = [settings.python, SERVICE_ENTRY, str(theirs.fileno())]
            self._process = await asyncio.create_subprocess_exec(
                *command,
                settings.script,
                cwd=settings.folder,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        try:
            head, _ = await _read(reader)
        except (OSError, EOFError) as error:
            code = await self._process.wait()
            raise UsageError(
                f"The entry script ended with exit code {code}: {error}.",
                "Correct the entry script: hpctf services logs shows what it printed.",
            ) from None
        if "error" in head:
            await self.stop()
            raise UsageError(
                f"The entry script failed as it began: {head['error']}",
                "Correct the entry script: hpctf services logs shows its traceback.",
            )
        self.schemas = {key: head[key] for key in ("input", "output") if key in head}
        self._reader = reader

    async def run(self, request: Request) -> Answer:
        """Return what ``run()`` answered.

        Raises
        ------
        Refusal
            The script's process ended, or is being started again.
        """
        if self._waiting >= MOST_WAITING:
            raise too_busy("Too many requests wait for the entry script.")
        self._waiting += 1
        try:
            async with self._turn:
                return await self._run(request)
        finally:
            self._waiting -= 1

    async def _run(self, request: Request) -> Answer:
        reader, writer = self._reader, self._writer
        if reader is None or writer is None:
            raise too_busy("The entry script is being started again.")
        asked = request._asdict()
        data = asked.pop("body")
        asked["headers"] = [pair for pair in request.headers if pair[0] not in _SECRET]
        head = json.dumps(asked).encode()
        try:
            writer.write(_LENGTHS.pack(len(head), len(data)) + head)
            writer.write(data)
            answer, body = await asyncio.wait_for(_read(reader), self._settings.timeout_s)
        except asyncio.TimeoutError:
            self._start_again()
            words = f"Scoring timeout after {self._settings.timeout_s * 1000:.0f} ms"
            return refusal(500, words, failed=True)
        except (OSError, EOFError):
            self._start_again()
            raise Refusal(502, "The entry script's process ended.") from None
        headers = [(str(name), str(value)) for name, value in answer["headers"]]
        return Answer(int(answer["status"]), headers, body)

    def _start_again(self) -> None:
        self._reader = None
        self._again = asyncio.get_running_loop().create_task(self._restart())

    async def _restart(self) -> None:
        while self._reader is None:
            await self.stop()
            await asyncio.sleep(_AGAIN_S)
            self._tell("The entry script is started again")
            with contextlib.suppress(UsageError):
                await self.start()

    async def stop(self) -> None:
        """End the process, and all that it has started."""
        self._reader = None
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()


async def _read(reader: asyncio.StreamReader) -> tuple[dict[str, Any], bytes]:
    head, body = _LENGTHS.unpack(await reader.readexactly(_LENGTHS.size))
    found = json.loads(await reader.readexactly(head))
    return found, await reader.readexactly(body)
