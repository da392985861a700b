"""One rank of the doctor's job: looks around on its node, and writes down what it found.

``python rank_probe.py`` in the run's snapshot, with ``ask.json`` beside it. What it finds goes to
``outputs/facts-<rank>.json``, written anew after each step: whatever ends this process, what was
found before stays. The ranks and the login node talk through files of the outputs folder, since
that the run folder is shared is the first thing to be proven.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

CONNECT_S = 3.0
"""Seconds until a connection counts as blocked: a firewall that drops packets says nothing."""
LOOK_S = 0.05
WORDS = 4000


class Rank:
    """This rank: what it was asked, and what it has found so far."""

    def __init__(self, env: dict[str, str]) -> None:
        with open("ask.json", encoding="utf-8") as stream:
            self.ask: dict[str, Any] = json.load(stream)
        self.number = int(env["HPCTF_RANK"])
        self.size = int(env["HPCTF_WORLD_SIZE"])
        self.outputs = env["HPCTF_OUTPUTS_DIR"]
        self.name = env.get("SLURMD_NODENAME") or os.uname().nodename
        self.address = self.name + self.ask["host_suffix"]
        self.others = [rank for rank in range(self.size) if rank != self.number]
        self.facts: dict[str, Any] = {}

    def path(self, what: str, rank: int) -> str:
        """Return where a rank writes something down."""
        return os.path.join(self.outputs, f"{what}-{rank}.json")

    def write(self, what: str, content: Any) -> None:
        """Write something down, whole or not at all."""
        path = self.path(what, self.number)
        with open(f"{path}.tmp", "w", encoding="utf-8") as stream:
            json.dump(content, stream)
        os.replace(f"{path}.tmp", path)

    def found(self, **facts: Any) -> None:
        """Add to what is known of this node."""
        self.facts.update(facts)
        self.write("facts", self.facts)

    def wait_for(self, what: str, ranks: list[int], until: float) -> dict[int, Any]:
        """Return what ranks have written down, as far as it is to be seen in time."""
        seen: dict[int, Any] = {}
        while True:
            os.listdir(self.outputs)  # makes an NFS client look for new names
            for rank in ranks:
                content = None if rank in seen else read(self.path(what, rank))
                if content is not None:
                    seen[rank] = {**content, "here": time.time()}
            if len(seen) == len(ranks) or time.monotonic() >= until:
                return seen
            time.sleep(LOOK_S)


def read(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def main() -> int:
    """Look at everything, in the order of what the later steps rest on."""
    rank = Rank(dict(os.environ))
    version = ".".join(str(part) for part in sys.version_info[:3])
    rank.found(rank=rank.number, host=rank.name, python=version, executable=sys.executable)
    rank.found(gpus=gpus())
    talk(rank)
    if rank.ask["tensorflow"]:
        rank.found(tensorflow=tensorflow(rank))
    if rank.ask["mpi"]:
        rank.found(mpi=mpi(rank))
    return 0


def gpus() -> dict[str, Any]:
    """Return how many GPUs this process sees, and by what."""
    found: dict[str, Any] = {"devices": len(glob.glob("/dev/nvidia[0-9]*")), "smi": None}
    for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        if name in os.environ:
            found[name] = os.environ[name]
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return found
    if done.returncode == 0:
        found["smi"] = [line.split(" (UUID")[0] for line in done.stdout.splitlines() if line]
    return found


def talk(rank: Rank) -> None:
    """Meet the other ranks and the login node in the shared folder, then try every port."""
    serving = Serving(rank.ask["ports"] or own_port(rank))
    patience = time.monotonic() + rank.ask["patience_s"]
    began = time.time()
    rank.write("hello", {"time": began, "address": rank.address, "ports": serving.ports})
    with ThreadPoolExecutor(1) as pool:
        # At once, for the time of the answer tells how far the clocks are apart.
        answer = pool.submit(rank.wait_for, "login", [rank.number], patience)
        meet(rank, serving, patience)
        seen = answer.result().get(rank.number)
    rank.found(login=None if seen is None else {**seen, "sent": began})
    until = min(patience, time.monotonic() + 5 * CONNECT_S)
    rank.wait_for("connected", rank.others, until)
    serving.end()


def meet(rank: Rank, serving: Serving, patience: float) -> None:
    """Wait for the other ranks, and call each of their ports."""
    met = rank.wait_for("hello", rank.others, patience)
    rank.found(met=sorted(met))
    peers = {number: (said["address"], said["ports"]) for number, said in met.items()}
    if rank.ask["ports"] == []:  # a parameter server's job: the very addresses of TF_CONFIG
        peers = configured(rank, peers)
    rank.found(links=connect(peers))
    rank.write("connected", {"time": time.time()})


def own_port(rank: Rank) -> list[int]:
    """Return the port that TF_CONFIG gives to this rank."""
    config = json.loads(os.environ["TF_CONFIG"])
    role, index = config["task"]["type"], config["task"]["index"]
    return [int(config["cluster"][role][index].rpartition(":")[2])]


def configured(rank: Rank, met: dict[int, Any]) -> dict[int, Any]:
    """Return the addresses that TF_CONFIG has for the ranks that were met."""
    cluster = json.loads(os.environ["TF_CONFIG"])["cluster"]
    addresses = [address for role in cluster.values() for address in role]
    found = {}
    for _, (_, ports) in met.items():
        for number, address in enumerate(addresses):
            host, _, port = address.rpartition(":")
            if number != rank.number and int(port) in ports:
                found[number] = (host, [int(port)])
    return found


class Serving:
    """Listens on ports, and tells each caller what time it is here."""

    def __init__(self, ports: list[int]) -> None:
        self._sockets: dict[int, socket.socket] = {}
        for port in ports:
            with contextlib.suppress(OSError):  # somebody else has it
                self._sockets[port] = listening(port)
        for one in self._sockets.values():
            threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    @property
    def ports(self) -> list[int]:
        """Those that nobody else had."""
        return sorted(self._sockets)

    def end(self) -> None:
        for one in self._sockets.values():
            one.close()

    @staticmethod
    def _serve(listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            with caller, contextlib.suppress(OSError):
                caller.sendall(repr(time.time()).encode())


def listening(port: int) -> socket.socket:
    """Return a socket that listens on all addresses, as TensorFlow's server does."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64
            )
        except OSError as error:
            if error.errno is not None and "in use" in str(error):
                raise
    return socket.create_server(("", port), backlog=64)


def connect(peers: dict[int, Any]) -> list[dict[str, Any]]:
    """Call every port of every other rank at once, and return how that went, by rank."""
    calls = [(number, name, port) for number, (name, ports) in peers.items() for port in ports]
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda one: call(one[1], one[2]), calls))
    links: dict[int, dict[str, Any]] = {
        number: {"rank": number, "to": name, "open": [], "blocked": {}, "offsets": []}
        for number, (name, _) in peers.items()
    }
    for place, (number, _, port) in enumerate(calls):
        answer, link = answers[place], links[number]
        if isinstance(answer, str):
            link["blocked"][str(port)] = answer
        else:
            link["open"].append(port)
            link["offsets"].append(answer)
    for link in links.values():
        # The quickest answer tells the time best: its way took least.
        link["offset"] = min(link.pop("offsets"), key=lambda one: one[1], default=None)
    return [links[number] for number in sorted(links)]


def call(host: str, port: int) -> Any:
    """Return (how far its clock is ahead, seconds of uncertainty), or why it cannot be reached."""
    began = time.time()
    try:
        with socket.create_connection((host, port), timeout=CONNECT_S) as connection:
            there = float(connection.recv(64).decode())
    except socket.timeout:  # noqa: UP041  (no TimeoutError before Python 3.10)
        return f"no answer within {CONNECT_S:g} s"
    except (OSError, ValueError) as error:
        return (getattr(error, "strerror", None) or str(error)).lower()
    ended = time.time()
    return there - (began + ended) / 2, (ended - began) / 2


MARK = "hpctf-answer:"
"""Begins the line of an answer: what is imported may print before and after it."""


def tensorflow(rank: Rank) -> dict[str, Any]:
    """Import TensorFlow in a process of its own, which may crash."""
    code = (
        "import json, tensorflow as tf; answer = {'version': tf.__version__, "
        "'gpus': len(tf.config.list_physical_devices('GPU'))}; "
        f"print('\\n{MARK}' + json.dumps(answer), flush=True)"
    )
    done = child([sys.executable, "-c", code], rank.ask["tensorflow_s"])
    with contextlib.suppress(ValueError, IndexError):
        _, _, answer = done["out"].rpartition(f"\n{MARK}")
        done.update(json.loads(answer.splitlines()[0]))
    return done


def mpi(rank: Rank) -> dict[str, Any]:
    """Start MPI in a process of its own: a plugin that does not fit aborts it."""
    prefix = os.path.join(rank.outputs, "mpi-site")
    return child([sys.executable, "mpi_probe.py", prefix], rank.ask["mpi_s"])


def child(command: list[str], seconds: float) -> dict[str, Any]:
    """Run a command and return how it ended, in how long, and its last words.

    Open files are passed on: Slurm's pmi2 plugin talks to the ranks through one (PMI_FD).
    """
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        close_fds=False,
        start_new_session=True,
    )
    late = False
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
    seconds = round(time.monotonic() - began, 3)
    return {"late": late, "seconds": seconds, "out": out[-WORDS:], "err": err[-WORDS:]}


if __name__ == "__main__":
    sys.exit(main())
