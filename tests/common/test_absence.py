"""What keeps a path from being read is said as it is."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hpctf.common.absence import absence_of, problem_of


def test_what_is_wrong_with_a_path_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("dead").symlink_to("gone")
    Path("one").symlink_to("other")
    Path("other").symlink_to("one")
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    said = {
        "file": None,
        ".": None,
        "gone": "does not exist",
        "dead": "is a link to 'gone', which does not exist",
        "dead/below/this": "does not exist: 'dead' is a link to 'gone', which does not exist",
        "file/below": "does not exist: 'file' is not a folder",
        "one": "cannot be reached: links in its path lead round in a circle",
        "one/below": "cannot be reached: links in its path lead round in a circle",
        "pipe": "is a named pipe, not a file or folder",
        "socket": "is a socket, not a file or folder",
        "/dev/null": "is a device, not a file or folder",
        "x" * 300: "cannot be reached: File name too long",
        "no\0where": "does not exist",
    }
    assert {path: problem_of(path) for path in said} == said
    assert absence_of("file") == "does not exist"


def test_what_is_closed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    assert problem_of(tmp_path) == "may not be read by you"
