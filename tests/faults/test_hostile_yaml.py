"""YAML that is no job file and no site file: one clear message, soon, and nothing happens."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from hpctf.errors import HpctfError
from hpctf.site.loading import load_site
from tests.faults.hostile import YAML
from tests.faults.test_hostile_input import no_canary
from tests.support.projects import hpctf

pytestmark = pytest.mark.slow

KINDS = ["job", "site"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text("print('hello')\n")
    return tmp_path


def asked(home: Path, kind: str, file: str) -> subprocess.CompletedProcess[str]:
    """Submit with a job file or a site file, in little memory: a bomb must not go off."""
    words = [file] if kind == "job" else ["--site", file, "train.py"]
    env = {"HPCTF_SITE": "slurm"}
    return hpctf("submit", "--dry-run", *words, cwd=home, env=env, memory=2 << 30)


def refused(home: Path, done: subprocess.CompletedProcess[str]) -> str:
    """Look that it is refused by one message that a person can read, and nothing else happens."""
    assert (done.returncode in (2, 3), done.stdout) == (True, ""), done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert 20 < len(done.stderr.replace(str(home), "")) < 6000
    assert all(char.isprintable() or char == "\n" for char in done.stderr)
    assert not (home / "runs").exists()
    no_canary(home)
    return done.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", YAML)
def test_yaml_that_is_neither(home: Path, kind: str, name: str) -> None:
    (home / "x.yaml").write_bytes(YAML[name].encode("utf-8", "surrogateescape"))
    began = time.monotonic()
    said = refused(home, asked(home, kind, "./x.yaml"))
    assert "x.yaml" in said or "No script is named" in said, said
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "what", ["folder", "pipe", "socket", "nothing", "link", "device", "secret"]
)
def test_what_is_no_file_is_neither_read_nor_waited_for(home: Path, kind: str, what: str) -> None:
    path = home / "x.yaml"
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.relpath(path))
    elif what == "link":
        path.symlink_to("x.yaml")
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "memory":
        path.symlink_to("/proc/self/mem")
    assert "x.yaml" in refused(home, asked(home, kind, "./x.yaml"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "bad", ["new\nline", "$(touch CANARY)", "caf\udce9", "\x1b[31m", "n" * 300]
)
def test_files_with_hostile_names(home: Path, kind: str, bad: str) -> None:
    refused(home, asked(home, kind, f"./{bad}.yaml"))
    if len(bad) < 200:
        (home / f"{bad}.yaml").write_text("a: [\n")
        assert ":2" in refused(home, asked(home, kind, f"./{bad}.yaml"))


@pytest.mark.parametrize(
    "name", ["a\0.yaml", "\ud800.yaml", "x/" * 50_000, "~\0/x.yaml", "\0", ""], ids=lambda n: n[:9]
)
def test_sites_that_no_file_can_be(name: str) -> None:
    with pytest.raises(HpctfError):
        load_site(name)


def test_a_byte_order_mark_is_no_matter(home: Path) -> None:
    (home / "job.yaml").write_bytes(b"\xef\xbb\xbfscript: train.py\n")
    (home / "site.yaml").write_bytes(b"\xef\xbb\xbfname: mine\n")
    done = asked(home, "job", "job.yaml")
    assert done.stdout.startswith("#!/bin/bash"), done.stderr
    assert asked(home, "site", "./site.yaml").stdout.startswith("#!/bin/bash")


def test_what_a_sites_yaml_says_is_quoted_in_the_script(home: Path) -> None:
    """Options of mpirun and directives are words; only prologue and epilogue are shell."""
    hostile = "'$(touch CANARY); `touch CANARY` \"x\" #'"
    site = f"name: mine\ndirectives: {{comment: {hostile}}}\n"
    site += f"mpi: {{launcher: mpirun, options: [{hostile}]}}\n"
    (home / "site.yaml").write_text(f"{site}modules: [{hostile}]\n")
    assert "modules" in refused(home, asked(home, "site", "./site.yaml"))
    (home / "site.yaml").write_text(site)
    script = asked(home, "site", "./site.yaml").stdout
    assert script.count("touch CANARY") >= 2
    stubs = home / "stubs"
    stubs.mkdir()
    for program in ("srun", "mpirun", "module"):
        (stubs / program).write_text("#!/bin/sh\n")
        (stubs / program).chmod(0o755)
    path = f"{stubs}:{os.environ['PATH']}"
    subprocess.run(["bash"], input=script, text=True, cwd=home, env={**os.environ, "PATH": path})
    no_canary(home)
    no_canary(stubs)
