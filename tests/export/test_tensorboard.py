"""How TensorBoard on a login node is seen from somebody's own machine."""

from __future__ import annotations

import pytest

from hpctf.export.tensorboard import ssh_line


@pytest.mark.parametrize(
    ("host", "bound"),
    [
        ("127.0.0.1", "localhost"),
        ("0.0.0.0", "localhost"),
        ("::", "localhost"),
        ("10.0.0.5", "10.0.0.5"),
        ("fd00::5", "[fd00::5]"),
        ("login1", "login1"),
    ],
)
def test_the_ssh_line_leads_to_the_address_that_is_listened_on(host: str, bound: str) -> None:
    assert ssh_line(host, 6006).startswith(f"ssh -N -L 6006:{bound}:6006 ")
