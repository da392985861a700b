"""Passwords of indexes reach uv and pip, and nobody and nothing else."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.environment.canary import AUTHORIZATION, CANARY, QUOTED, WatchfulServer, leaks
from tests.support.stand_in_wheels import hpctf_env, make_site, make_wheel


class Index(WatchfulServer):
    """A simple index that wants the password."""

    def __init__(self, wheels: Path) -> None:
        super().__init__(_Handler)
        self.wheels = wheels
        self.let_in = 0

    @property
    def address(self) -> str:
        return f"http://me:{QUOTED}@{self.place}/simple"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        self.server.look()
        if self.headers.get("Authorization") != AUTHORIZATION:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.end_headers()
            return
        self.server.let_in += 1
        name = self.path.rstrip("/").rpartition("/")[2]
        file = self.server.wheels / name
        files = sorted(self.server.wheels.glob(f"{name.replace('-', '_')}-*.whl"))
        links = "".join(f'<a href="/files/{one.name}">{one.name}</a>' for one in files)
        found = file.read_bytes() if file.is_file() else links.encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(found)))
        self.send_header("Content-Type", "application/zip" if file.is_file() else "text/html")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(found)

    do_HEAD = do_GET

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    (tmp_path / "private").mkdir()
    for name in ("confided", "guarded"):
        make_wheel(tmp_path / "private", name, "1.0")
    server = Index(tmp_path / "private")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("builder", "where"),
    [
        ("uv", "pip.conf"),
        ("uv", "uv.toml"),
        ("uv", "requirements"),
        ("uv", "site and direct"),
        ("pip", "pip.conf"),
        ("pip", "site and direct"),
    ],
)
def test_the_password_of_an_index_is_nowhere_but_with_who_asks(
    tmp_path: Path, wheels: Path, index: Index, builder: str, where: str
) -> None:
    own: dict[str, Any] = {"pip": builder, "offline": False, "find_links": [str(wheels)]}
    home = tmp_path / "home"
    (home / ".config/pip").mkdir(parents=True)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("confided\ntiny\n")
    if where == "pip.conf":
        (home / ".config/pip/pip.conf").write_text(f"[global]\nindex-url = {index.address}\n")
        (home / ".config/pip/pip.conf").chmod(0o600)
    elif where == "uv.toml":
        (home / ".config/uv").mkdir()
        index_table = f'[[index]]\nname = "own"\nurl = "{index.address}"\ndefault = true\n'
        (home / ".config/uv/uv.toml").write_text(index_table)
    elif where == "requirements":
        requirements.write_text(f"--index-url {index.address}\nconfided\ntiny\n")
    else:
        (wheel,) = index.wheels.glob("confided-*.whl")
        address = index.address.replace("/simple", f"/files/{wheel.name}")
        requirements.write_text(f"confided @ {address}\nguarded\ntiny\n")
        own["index_url"] = index.address
    site = make_site(tmp_path, wheels, umask="0022", **own)
    variables = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
    done = hpctf_env("build", "--pip-file", str(requirements), site=site, check=False, **variables)
    assert done.returncode == 0, done.stderr
    assert index.let_in and not index.seen
    told = [done.stdout + done.stderr]
    key = done.stdout.strip().split("/")[-4]
    for words in (["show", key], ["show", "--json", key], ["lock", key], ["list", "--json"]):
        told.append(hpctf_env(*words, site=site, **variables).stdout)
    assert not [one for one in told if CANARY in one or QUOTED in one]
    assert not leaks(tmp_path / "store")

    locked = tmp_path / "kept.lock"
    locked.write_text(told[3])
    again = hpctf_env("build", "--locked", str(locked), site=site, **variables)
    assert again.stdout == done.stdout


def test_what_a_failed_build_leaves_has_no_password(
    tmp_path: Path, wheels: Path, index: Index
) -> None:
    site = make_site(
        tmp_path, wheels, umask="0022", offline=False, find_links=[], index_url=index.address
    )
    done = hpctf_env("build", "--pip", "absent-one", site=site, check=False)
    assert done.returncode == 3 and index.let_in
    assert CANARY not in done.stderr and QUOTED not in done.stderr
    assert not leaks(tmp_path / "store") and list((tmp_path / "store/logs").glob("*.log"))
