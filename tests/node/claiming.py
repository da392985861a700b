"""What the tests of claims and of ports share: ports of their own, and who has one."""

from __future__ import annotations

import os
import pwd

from hpctf.node.port_claims import Taken, claim

FIRST = 22000 + os.getpid() % 500 * 16
"""First of 16 ports that no other test process, side by side, uses."""


def is_free(port: int) -> bool:
    """Whether nobody has a port."""
    try:
        claim(port, "1").let_go()
    except Taken:
        return False
    return True


def user() -> str:
    """Return the name of who runs the tests."""
    return pwd.getpwuid(os.getuid()).pw_name
