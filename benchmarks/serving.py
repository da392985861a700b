"""Services side by side: hpctf, a plain FastAPI app and kserve, with the same ONNX models.

    python benchmarks/serving.py FOLDER [--quick]

FOLDER keeps an environment with all three. The client runs on the same CPUs, and opens its
connections before it measures; hpctf is measured without TLS against the others, and with it.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
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
from typing import NamedTuple, TypeVar

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
from hpctf.serving.server.limits import Limits
from hpctf.serving.server.lifetime import configured, threads
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
uvicorn.Server(configured(service, port=port, log_level="error")).run()
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


class Server(NamedTuple):
    """A server's port and process, and the seconds from its start until it listened."""

    port: int
    pid: int
    began_s: float


@contextmanager
def server(python: Path, code: str, folder: Path, *words: str) -> Iterator[Server]:
    """Run a server."""
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
        yield Server(port, made.pid, time.perf_counter() - began)
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


class Connection:
    """A connection that has one request at a time on its way.

    Bare sockets: what a client of asyncio takes for itself would hide how servers differ.
    """

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.began = 0.0
        self._said = b""

    def send(self, sent: bytes) -> None:
        """Send a request."""
        self._said = b""
        self.began = time.perf_counter()
        self.socket.sendall(sent)

    def receive(self) -> bool:
        """Read what has come, and return whether the answer is whole; it must be a 200."""
        self._said += self.socket.recv(1 << 20)
        head, found, body = self._said.partition(b"\r\n\r\n")
        if not found:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"the server answered {self._said!r}")
        length = head.lower().split(b"content-length:")[1].split(b"\r\n")[0]
        return len(body) == int(length)


def call(port: int, sent: bytes, connections: int, seconds: float) -> list[float]:
    """Call over so many connections at once, and return the seconds that each request took."""
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        opened = [Connection(port) for _ in range(connections)]
        for one in opened:
            stack.enter_context(one.socket)
            selector.register(one.socket, selectors.EVENT_READ, one)
            one.send(sent)
        taken: list[float] = []
        end = time.perf_counter() + seconds
        waiting = connections
        while waiting:
            for key, _ in selector.select():
                one = key.data
                if not one.receive():
                    continue
                now = time.perf_counter()
                taken.append(now - one.began)
                if now < end:
                    one.send(sent)
                else:
                    waiting -= 1
        return taken


def cpu_seconds(pid: int) -> float:
    """Return the seconds of CPU that all threads of a process have taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Rate(NamedTuple):
    """Requests a second, and the server's milliseconds of CPU for each."""

    per_second: float
    cpu_ms: float


def rate(server: Server, sent: bytes, connections: int, seconds: float) -> Rate:
    """Measure a server; that others keep the machine busy shows in its CPU time the least."""
    call(server.port, sent, connections, min(0.2, seconds))
    before, began = cpu_seconds(server.pid), time.perf_counter()
    number = len(call(server.port, sent, connections, seconds))
    took = time.perf_counter() - began
    return Rate(number / took, (cpu_seconds(server.pid) - before) / number * 1000)


def rss(pid: int) -> float:
    """Return a process's resident memory in MB."""
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


T = TypeVar("T")


def in_turn(rounds: int, measures: dict[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Return what each measure found, taken in turn, each round in another order."""
    found: dict[str, list[T]] = {name: [] for name in measures}
    names = list(measures)
    for _ in range(rounds):
        for name in names:
            found[name].append(measures[name]())
        names = names[1:] + names[:1]
    return found


def written(value: float) -> str:
    """Return a number with three or four digits that count."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def show(title: str, found: dict[str, float], unit: str) -> None:
    """Print a table."""
    print(f"\n| {title} | {unit} |\n|---|---|")
    for name, value in found.items():
        print(f"| {name} | {written(value)} |")


def compare(title: str, found: dict[str, list[Rate]]) -> None:
    """Print a table of servers, and how many times the first one is as good as each other.

    A ratio is the median of those of each round: what slows the machine down slows both.
    """
    print(f"\n| {title} | requests/s | CPU ms | times by requests | by CPU |")
    print("|---|---|---|---|---|")
    first = next(iter(found.values()))
    for name, rates in found.items():
        pairs = list(zip(first, rates, strict=True))
        values = (
            statistics.median(one.per_second for one in rates),
            statistics.median(one.cpu_ms for one in rates),
            statistics.median(best.per_second / one.per_second for best, one in pairs),
            statistics.median(one.cpu_ms / best.cpu_ms for best, one in pairs),
        )
        print(f"| {name} | {' | '.join(map(written, values))} |")


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

        def start(code: str, *words: str) -> Server:
            return stack.enter_context(server(python, code, folder, *words))

        ours, alone = start(HPCTF, str(ROOT)), start(HPCTF, str(ROOT), "alone")
        fastapi, kserve = start(FASTAPI), start(KSERVE)
        servers = {"hpctf": ours, "FastAPI": fastapi, "kserve": kserve}

        def rates(seconds: float, *asked: tuple[str, Server, bytes, int]) -> dict[str, list[Rate]]:
            return in_turn(
                rounds,
                {
                    name: partial(rate, one, sent, connections, seconds)
                    for name, one, sent, connections in asked
                },
            )

        for connections in (1, 16):
            title = f"JSON, 64 numbers, {connections} connection{'s' * (connections > 1)}"
            asked = [(name, one, digits, connections) for name, one in servers.items()]
            compare(title, rates(seconds, *asked))
        together = ("those that wait together", ours, digits, 1)
        compare(
            "what batching costs a single client",
            rates(seconds, together, ("each request alone", alone, digits, 1)),
        )
        compare(
            "1×3×224×224, 1 connection",
            rates(
                seconds,
                ("hpctf, binary", ours, binary, 1),
                ("hpctf, JSON", ours, picture, 1),
                ("FastAPI, JSON", fastapi, picture, 1),
            ),
        )
        show(
            "memory of the process after that, beyond onnxruntime's and the models'",
            {name: rss(one.pid) - bare for name, one in servers.items()},
            "MB",
        )
        show(
            "from its start until it listens",
            {name: one.began_s for name, one in servers.items()},
            "s",
        )
        slow(ours, digits, rounds, seconds)
    handed_over(folder, 300 if quick else 10_000)


def slow(ours: Server, sent: bytes, rounds: int, seconds: float) -> None:
    """Measure a good client beside 200 that have sent all but the last byte, and without them."""

    def p99() -> float:
        taken = sorted(call(ours.port, sent, 1, seconds))
        return taken[int(len(taken) * 0.99)] * 1000

    def beside() -> float:
        with ExitStack() as stack:
            for _ in range(200):
                wire = stack.enter_context(socket.create_connection(("127.0.0.1", ours.port)))
                wire.sendall(sent[:-1])
            return p99()

    found = in_turn(2 * rounds, {"alone": p99, "beside 200 slow ones": beside})
    ratios = [b / a for a, b in zip(*found.values(), strict=True)]
    medians = {name: statistics.median(values) for name, values in found.items()}
    show("p99 of a good client", {**medians, "ratio": statistics.median(ratios)}, "ms")


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
