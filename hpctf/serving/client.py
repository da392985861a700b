"""Calling a service: its certificate is known by its fingerprint, and its address by its record.

When a server hands over to another one, the record says where that is. A request whose connection
breaks is sent again to whoever the record names then: a model gives the same answer to both.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from hpctf.errors import RunFolderError, ServiceError
from hpctf.serving.instance import ServerState, current, read_state
from hpctf.serving.record import ServiceFolder
from hpctf.serving.status import ending_of

PATIENCE_S = 30.0
"""Seconds for which a request is tried again."""

_PAUSE_S = 0.05
_BROKEN = (ConnectionError, http.client.BadStatusLine, http.client.IncompleteRead, ssl.SSLError)


@dataclass(frozen=True)
class Answer:
    """What a service answered; the values of a header that is repeated are joined by commas."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Calls one service over one connection.

    Parameters
    ----------
    timeout_s
        Seconds that an answer may take.
    """

    def __init__(self, service: ServiceFolder, timeout_s: float = 120.0) -> None:
        self._service = service
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPSConnection | None = None
        self._uri = ""

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request, and return the answer, whatever its status.

        Raises
        ------
        ServiceError
            Nobody answers at the address that the record gives.
        """
        sent = {"authorization": f"Bearer {self._service.keys()[0]}", **(headers or {})}
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._call(method, path, body, sent)
            except TimeoutError:
                self.close()
                raise ServiceError(
                    f"Service {self._service.name} did not answer within {self._timeout_s:g} s.",
                    f"See its log: hpctf services logs {self._service.name}",
                ) from None
            except (OSError, *_BROKEN) as error:
                self.close()
                check_goes_on(self._service)
                if time.monotonic() > deadline:
                    raise ServiceError(
                        f"Service {self._service.name} cannot be reached at {self._uri}: {error}.",
                        "From outside the cluster's network, open a tunnel: hpctf services tunnel "
                        f"{self._service.name}",
                    ) from None
                time.sleep(_PAUSE_S)

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _call(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        connection = self._connection or self._connect()
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        found = {name: str(response.getheader(name)) for name, _ in response.getheaders()}
        answer = Answer(response.status, found, response.read())
        if response.will_close:
            self.close()
        return answer

    def _connect(self) -> http.client.HTTPSConnection:
        state = answering(self._service)
        self._uri = str(state.uri)
        where = urlsplit(self._uri)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the fingerprint says more than a chain could
        made = http.client.HTTPSConnection(
            str(where.hostname), where.port, timeout=self._timeout_s, context=context
        )
        made.connect()
        found = hashlib.sha256(made.sock.getpeercert(True) or b"").hexdigest()
        if not hmac.compare_digest(found, str(state.fingerprint)):
            with contextlib.suppress(OSError):
                made.close()
            if self._is_handed_over(state):
                raise _HandedOver("another server of it is taking over")
            raise ServiceError(
                f"What answers at {self._uri} is not service {self._service.name}: its certificate "
                f"has the fingerprint {found}, and not {state.fingerprint}.",
                "Nothing was sent to it. Tell your cluster's administrators.",
            )
        self._connection = made
        return made

    def _is_handed_over(self, state: ServerState) -> bool:
        """Whether the record was of a server that another one follows, which may have its port."""
        # Read first: what has become current after that was there already when it answered.
        folder = current(self._service.path)
        if folder is None or [folder] != self._service.servers()[-1:]:
            return True
        return read_state(folder) != state


class _HandedOver(OSError):
    """The server that answers is not yet the one that the record names."""


def check_goes_on(service: ServiceFolder) -> None:
    """Refuse to go on with a service whose servers have all ended, as far as this machine tells.

    Raises
    ------
    ServiceError
        They have.
    """
    ending = ending_of(service)
    if ending is not None:
        raise ServiceError(
            f"Service {service.name} is {ending}.",
            f"See its log: hpctf services logs {service.name}",
        )


def answering(service: ServiceFolder) -> ServerState:
    """Return what the server has said of itself that answers for a service.

    Raises
    ------
    RunFolderError
        None has been ready yet.
    """
    folder = current(service.path)
    state = read_state(folder) if folder is not None else None
    if state is None or state.uri is None:
        raise RunFolderError(
            f"Service {service.name} is not ready yet.",
            "Wait for it: service.wait_for_deployment()",
        )
    return state
