"""Numbers, times, durations and sizes, as people and Slurm write them.

What is read and is none of the forms that a function takes, it refuses by a `UsageError`.
"""

from __future__ import annotations

import re
import time
from typing import Any

from hpctf.errors import UsageError, shown

UNLIMITED_S = 60 * (2**32 - 1)
"""Seconds that stand for no time limit: Slurm's INFINITE, in minutes."""

_UNLIMITED = ("unlimited", "infinite", "-1")
_SLURM_TIME = re.compile(
    r"\A(?:(?P<days>N)-(?P<dh>N)(?::(?P<dm>N)(?::(?P<ds>N))?)?"
    r"|(?P<h>N):(?P<m>N):(?P<s>N)|(?P<mm>N)(?::(?P<ms>N))?)\Z".replace("N", "[0-9]{1,9}")
)
_AGE = re.compile(r"\A(\d{1,9}(?:\.\d{1,9})?) ?([smhdw])\Z", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SIZE = re.compile(
    r"\A(\d{1,15}(?:\.\d{1,9})?) ?(?:([kmgtp])(i?)b?|b)?\Z", re.ASCII | re.IGNORECASE
)
_SLURM_SIZE = re.compile(r"\A(\d+(?:\.\d+)?)([KMGTP]?)B?\Z", re.ASCII | re.IGNORECASE)


def number(value: Any) -> str:
    """Return a float in six significant digits, and anything else as it is."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def in_short(value: object) -> str:
    """Return a number in four digits and 10 characters at most, and anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if 1e4 <= abs(value) < 1e7:
        return f"{value:.0f}"
    if isinstance(value, int) and abs(value) < 1e7:
        return str(value)
    return f"{value:.4g}"


def clock(at: float | None, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return local time; empty if it is not known."""
    return time.strftime(form, time.localtime(at)) if at else ""


def elapsed(seconds: float) -> str:
    """Return ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def span(seconds: float | None) -> str:
    """Return ``4.2 s``, ``3 min 05 s`` or ``2 h 10 min``; empty if it is not known."""
    if seconds is None:
        return ""
    seconds = max(0.0, seconds)  # clocks are set back
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def seconds_of_age(text: str) -> float:
    """Return the seconds of ``30d``, ``12h``, ``2w``, ``45m`` or ``10s``."""
    match = _AGE.match(text.strip())
    if not match:
        raise UsageError(
            f"Age {shown(text)} is not a number with its unit.",
            "Use 30d for days, 12h for hours, 2w for weeks, 45m for minutes, 10s for seconds.",
        )
    return float(match[1]) * _SECONDS[match[2]]


def seconds_of(text: str) -> int:
    """Return the seconds that Slurm's time notation says.

    Minutes, ``MM:SS``, ``HH:MM:SS``, ``D-HH``, ``D-HH:MM`` or ``D-HH:MM:SS`` (sbatch(1), --time);
    UNLIMITED and INFINITE are `UNLIMITED_S`.
    """
    if text.strip().lower() in _UNLIMITED:
        return UNLIMITED_S
    match = _SLURM_TIME.match(text.strip())
    if not match:
        raise UsageError(
            f"Time {shown(text)} is not in Slurm's notation.",
            "Write minutes (30), HH:MM:SS (01:30:00), D-HH:MM:SS (2-00:00:00) or UNLIMITED.",
        )
    part = {key: int(value or 0) for key, value in match.groupdict().items()}
    hours = part["days"] * 24 + part["dh"] + part["h"]
    minutes = part["dm"] + part["m"] + part["mm"]
    return hours * 3600 + minutes * 60 + part["ds"] + part["s"] + part["ms"]


def time_text(seconds: int) -> str:
    """Return seconds as Slurm's ``D-HH:MM:SS``."""
    if seconds >= UNLIMITED_S:
        return "UNLIMITED"
    days, rest = divmod(seconds, 86400)
    return f"{days}-{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"


def file_size(size: float) -> str:
    """Return ``1.5 GB`` and so on, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def memory_size(size: float) -> str:
    """Return a size of memory in Slurm's units: a GB is 2 to the power of 30."""
    if size < 1 << 30:
        return f"{size / (1 << 20):.0f} MB"
    return f"{size / (1 << 30):.1f} GB".replace(".0 ", " ")


def bytes_of_size(text: str) -> int:
    """Return the bytes of ``5GB`` (or ``5G``: 5,000,000,000), ``5GiB`` (5 × 1024³), ``100``."""
    match = _SIZE.match(text.strip())
    if not match:
        raise UsageError(
            f"Size {shown(text)} is not a number with its unit.",
            "Use 500MB, 5GB or 1.5TB (powers of 1000), or 5GiB (powers of 1024).",
        )
    power = "kmgtp".index(match[2].lower()) + 1 if match[2] else 0
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def bytes_of(text: str) -> int | None:
    """Return the bytes of a size as Slurm writes it (``64G``, ``2000`` for megabytes), or None for
    what is none, and for 0, which is all of a node's."""
    match = _SLURM_SIZE.match(text.strip())
    if not match:
        return None
    power = "KMGTP".index(match[2].upper() or "M") + 1
    return int(float(match[1]) * 1024**power) or None
