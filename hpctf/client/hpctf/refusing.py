"""What the ranks of a run must not pass over: put on record before it is raised.

A script that catches everything would go on without it, and its run would complete.
"""

import sys
from typing import Type, TypeVar

_Error = TypeVar("_Error", bound=BaseException)


def refusal(kind: Type[_Error], words: str) -> _Error:
    """Return the exception to raise, having put its words on record (`hpctf.startup.this_rank`)."""
    rank = sys.modules.get("_hpctf_startup.this_rank")
    if rank is not None:  # else nobody runs this process as a rank
        rank.refused(words)
    return kind(words)
