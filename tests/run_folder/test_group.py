"""A run that a group shares: what one of them looks at stays whole for the others."""

from __future__ import annotations

import grp
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpctf.common.files import append_record, write_json
from tests.conftest import ROOT, skip_or_fail

ALICE, BOB, GROUP = "hpctf-alice", "hpctf-bob", "hpctf-lab"


@pytest.fixture(scope="module")
def lab() -> Iterator[Path]:
    """A folder of a group's, in which two users have a runs root."""
    if os.geteuid():
        skip_or_fail("only root can be two users")
    for words in (
        ["groupadd", "--force", GROUP],
        *(["useradd", "--no-create-home", "--groups", GROUP, name] for name in (ALICE, BOB)),
    ):
        name = words[-1]
        if words[0] == "groupadd" or name not in {user.pw_name for user in pwd.getpwall()}:
            subprocess.run(words, check=True, capture_output=True)
    top = Path("/var/lib/hpctf-test-lab")
    shutil.rmtree(top, ignore_errors=True)
    (top / "runs").mkdir(parents=True)
    os.chown(top / "runs", 0, grp.getgrnam(GROUP).gr_gid)
    (top / "runs").chmod(0o2770)
    yield top
    shutil.rmtree(top)
    for name in (ALICE, BOB):
        subprocess.run(["userdel", name], check=True, capture_output=True)
    subprocess.run(["groupdel", GROUP], check=True, capture_output=True)


def as_user(
    name: str, installed: Path, lab: Path, *words: str, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run an hpctf command as one of the two, whose own umask is 0077."""
    home = lab / f"home-{name}"
    if not home.exists():
        home.mkdir()
        os.chown(home, pwd.getpwnam(name).pw_uid, -1)
    env = {
        "HOME": str(home),
        "USER": name,
        "PATH": "/usr/bin:/bin",
        "HPCTF_RUNS_ROOT": str(lab / "runs"),
        "HPCTF_SITE": str(lab / "site.yaml"),
    }
    done = subprocess.run(
        ["/usr/sbin/runuser", "-u", name, "--", str(installed / "hpctf"), *words],
        env=env,
        cwd=home,
        umask=0o077,
        capture_output=True,
        text=True,
    )
    assert not check or done.returncode == 0, (words, done.stderr)
    assert "Traceback" not in done.stderr
    return done


def submitted(installed: Path, lab: Path, umask: str) -> str:
    """Return a run of Alice's that is over, and at which nobody has looked."""
    (lab / "site.yaml").write_text(f"name: lab\nextends: local\numask: '{umask}'\n")
    script = lab / "train.py"
    script.write_text("from hpctf import Run\nRun.get_context().log('loss', 1.0)\n")
    run = as_user(ALICE, installed, lab, "submit", "--wait", str(script)).stdout.strip()
    folder = folder_of(lab, run)
    for cache in ("final.json", "last.json"):
        (folder / "state" / cache).unlink(missing_ok=True)
    return run


def folder_of(lab: Path, run: str) -> Path:
    return next((lab / "runs").glob(f"*/{run}"))


LOOKS = ("status", "why", "metrics", "report", "runs", "wait", "files", "logs")


@pytest.mark.parametrize("umask", ["0007", "0027", "0077"])
def test_what_one_looks_at_first_stays_the_others(umask: str, lab: Path, installed: Path) -> None:
    run = submitted(installed, lab, umask)
    readable = not int(umask, 8) & 0o040
    for look in LOOKS:
        words = [look] if look == "runs" else [look, run]
        words += ["--to", str(lab / f"home-{BOB}" / "report.html")] if look == "report" else []
        done = as_user(BOB, installed, lab, *words, check=False)
        assert (done.returncode == 0) == readable or look == "runs", (look, done.stderr)
    if umask == "0007":
        as_user(BOB, installed, lab, "tag", run, "by=bob")
    folder = folder_of(lab, run)
    group = grp.getgrnam(GROUP).gr_gid
    for path in (*folder.glob("state/*"), *folder.glob("metrics/*"), folder / "run.json"):
        if path.is_dir():
            continue
        found = path.lstat()
        assert found.st_gid == group
        allowed = 0o666 & ~int(umask, 8)
        assert stat.S_IMODE(found.st_mode) in (allowed, 0o600 if path.suffix == ".env" else allowed)
    for look in ("status", "runs", "why", "metrics", "tag"):
        words = [look] if look == "runs" else [look, run]
        as_user(ALICE, installed, lab, *words, *(["by=alice"] if look == "tag" else []))
    rows = json.loads(as_user(ALICE, installed, lab, "runs", "--json").stdout)
    assert [row["state"] for row in rows if row["id"] == run] == ["Completed"]
    as_user(ALICE, installed, lab, "runs", "--rm", "--yes", run)
    assert not list((lab / "runs").glob(f"*/{run}"))


@pytest.mark.parametrize("write", [write_json, append_record])
def test_nothing_is_kept_that_its_owner_could_not_read(
    write: Any, lab: Path, tmp_path: Path
) -> None:
    """A folder of somebody's who is not of the group that may write it."""
    folder = lab / "outside"
    folder.mkdir()
    os.chown(folder, pwd.getpwnam("nobody").pw_uid, grp.getgrnam(GROUP).gr_gid)
    folder.chmod(0o770)
    shared = ", shared=True" if write is write_json else ""
    code = f"from hpctf.common.files import {write.__name__} as write\n"
    code += (
        f"try:\n    write('{folder}/kept', {{}}{shared})\nexcept PermissionError:\n    print('no')"
    )
    env = {"PYTHONPATH": str(ROOT)}
    words = ["/usr/sbin/runuser", "-u", BOB, "--", sys.executable, "-c", code]
    done = subprocess.run(words, env=env, cwd="/", capture_output=True, text=True)
    assert done.stdout == "no\n", done.stderr
    assert list(folder.iterdir()) == []
    shutil.rmtree(folder)


@pytest.mark.parametrize("umask", ["0007", "0027", "0077"])
def test_a_group_shares_models_as_it_shares_runs(umask: str, lab: Path, installed: Path) -> None:
    shutil.rmtree(lab / "runs/.models", ignore_errors=True)
    run = submitted(installed, lab, umask)
    may_read, may_write = umask != "0077", umask == "0007"

    def models(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        return as_user(name, installed, lab, "models", *words, check=False)

    log = ["register", "digits", "logs/worker-0.log", "--run", run]
    assert models(ALICE, *log).stdout == "digits:1\n"
    mine = models(BOB, "register", "mine", "/etc/hostname")
    assert mine.stdout == "mine:1\n", mine.stderr

    listed = json.loads(models(BOB, "list", "--json").stdout)
    assert [one["id"] for one in listed] == [*(["digits:1"] if may_read else []), "mine:1"]
    copied = models(BOB, "download", "digits", "--to", "copy")
    assert copied.returncode == (0 if may_read else 2), copied.stderr
    theirs = models(BOB, *log)
    assert (theirs.returncode == 0) == may_write, theirs.stderr
    assert (models(BOB, "alias", "digits", "champion").returncode == 0) == may_write
    assert models(BOB, "rm", "digits:1", "--yes").returncode == 2
    if may_write:
        assert theirs.stdout == "digits:2\n"
        assert "by hpctf-bob" in models(ALICE, "show", "digits@champion").stdout
        kept = lab / "runs/.models/digits/2/files/worker-0.log"
        assert (kept.owner(), kept.stat().st_nlink) == (BOB, 1)
    shutil.rmtree(lab / "home-hpctf-bob/copy", ignore_errors=True)
