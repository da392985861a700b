"""One port of one host is claimed by one process, and by no other until that one ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpctf.errors import ClusterSpecError
from hpctf.node.port_claims import Claim, Taken, claim, own_addresses
from tests.node.claiming import FIRST, is_free, user

CLAIMER = """
import sys, time
from hpctf.node.port_claims import claim
held = claim(int(sys.argv[1]), "77")
print("claimed", flush=True)
time.sleep(600)
"""


@pytest.fixture
def elsewhere() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python code in another process, and returns once it has said something."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *words: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *map(str, words)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def holder_of(port: int) -> tuple[str, bool]:
    """Return who has a port, as a claim is told."""
    with pytest.raises(Taken) as refusal:
        claim(port, "1")
    return refusal.value.holder, refusal.value.by_hpctf


def test_a_claimed_port_is_nobody_elses_until_it_is_let_go() -> None:
    held = claim(FIRST, "41")
    assert holder_of(FIRST) == (f"job 41 of {user()}", True)
    assert is_free(FIRST + 1)
    held.let_go()
    assert is_free(FIRST)


def test_one_of_many_that_want_a_port_at_once_gets_it() -> None:
    barrier = threading.Barrier(8)

    def want() -> Claim | None:
        barrier.wait()
        try:
            return claim(FIRST, "1")
        except Taken:
            return None

    for _ in range(50):
        with ThreadPoolExecutor(8) as pool:
            won = [one for one in pool.map(lambda _: want(), range(8)) if one]
        assert len(won) == 1
        won[0].let_go()


def test_a_claim_ends_with_its_process_however_that_ends(
    elsewhere: Callable[..., subprocess.Popen[str]],
) -> None:
    holder = elsewhere(CLAIMER, FIRST)
    assert holder_of(FIRST) == (f"job 77 of {user()}", True)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert is_free(FIRST)


def test_a_process_started_meanwhile_does_not_keep_the_claim() -> None:
    held = claim(FIRST, "41")
    with subprocess.Popen(["sleep", "600"], close_fds=False) as child:
        held.let_go()
        assert is_free(FIRST)
        child.kill()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("address", ["any", "loopback"])
@pytest.mark.parametrize("options", [[], ["SO_REUSEADDR"], ["SO_REUSEADDR", "SO_REUSEPORT"]])
def test_a_port_on_which_any_program_listens_is_taken(
    family: socket.AddressFamily, address: str, options: list[str]
) -> None:
    loopback = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.socket(family) as server:
        for option in options:
            server.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
        server.bind(("" if address == "any" else loopback, FIRST))
        server.listen()
        assert holder_of(FIRST) == (f"a program of {user()}", False)
    assert is_free(FIRST)


def test_a_port_that_is_bound_only_is_taken_too() -> None:
    with socket.socket() as bound:
        bound.bind(("", FIRST))
        assert holder_of(FIRST) == ("a program that does not listen yet", False)


def test_a_port_that_one_may_not_bind_says_so() -> None:
    code = (
        "import os\n"
        "from hpctf.node.port_claims import claim, Taken\n"
        "os.setuid(65534)\n"
        "try: claim(80, '1')\n"
        "except Taken as error: print(error.holder)"
    )
    limit = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if os.getuid() != 0 or limit <= 80:
        pytest.skip("needs root, and a port below ip_unprivileged_port_start")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.stdout.strip() == "the system: Permission denied", done.stderr


def test_connections_that_are_still_closing_are_no_obstacle() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        server.accept()[0].close()  # who closes first keeps the port in TIME_WAIT
        assert client.recv(1) == b""
        client.close()
    assert f":{port:04X} " in Path("/proc/net/tcp").read_text()
    assert is_free(port)


@pytest.mark.parametrize("options", [[], ["SO_REUSEADDR"], ["SO_REUSEPORT"]], ids=str)
@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_any_server_can_listen_on_a_port_that_is_claimed_for_it(
    options: list[str], address: str
) -> None:
    held = claim(FIRST, "41")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as server:
        for option in options:
            server.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
        server.bind((address, FIRST))
        server.listen()
        assert holder_of(FIRST)[1]
    held.let_go()


def test_a_name_of_this_host_leads_to_addresses_that_a_port_can_be_bound_on() -> None:
    addresses = own_addresses("localhost")
    assert (socket.AF_INET, "127.0.0.1") in addresses
    claim(FIRST, "41", addresses).let_go()
    with socket.socket() as server:
        server.bind(("127.0.0.1", FIRST))
        server.listen()
        with pytest.raises(Taken):
            claim(FIRST, "41", addresses)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("n1-ib.invalid", "leads nowhere"),
        ("192.0.2.7", "leads to 192.0.2.7, which is not an address"),
    ],
)
def test_a_name_by_which_nobody_reaches_this_host_is_told_with_the_key(name: str, why: str) -> None:
    with pytest.raises(ClusterSpecError, match=f"^{name}, by which .* {why}") as caught:
        own_addresses(name)
    assert "host_suffix" in str(caught.value.hint)
