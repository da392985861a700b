"""Notes: what hpctf has to say on a login node beside its answers and its errors.

They go through the logger ``hpctf``, at the level WARNING, so that a notebook or a service can
route or silence them by the means of `logging`. In a program that has configured no logging, and
so on the command line, a note is a line on stderr.
"""

from __future__ import annotations

import sys

from hpctf.common.secrets import hidden
from hpctf.common.terminal import visible

LOGGER = "hpctf"


def notify(text: str, prefix: str = "note: ") -> None:
    """Log a note, or print it on stderr, after `prefix`, if no handler would take it.

    What looks like a secret is hidden, and each character is one that every handler can write.
    """
    import logging  # only here: most commands have nothing to note, and it takes some milliseconds

    logger, shown = logging.getLogger(LOGGER), visible(hidden(text))
    if logger.hasHandlers():
        logger.warning("%s", shown)
    elif logger.isEnabledFor(logging.WARNING):
        print(f"{prefix}{shown}", file=sys.stderr, flush=True)
