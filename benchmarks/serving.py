"""Services side by side: hpctf, a plain FastAPI app and kserve, with the same ONNX models.

    python benchmarks/serving.py FOLDER [--quick]

FOLDER keeps an environment with all three. The client runs on the same CPUs, and opens its
connections before it measures; hpctf is measured without TLS against the others, and with it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PACKAGES = (
    *("starlette", "uvicorn", "httptools", "orjson", "prometheus-client", "cryptography"),
    *("onnx", "onnxruntime", "numpy", "fastapi", "kserve"),
)

HPCTF = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
import uvicorn
from hpctf.common.trusted_path import ONLY_ME
from hpctf.models.version import Version
from hpctf.serving.server.app import Service
from hpctf.serving.server.connection import connection_class
from hpctf.serving.server.limits import Limits
from hpctf.serving.server.lifetime import threads
from hpctf.serving.server.model import Model
from hpctf.serving.server.tokens import Tokens
folder, port = Path(sys.argv[1]), int(sys.argv[2])
versions = map(Version, sorted((folder / "models").glob("*/1")))
models = [Model(version, threads(), ONLY_ME) for version in versions]
limits = Limits(read_s=600.0)
service = Service("bench", models, None, Tokens(folder / "tokens.json"), limits)
if "alone" in sys.argv:
    async def run(self, inputs):
        return self._model.run(inputs)
    from hpctf.serving.server.batching import Batcher
    Batcher.run = run
uvicorn.run(service.app(), port=port, http=connection_class(limits), ws="none", lifespan="off",
            access_log=False, log_level="error")
"""

FASTAPI = """
import sys
import numpy as np, onnxruntime, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]
class Body(BaseModel):
    inputs: list[Tensor]
app = FastAPI()
load = onnxruntime.InferenceSession
sessions = {name: load(f"{sys.argv[1]}/{name}.onnx") for name in ("digits", "images")}
@app.post("/v2/models/{name}/infer")
async def infer(name: str, body: Body):
    one = body.inputs[0]
    given = np.array(one.data, np.float32).reshape(one.shape)
    (found,) = sessions[name].run(None, {"x": given})
    data = found.ravel().tolist()
    return {"outputs": [{"name": "y", "shape": found.shape, "datatype": "FP32", "data": data}]}
uvicorn.run(app, port=int(sys.argv[2]), access_log=False, log_level="error")
"""

KSERVE = """
import sys
import onnxruntime
from kserve import InferOutput, InferResponse, Model, ModelServer
class Served(Model):
    def __init__(self, name):
        super().__init__(name)
        self.session = onnxruntime.InferenceSession(f"{sys.argv[1]}/{name}.onnx")
        self.ready = True
    def predict(self, request, headers=None, response_headers=None):
        (found,) = self.session.run(None, {"x": request.inputs[0].as_numpy()})
        output = InferOutput("y", list(found.shape), "FP32")
        output.set_data_from_numpy(found, binary_data=False)
        return InferResponse(request.id or "1", self.name, [output])
ModelServer(http_port=int(sys.argv[2]), enable_grpc=False, workers=1,
            access_log_format="").start([Served("digits"), Served("images")])
"""

BARE = """
import sys, onnxruntime
sessions = [
    onnxruntime.InferenceSession(f"{sys.argv[1]}/{name}.onnx") for name in ("digits", "images")
]
print(open("/proc/self/status").read().split("VmRSS:")[1].split()[0])
"""


def environment(folder: Path) -> Path:
    """Return the interpreter of an environment with all servers, which the folder keeps."""
    home = folder / "environment"
    python = home / "bin/python"
    if not (home / ".ready").exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", "--clear", str(home)], check=True)
        subprocess.run(
            [*uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(python), *PACKAGES],
            check=True,
        )
        (home / ".ready").touch()
    return python


def free_port() -> int:
    """Return a port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(python: Path, code: str, folder: Path, *words: str) -> Iterator[tuple[int, int, float]]:
    """Run a server, and yield its port, its process and the seconds until it listened."""
    port = free_port()
    began = time.perf_counter()
    with (folder / "server.log").open("ab") as log:
        made = subprocess.Popen(
            [python, "-c", code, str(folder), str(port), *words], stdout=log, stderr=log
        )
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if made.poll() is not None:
                    raise SystemExit(
                        f"a server ended: {(folder / 'server.log').read_text()[-2000:]}"
                    ) from None
                time.sleep(0.01)
        yield port, made.pid, time.perf_counter() - began
    finally:
        made.kill()
        made.wait()


def request(model: str, body: bytes, token: str, json_bytes: int = 0) -> bytes:
    """Return a whole request."""
    lines = [
        f"POST /v2/models/{model}/infer HTTP/1.1",
        "host: localhost",
        f"content-length: {len(body)}",
    ]
    lines += [f"authorization: Bearer {token}", "content-type: application/json"]
    lines += [f"inference-header-content-length: {json_bytes}"] if json_bytes else []
    return "\r\n".join([*lines, "", ""]).encode() + body


async def answer(reader: asyncio.StreamReader) -> None:
    """Read one answer, which must be a 200."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise SystemExit(f"the server answered {head!r}")
    length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)


async def call(port: int, sent: bytes, connections: int, seconds: float) -> list[float]:
    """Call over so many connections at once, and return the seconds that each request took."""
    taken: list[float] = []
    opened = [
        await asyncio.open_connection("127.0.0.1", port, limit=1 << 24) for _ in range(connections)
    ]

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, end: float) -> None:
        while (began := time.perf_counter()) < end:
            writer.write(sent)
            await answer(reader)
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*(one(*pair, time.perf_counter() + min(0.3, seconds)) for pair in opened))
    taken.clear()
    end = time.perf_counter() + seconds
    await asyncio.gather(*(one(*pair, end) for pair in opened))
    for _, writer in opened:
        writer.close()
    return taken


def rate(port: int, sent: bytes, connections: int, seconds: float) -> float:
    """Return requests a second."""
    return len(asyncio.run(call(port, sent, connections, seconds))) / seconds


def rss(pid: int) -> float:
    """Return a process's resident memory in MB."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def in_turn(rounds: int, measures: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Return the median of each measure, taken in turn."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            found[name].append(measure())
    return {name: statistics.median(values) for name, values in found.items()}


def show(title: str, found: dict[str, float], unit: str) -> None:
    """Print a table."""
    print(f"\n| {title} | {unit} |\n|---|---|")
    for name, value in found.items():
        print(f"| {name} | {value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f} |")


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="seconds, to see that it works")
    options = parser.parse_args()
    rounds, seconds = (3, 0.4) if options.quick else (5, 1.5)
    options.folder.mkdir(parents=True, exist_ok=True)
    python = environment(options.folder.resolve())
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        measure(python, Path(scratch).resolve(), rounds, seconds, options.quick)


def measure(python: Path, folder: Path, rounds: int, seconds: float, quick: bool) -> None:
    """Measure all."""
    import numpy as np

    subprocess.run([python, ROOT / "tests/support/onnx_models.py", folder], check=True)
    from hpctf import Model

    for name in ("digits", "images"):
        Model.register(folder / f"{name}.onnx", name, site="local", models_root=folder / "models")
    token = "t" * 43
    (folder / "tokens.json").touch(0o600)
    (folder / "tokens.json").write_text(json.dumps({"primary": token, "secondary": token}))

    def in_json(model: str, value: np.ndarray) -> bytes:
        tensor = {"name": "x", "datatype": "FP32", "shape": list(value.shape)}
        body = {"inputs": [{**tensor, "data": value.ravel().tolist()}]}
        return request(model, json.dumps(body).encode(), token)

    random = np.random.default_rng(0)
    row = random.normal(size=(1, 64)).astype(np.float32)
    image = random.normal(size=(1, 3, 224, 224)).astype(np.float32)
    digits, picture = in_json("digits", row), in_json("images", image)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3, 224, 224]}
    head = json.dumps(
        {"inputs": [{**tensor, "parameters": {"binary_data_size": image.nbytes}}]}
    ).encode()
    binary = request("images", head + image.tobytes(), token, len(head))

    bare = (
        int(
            subprocess.run(
                [python, "-c", BARE, str(folder)], capture_output=True, text=True, check=True
            ).stdout
        )
        / 1024
    )
    with ExitStack() as stack:

        def start(code: str, *words: str) -> tuple[int, int, float]:
            return stack.enter_context(server(python, code, folder, *words))

        ours = start(HPCTF, str(ROOT))
        alone = start(HPCTF, str(ROOT), "alone")
        fastapi = start(FASTAPI)
        kserve = start(KSERVE)
        ports = {"hpctf": ours[0], "FastAPI": fastapi[0], "kserve": kserve[0]}
        for connections in (1, 16):
            found = in_turn(
                rounds,
                {
                    name: partial(rate, port, digits, connections, seconds)
                    for name, port in ports.items()
                },
            )
            show(
                f"JSON, 64 numbers, {connections} connection{'s' * (connections > 1)}",
                found,
                "requests/s",
            )
        found = in_turn(
            rounds,
            {
                "each request alone": lambda: rate(alone[0], digits, 1, seconds),
                "those that wait together": lambda: rate(ours[0], digits, 1, seconds),
            },
        )
        show("what batching costs a single client", found, "requests/s")
        found = in_turn(
            rounds,
            {
                "hpctf, JSON": lambda: rate(ours[0], picture, 1, seconds),
                "hpctf, binary": lambda: rate(ours[0], binary, 1, seconds),
                "FastAPI, JSON": lambda: rate(fastapi[0], picture, 1, seconds),
            },
        )
        show("1×3×224×224, 1 connection", found, "requests/s")
        show(
            "memory of the process after that, beyond onnxruntime's and the models'",
            {
                name: rss(one[1]) - bare
                for name, one in (("hpctf", ours), ("FastAPI", fastapi), ("kserve", kserve))
            },
            "MB",
        )
        show(
            "from its start until it listens",
            {"hpctf": ours[2], "FastAPI": fastapi[2], "kserve": kserve[2]},
            "s",
        )
        slow(ours[0], digits, rounds, seconds)
    handed_over(folder, 300 if quick else 10_000)


def slow(port: int, sent: bytes, rounds: int, seconds: float) -> None:
    """Measure a good client beside 200 that have sent all but the last byte."""

    def p99() -> float:
        taken = sorted(asyncio.run(call(port, sent, 1, seconds)))
        return taken[int(len(taken) * 0.99)] * 1000

    before = statistics.median(p99() for _ in range(rounds))
    with ExitStack() as stack:
        for _ in range(200):
            wire = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            wire.sendall(sent[:-1])
        beside = statistics.median(p99() for _ in range(rounds))
    show("p99 of a good client", {"alone": before, "beside 200 slow ones": beside}, "ms")


def handed_over(folder: Path, requests: int) -> None:
    """Deploy as a person does, with TLS, and hand over while four clients call."""
    from hpctf.serving.client import Client
    from hpctf.serving.deploy import Deployment
    from hpctf.webservice import deploy_service

    os.environ["HPCTF_MODELS_ROOT"] = str(folder / "models")
    began = time.perf_counter()
    service = deploy_service(
        "bench",
        ["digits"],
        None,
        Deployment(is_local=True, drain_s=2.0),
        site="local",
        runs_root=folder / "runs",
    )
    deployed = time.perf_counter()
    service.wait_for_deployment()
    ready = time.perf_counter()
    body = json.dumps({"data": [[0.5] * 64]}).encode()
    failed: list[object] = []

    def call_on() -> None:
        mine = Client(service.folder)
        for _ in range(requests // 4):
            try:
                answer = mine.call("POST", "/score", body)
                failed.extend([answer] if answer.status != 200 else [])
            except Exception as error:  # each failure counts, whatever it is
                failed.append(error)
        mine.close()

    threads = [threading.Thread(target=call_on) for _ in range(4)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    handovers = 0
    while any(thread.is_alive() for thread in threads):
        service.update()
        service.wait_for_deployment()
        handovers += 1
    took = time.perf_counter() - start
    service.delete()
    show(
        "deployed as a person does, with TLS",
        {
            "deploying": deployed - began,
            "from then until it answers": ready - deployed,
            "requests/s of 4 hpctf clients in one Python": requests / took,
            "hand-overs meanwhile": handovers,
            f"failed of {requests} requests": len(failed),
        },
        "",
    )


if __name__ == "__main__":
    main()
