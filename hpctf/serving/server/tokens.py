"""Who may call the service: whoever has one of its two tokens."""

from __future__ import annotations

import contextlib
import hmac
import os
import stat
import time
from pathlib import Path

from hpctf.common.files import read_json
from hpctf.errors import HpctfError, UntrustedPath

_LOOK_S = 1.0
"""Seconds between two looks at the file: a token that was made anew counts from then on."""


class Tokens:
    """The tokens of a file that its owner alone may read.

    Raises
    ------
    UntrustedPath
        Others may read or write the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looked = 0.0
        self._changed = 0
        self._accepted: tuple[bytes, ...] = ()
        self._look()

    def accept(self, authorization: bytes) -> bool:
        """Return whether the value of an Authorization header has one of the tokens.

        Each is compared in full, in a time that tells nothing of it.
        """
        if time.monotonic() - self._looked > _LOOK_S:
            with contextlib.suppress(OSError, ValueError, LookupError, HpctfError):
                self._look()  # what counted before counts until the file is right again
        scheme, _, given = authorization.partition(b" ")
        matches = [hmac.compare_digest(given.strip(), token) for token in self._accepted]
        return scheme.lower() == b"bearer" and any(matches)

    def _look(self) -> None:
        self._looked = time.monotonic()
        found = os.lstat(self._path)
        if found.st_mtime_ns == self._changed:
            return
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise UntrustedPath(
                f"The tokens in {str(self._path)!r} are not used: others may read or write them.",
                "Let the file be yours alone: chmod 600",
            )
        tokens = read_json(self._path, follow=False)
        self._accepted = tuple(tokens[name].encode() for name in ("primary", "secondary"))
        self._changed = found.st_mtime_ns
