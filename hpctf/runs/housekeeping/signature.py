"""The signature of an archive: an empty member of gzip's at its end, whose comment holds it.

gzip and tar pass over it. It is no secret: nobody but the user can make one for another content.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import BinaryIO

from hpctf.run_folder.ownership import signature

_HEAD = b"\x1f\x8b\x08\x10" + bytes(5) + b"\xff"  # deflate, with a comment (RFC 1952)
_EMPTY = b"\x03\x00" + bytes(8)  # no data, and their checksum and length
_LENGTH = len(_HEAD) + len(b"hpctf:") + 64 + 1 + len(_EMPTY)
_CHUNK = 1 << 20


def sign(stream: BinaryIO) -> None:
    """Append the user's signature to an archive that is open for reading and writing."""
    digest = hashlib.sha256()
    stream.seek(0)
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    code = signature(digest.digest())
    if code is not None:
        stream.write(_member(code))


class Verifying:
    """Reads an archive, and knows at its end whether the user has signed it.

    What is verified is what was read, even if somebody writes the file meanwhile.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._last = b""

    def read(self, size: int = -1) -> bytes:
        """Read as a file does."""
        chunk = self._stream.read(size)
        self._last += chunk
        self._digest.update(self._last[:-_LENGTH])
        self._last = self._last[-_LENGTH:]
        return chunk

    def is_signed(self) -> bool:
        """Return whether the user has signed what was read; reads what is left."""
        while self.read(_CHUNK):
            pass
        code = signature(self._digest.digest())
        return code is not None and hmac.compare_digest(self._last, _member(code))


def _member(code: bytes) -> bytes:
    return _HEAD + b"hpctf:" + code.hex().encode() + b"\0" + _EMPTY
