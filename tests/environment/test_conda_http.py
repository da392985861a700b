"""Conda channels over HTTP: passwords and tokens reach them, and nobody and nothing else."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hpctf.environment.build import ensure
from hpctf.environment.store import Store
from hpctf.errors import BuildError
from tests.environment.canary import AUTHORIZATION, CANARY, QUOTED, WatchfulServer, leaks
from tests.environment.conda_channels import GREETER, SHORT, base_channel, index, package
from tests.environment.test_conda import solved
from tests.support.stand_in_wheels import ask, hpctf_env, make_site, start_env
from tests.support.waiting import HANGS_S, wait_until

CHANNEL = "/private/channel"


class Server(WatchfulServer):
    """Serves a channel to who has the password or the token."""

    def __init__(self, channel: Path) -> None:
        super().__init__(partial(_Handler, directory=str(channel)))
        self.asked: list[str] = []
        self.open = threading.Event()
        self.open.set()


class _Handler(http.server.SimpleHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.look()
        self.server.asked.append(self.path)
        with_token = self.path.startswith((f"/t/{CANARY}/", f"/t/{QUOTED}/"))
        if not with_token and self.headers.get("Authorization") != AUTHORIZATION:
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path.endswith(".conda"):
            self.server.open.wait()
        self.path = self.path[self.path.index(CHANNEL) + len(CHANNEL) :]
        super().do_GET()

    do_HEAD = do_GET

    def log_message(self, *words: Any) -> None:
        pass


@contextlib.contextmanager
def serving(channel: Path) -> Iterator[Server]:
    made = Server(channel)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(base_channel()) as made:
        yield made


@pytest.mark.parametrize("where", ["package", "token", "netrc", "mirror"])
def test_the_password_of_a_channel_is_nowhere_but_with_who_asks(
    where: str, server: Server, tmp_path: Path, wheels: Path
) -> None:
    public = f"http://{server.place}{CHANNEL}"
    private = f"http://me:{QUOTED}@{server.place}{CHANNEL}"
    token = f"http://{server.place}/t/{QUOTED}{CHANNEL}"
    home = tmp_path / "home"
    home.mkdir()
    channel, package = "channel", "greeter"
    if where == "package":
        channel, package = private, f"{private}::greeter"
    elif where == "token":
        channel = token
    elif where == "netrc":
        channel = public
        (home / ".netrc").write_text(f"machine 127.0.0.1 login me password {CANARY}\n")
        (home / ".netrc").chmod(0o600)
    else:
        places = f"mirrored_channels: {{channel: ['{private}', '{token}']}}\n"
        (home / ".condarc").write_text(places)
    site = make_site(tmp_path, wheels, umask="0022", offline=False, channels=[channel])
    file = tmp_path / "environment.yml"
    file.write_text(json.dumps({"dependencies": [f"python={SHORT}", package]}))
    words = ["--conda-file", str(file)]
    variables = {"HOME": str(home), "PIP_NO_INDEX": "1"}
    done = hpctf_env("build", *words, site=site, check=False, **variables)
    assert done.returncode == 0, done.stderr
    assert server.asked and not server.seen
    shown = hpctf_env("show", "--json", done.stdout.strip().split("/")[-4], site=site)
    lock = Path(done.stdout.strip()).parents[1] / "environment.lock"
    told = [done.stdout, done.stderr, shown.stdout]
    assert f"# conda: {public}/noarch/greeter-1.0-py_0.conda#sha256:" in lock.read_text()
    assert not [text for text in told if CANARY in text or QUOTED in text]
    assert not leaks(tmp_path / "store")


def test_a_server_that_refuses_is_reported_with_its_address_alone(
    server: Server, tmp_path: Path, wheels: Path
) -> None:
    channel = f"http://me:wr0ng-pass@{server.place}{CHANNEL}"
    site = make_site(tmp_path, wheels, offline=False, channels=[channel])
    done = hpctf_env("build", "--conda", "greeter", site=site, check=False)
    assert done.returncode == 3 and "401 Unauthorized" in done.stderr
    assert "wr0ng-pass" not in done.stderr and not list((tmp_path / "store").rglob("conda.json"))


def test_a_site_without_a_network_takes_what_was_downloaded(
    server: Server, tmp_path: Path, wheels: Path
) -> None:
    private = f"http://me:{QUOTED}@{server.place}{CHANNEL}"
    words = ["--python-version", SHORT, "--conda", "greeter"]
    site = make_site(tmp_path, wheels, offline=True, channels=[private])
    done = hpctf_env("build", *words, site=site, check=False)
    assert done.returncode == 3 and not server.asked, done.stderr
    make_site(tmp_path, wheels, offline=False, channels=[private])
    hpctf_env("build", *words, site=site, PIP_NO_INDEX="1")
    asked = len(server.asked)
    make_site(tmp_path, wheels, offline=True, channels=[private])
    again = hpctf_env("build", *words, "--pip", "tiny", site=site)
    assert Path(again.stdout.strip()).exists() and len(server.asked) == asked


def test_a_builder_that_is_killed_harms_neither_the_cache_nor_who_builds_beside_it(
    server: Server, tmp_path: Path, wheels: Path
) -> None:
    """Two builds wait for the same packages when one is killed; what it asked for is built next."""
    private = f"http://me:{QUOTED}@{server.place}{CHANNEL}"
    site = make_site(tmp_path, wheels, offline=False, channels=[private])
    words = ["build", "--python-version", SHORT, "--conda", "greeter"]
    server.open.clear()
    killed = start_env(*words, "--conda", "relocated", site=site, PIP_NO_INDEX="1")
    beside = start_env(*words, site=site, PIP_NO_INDEX="1")

    def downloading() -> list[str]:
        return [path for path in server.asked if path.endswith(".conda")]

    def scripts() -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if (
                    str(tmp_path).encode() in path.read_bytes()
                    and b"with_rattler" in path.read_bytes()
                ):
                    found.append(int(path.parent.name))
        return found

    wait_until(lambda: len(scripts()) == 2 and len(downloading()) >= 3)
    killed.kill()
    killed.communicate()
    wait_until(lambda: len(scripts()) == 1)
    server.open.set()
    out, story = beside.communicate(timeout=HANGS_S)
    assert beside.returncode == 0, story
    assert len(list((tmp_path / "store").glob("*/current"))) == 1
    again = hpctf_env(*words, "--conda", "relocated", site=site, PIP_NO_INDEX="1")
    assert "Removed what was left of build" in again.stderr
    prefix = Path(again.stdout.strip()).resolve().parents[1]
    said = subprocess.check_output([prefix / "bin/where"], text=True).strip()
    assert said == f"{prefix}/share" and out != again.stdout


def test_a_channel_that_changes_is_looked_at_anew(tmp_path: Path, wheels: Path) -> None:
    """Its server confirms what is cached without saying what (RFC 9110, 15.4.5). A package that is
    damaged on its way is not installed."""
    own = tmp_path / "own"
    shutil.copytree(base_channel(), own)
    now = time.time()
    for file in own.rglob("repodata*"):
        os.utime(file, (now, now))  # so new that a cache asks again at once
    with serving(own) as server:
        channel = f"http://me:{QUOTED}@{server.place}{CHANNEL}"
        site = make_site(tmp_path, wheels, offline=False, channels=[channel])
        spec, loaded = ask(site, conda_packages=("greeter",), python_version=SHORT)
        assert solved(tmp_path, spec, loaded, offline=False)["greeter"] == "1.0=py_0"
        assert solved(tmp_path, spec, loaded, offline=False)["greeter"] == "1.0=py_0"
        package(
            own, "greeter", "1.1", GREETER.replace("VERSION", "1.1"), "python", python="g = g:m"
        )
        index(own)
        found = solved(tmp_path, spec, loaded, offline=False)
        assert found["greeter"] == "1.1=0"
        shutil.copy(own / "noarch/greeter-1.0-py_0.conda", own / "noarch/greeter-1.1-0.conda")
        with pytest.raises(BuildError, match="hash mismatch when extracting"):
            ensure(spec, loaded)
        assert not Store(loaded).is_ready(spec)
