"""A port of this host, claimed before the training takes it.

Two jobs that test one port at the same time both find it free. So whoever wants a port first
takes an abstract unix socket of its name: one process gets it, whoever's it is. Such names live
in the network namespace, exactly as ports do, and go away with the process, however it ends
(unix(7)). Programs that know nothing of this are found by binding the port for a moment.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from hpctf.errors import ClusterSpecError

_ABSENT = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""What a host without IPv6 says."""

_LISTENS = "0A"  # TCP_LISTEN in /proc/net/tcp, see the kernel's tcp_states.h


class Taken(Exception):
    """A port that somebody else has: ``job 41 of alice``, as far as the host tells. Another job of
    hpctf's may let it go in a moment."""

    def __init__(self, holder: str, by_hpctf: bool) -> None:
        super().__init__(holder)
        self.holder = holder
        self.by_hpctf = by_hpctf


class Claim:
    """A port that is this process's to give to its training, until it ends or lets it go.

    Its sockets are not inherited (PEP 446): a child of the training that outlives everything does
    not keep the port.
    """

    def __init__(self, sockets: Sequence[socket.socket]) -> None:
        self._sockets = sockets

    def let_go(self) -> None:
        """Leave the port to others."""
        for one in self._sockets:
            one.close()


def own_addresses(name: str) -> list[tuple[int, str]]:
    """Return (family, address) of what a name leads to, of which at least one is this host's.
    Raises `ClusterSpecError` if the name leads nowhere, or to other hosts: nobody could reach a
    server here by it."""
    try:
        # As bytes: with text, Python would import its codec for names in all of Unicode.
        found = socket.getaddrinfo(name.encode(), None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _unreachable(name, f"leads nowhere ({error.strerror})") from None
    addresses = [(int(family), str(address[0])) for family, _, _, _, address in found]
    own = [one for one in addresses if _is_own(*one)]
    if not own:
        listed = ", ".join(address for _, address in addresses)
        raise _unreachable(
            name, f"leads to {listed}, which is not an address of {os.uname().nodename}"
        )
    return own


def _is_own(family: int, address: str) -> bool:
    with socket.socket(family) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _unreachable(name: str, why: str) -> ClusterSpecError:
    return ClusterSpecError(
        f"{name}, by which the other ranks are to reach this one, {why}",
        "Let network: {host_suffix: ...} in the site file be what the nodes' names end in on that "
        "network, or leave it out.",
    )


def claim(port: int, job: str, addresses: Sequence[tuple[int, str]] = ()) -> Claim:
    """Claim a port of this host for a job; `addresses` are (family, address) of this host that it
    is to be used on, besides all of them. Raises `Taken` if another job has claimed it, or any
    program has bound it."""
    name = _name(port)
    held = _socket_named(name)
    if held is None:
        raise Taken(_holding_job(port), by_hpctf=True)
    # A second name says whose it is: the first must be the same for all.
    owner = _socket_named(f"{name}/{os.getuid()}/{job}")
    claimed = Claim([one for one in (held, owner) if one is not None])
    obstacle = _obstacle(port, addresses)
    if obstacle is not None:
        claimed.let_go()
        raise Taken(obstacle, by_hpctf=False)
    return claimed


def _name(port: int) -> str:
    return f"\0hpctf/port/{port}"


def _socket_named(name: str) -> socket.socket | None:
    named = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        named.bind(name)
    except OSError as error:
        named.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return named


def _obstacle(port: int, addresses: Sequence[tuple[int, str]]) -> str | None:
    """Return who keeps a server from binding the port, or None if it could. As servers do, with
    SO_REUSEADDR: connections of an earlier server that are still closing are no obstacle. Without
    SO_REUSEPORT, with which TensorFlow's server would share the port of another one of the same
    user, and both would get half of the messages."""
    for family, address in [(socket.AF_INET, ""), (socket.AF_INET6, ""), *addresses]:
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
        except OSError as error:
            if family == socket.AF_INET6 and error.errno in _ABSENT:
                continue
            if error.errno == errno.EADDRINUSE:
                return _binding_program(port)
            return f"the system: {error.strerror}"
    return None


def _holding_job(port: int) -> str:
    """Return the job whose claim it is, as /proc/net/unix lists the names (``@`` for NUL)."""
    from hpctf.common.processes import name_of_user

    prefix = "@" + _name(port)[1:] + "/"
    for line in _lines("/proc/net/unix"):
        _, found, owner = line.partition(prefix)
        uid, _, job = owner.partition("/")
        if found and uid.isdecimal():
            return f"job {job} of {name_of_user(int(uid))}"
    return "another job of hpctf's"


def _binding_program(port: int) -> str:
    """Return whose program has the port, as /proc/net/tcp tells; it lists no idle sockets."""
    from hpctf.common.processes import name_of_user

    owners = []
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        for fields in (line.split() for line in _lines(path)):
            if fields[1].endswith(f":{port:04X}"):
                owners.append((fields[3] != _LISTENS, int(fields[7])))
    if not owners:
        return "a program that does not listen yet"
    return f"a program of {name_of_user(min(owners)[1])}"


def _lines(path: str) -> list[str]:
    """Return a table of the kernel's without its heading."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read().splitlines()[1:]
    except OSError:
        return []
