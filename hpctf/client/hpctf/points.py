"""Reading numbers out of a journal's lines with msgspec, several times faster than with json."""

from typing import Any, Optional

import msgspec

loads = msgspec.json.decode


class Point(msgspec.Struct, gc=False):
    """What a line says of a number; other keys do not count."""

    name: str = ""
    value: Any = None
    step: Optional[int] = None
    time: Optional[float] = None


read_points = msgspec.json.Decoder(Point).decode_lines
