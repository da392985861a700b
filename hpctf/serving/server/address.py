"""Where a server listens: a port of the site's range, on the site's network."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import struct
from collections.abc import Mapping

from hpctf.errors import SiteError
from hpctf.node.port_claims import Claim, Taken, claim, own_addresses
from hpctf.serving.instance import Orders

_SIOCGIFADDR = 0x8915
"""Asks for an interface's IPv4 address (netdevice(7))."""

_MOST_TRIES = 200
_LOCAL = "127.0.0.1"


def host_of(orders: Orders, env: Mapping[str, str]) -> tuple[str, str]:
    """Return the name that clients use, and the address to listen on.

    Raises
    ------
    SiteError
        None of the site's interfaces has an address on this node.
    """
    if orders.is_local:
        return _LOCAL, _LOCAL
    name = env.get("SLURMD_NODENAME") or os.uname().nodename
    if orders.host_suffix:
        return name + orders.host_suffix, _address(name + orders.host_suffix)
    for interface in orders.interfaces:
        address = _of_interface(interface)
        if address is not None:
            return address, address
    if orders.interfaces:
        raise SiteError(
            f"{name} has no IPv4 address on {', '.join(orders.interfaces)}.",
            "The site file names the interfaces: network: {interfaces: [...]}.",
        )
    address = _address(name)
    return (name, address) if not address.startswith("127.") else (_outward(), _outward())


def _address(name: str) -> str:
    return next(address for family, address in own_addresses(name) if family == socket.AF_INET)


def _of_interface(name: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            found = fcntl.ioctl(asked, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return None
    return socket.inet_ntoa(found[20:24])


def _outward() -> str:
    """Return the address that the default route leaves by, where /etc/hosts says 127.0.1.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET (RFC 5737): nothing is sent
        except OSError:
            return _LOCAL
        return str(probe.getsockname()[0])


def listen(address: str, ports: tuple[int, int], job: str) -> tuple[socket.socket, Claim]:
    """Return a socket that is bound to a free port, and hpctf's claim to it.

    Raises
    ------
    SiteError
        All that were tried are taken.
    """
    first, last = ports
    numbers = random.sample(range(first, last + 1), min(_MOST_TRIES, last + 1 - first))
    for port in numbers:
        try:
            mine = claim(port, job)
        except Taken:
            continue
        # asyncio lets small packets go at once only if the protocol is named: 44 ms a request.
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((address, port))
        except OSError as error:
            bound.close()
            mine.let_go()
            if error.errno == errno.EACCES:
                raise SiteError(
                    f"Port {port} is the system's: only root may listen on it (ip(7)).",
                    "Use a port of 1024 or above.",
                ) from None
            continue
        return bound, mine
    if first == last:
        raise SiteError(
            f"Port {first} on {address} is taken.",
            "Pass another --port, or none: hpctf takes a free one of the site's range.",
        )
    raise SiteError(
        f"{len(numbers)} ports of {first}-{last} were tried on {address}, and all are taken.",
        "The site file names the range: ports: {first: ..., last: ...}.",
    )
