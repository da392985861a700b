"""A server from its first moment to its last: it loads, serves, and leaves without a failed
request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn

from hpctf.common.trusted_path import Trusted
from hpctf.models.version import Version
from hpctf.serving.instance import MODELS, Orders, ServerState, current, take_over
from hpctf.serving.server.address import host_of, listen
from hpctf.serving.server.app import Service
from hpctf.serving.server.certificate import make_certificate
from hpctf.serving.server.connection import KEEP_ALIVE_S, connection_class
from hpctf.serving.server.entry import EntryScript, EntrySettings
from hpctf.serving.server.guard import Guard
from hpctf.serving.server.limits import Limits
from hpctf.serving.server.model import Model
from hpctf.serving.server.providers import chosen, runs_on
from hpctf.serving.server.tokens import Tokens

_LOOK_S = 0.5
_AGAIN_S = 60.0
_AT_LEAST_S = 600.0
_LAST_REQUESTS_S = 20
_TELL = logging.getLogger("hpctf.serving")


def serve(orders: Orders, me: ServerState) -> int:
    """Serve until SIGTERM, or until another server has taken over.

    Raises
    ------
    HpctfError
        A model or the entry script cannot be used, or no port is free.
    """
    logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr, level=logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # clients must not fill the disk
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    with contextlib.suppress(OSError, ValueError):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # uvicorn raises its signals again after the last answer: what is left to do then is done here.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    asyncio.run(_Server(orders, me).run())
    return 0


def threads() -> int:
    """Return how many threads may compute: the CPUs that the process may use."""
    asked = os.environ.get("SLURM_CPUS_PER_TASK", "")
    own = len(os.sched_getaffinity(0))
    return min(own, int(asked)) if asked.isdigit() and int(asked) else own


def configured(service: Service, **more: Any) -> uvicorn.Config:
    """Return how uvicorn serves a service; `more` are options of its own."""
    return uvicorn.Config(
        Guard(service, service.app()),
        loop="asyncio",
        http=connection_class(service.limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=_LAST_REQUESTS_S,
        **more,
    )


def successor_after(limit_s: float) -> float:
    """Return the seconds after which a job submits its successor: three quarters of its time limit,
    or ten minutes before it if that is earlier, but not within the first quarter.

    Slurm may ask a job to end a minute sooner than it was told to (sbatch(1), --signal).
    """
    return max(limit_s / 4, min(limit_s * 3 / 4, limit_s - _AT_LEAST_S))


class _Server:
    def __init__(self, orders: Orders, me: ServerState) -> None:
        self._orders = orders
        self._folder = Path(orders.folder)
        self._me = me

    async def run(self) -> None:
        orders = self._orders
        host, address = host_of(orders, os.environ)
        bound, claim = listen(address, orders.ports, self._me.job_id or f"service {orders.service}")
        certificate, key, fingerprint = make_certificate(self._folder, host)
        limits = Limits(**orders.limits)
        script = self._script()
        models = self._models()
        service = Service(orders.service, models, script, Tokens(Path(orders.tokens)), limits)
        if script is not None:
            await script.start()
        tls = {"ssl_certfile": certificate, "ssl_keyfile": key}
        server = uvicorn.Server(configured(service, **tls))
        uri = f"https://{host}:{bound.getsockname()[1]}"
        ready = replace(
            self._me,
            state="ready",
            uri=uri,
            fingerprint=fingerprint,
            certificate=str(certificate),
            runs_on=runs_on(models, orders.use_gpu, _TELL.warning),
            since=time.time(),
        )
        watch = asyncio.create_task(self._watch(server, service, ready))
        successor = asyncio.create_task(self._submit_successor())
        try:
            await server.serve(sockets=[bound])
        finally:
            watch.cancel()
            successor.cancel()
            if script is not None:
                await script.stop()
            claim.let_go()
            replace(ready, state="stopped", since=time.time()).write(self._folder)
            _TELL.info("Stopped")

    def _models(self) -> list[Model]:
        if self._orders.entry is not None:
            return []
        orders = self._orders
        trusted = Trusted(frozenset(orders.trusted_users), frozenset(orders.trusted_groups))
        providers = chosen(orders.use_gpu, _TELL.warning)
        return [Model(Version(Path(path)), threads(), trusted, providers) for path in orders.models]

    def _script(self) -> EntryScript | None:
        if self._orders.entry is None:
            return None
        root = self._folder / MODELS
        return EntryScript(
            EntrySettings(models_root=str(root), **self._orders.entry), _TELL.warning
        )

    async def _watch(self, server: uvicorn.Server, service: Service, ready: ServerState) -> None:
        """Say that the server is ready, and leave once another one has taken over."""
        while not server.started:
            await asyncio.sleep(0.005)
        ready.write(self._folder)
        take_over(self._orders.service_folder, self._folder)
        _TELL.info("Ready at %s %.2f s after its start", ready.uri, time.time() - self._me.since)
        while current(self._orders.service_folder) == self._folder:
            await asyncio.sleep(_LOOK_S)
        _TELL.info("Another server has taken over")
        service.is_leaving = True
        await asyncio.sleep(self._orders.drain_s)
        server.should_exit = True

    async def _submit_successor(self) -> None:
        """Submit the next server's job before this one's time limit."""
        orders = self._orders
        if not orders.successor or orders.time_limit_s is None:
            return
        await asyncio.sleep(successor_after(orders.time_limit_s))
        command = list(orders.successor)
        while True:
            done = await asyncio.to_thread(subprocess.run, command, stdin=subprocess.DEVNULL)
            if done.returncode == 0:
                return
            _TELL.error("The successor's job was not submitted: trying again in %g s", _AGAIN_S)
            await asyncio.sleep(_AGAIN_S)
