"""What git says of a source folder goes on record, fast, and never stops a submission."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from hpctf.source.git import MOST_DIFF, git_state, without_credentials
from tests.support.projects import project
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def own_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the developer's own settings of git out."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name, value in (("NAME", "a"), ("EMAIL", "a@example.org")):
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)


def git(folder: Path, *words: str | Path) -> str:
    done = subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit, whose folder ``code`` has a script."""
    top = tmp_path / "repository"
    project(top / "code")
    (top / "other.txt").write_text("other\n")
    git(tmp_path, "init", "-q", "-b", "main", top)
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "first")
    return top


def test_a_clean_commit_has_no_difference(repository: Path) -> None:
    state, diff = git_state(repository / "code")
    assert state is not None
    assert (state.commit, state.branch) == (git(repository, "rev-parse", "HEAD"), "main")
    assert (state.dirty, state.untracked, state.problem, diff) == (False, False, None, b"")


def test_a_change_in_the_source_folder_is_kept_as_a_diff(repository: Path) -> None:
    (repository / "code/train.py").write_text("print('changed')\n")
    state, diff = git_state(repository / "code")
    assert state is not None and state.dirty
    assert b"--- a/train.py" in diff and b"+print('changed')" in diff
    git(repository, "add", "-A")  # in the index, too
    assert git_state(repository / "code")[1] == diff


def test_changes_elsewhere_in_the_repository_do_not_count(repository: Path) -> None:
    (repository / "other.txt").write_text("changed\n")
    state, diff = git_state(repository / "code")
    assert state is not None
    assert (state.dirty, diff) == (False, b"")


def test_files_that_git_is_not_told_of_are_said_to_be_there(repository: Path) -> None:
    (repository / "code/new.py").write_text("")
    state, _ = git_state(repository / "code")
    assert state is not None
    assert (state.dirty, state.untracked) == (False, True)


def test_a_detached_head_has_no_branch(repository: Path) -> None:
    git(repository, "checkout", "-q", "--detach")
    state, _ = git_state(repository / "code")
    assert state is not None
    assert (state.branch, state.commit) == (None, git(repository, "rev-parse", "HEAD"))


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "new", project(tmp_path / "p"))
    state, diff = git_state(tmp_path / "p")
    assert state is not None
    assert (state.commit, state.branch, state.untracked, diff) == (None, "new", True, b"")


def test_a_worktree_and_a_submodule_have_commits_of_their_own(
    repository: Path, tmp_path: Path
) -> None:
    git(repository, "worktree", "add", "-q", "-b", "side", tmp_path / "side")
    state, _ = git_state(tmp_path / "side/code")
    assert state is not None and state.branch == "side"
    outer = tmp_path / "outer"
    git(tmp_path, "init", "-q", outer)
    allowed = ("-c", "protocol.file.allow=always")
    git(outer, *allowed, "submodule", "add", "-q", repository, "inner")
    state, _ = git_state(outer / "inner/code")
    assert state is not None and state.commit == git(repository, "rev-parse", "HEAD")


def test_outside_of_git_there_is_nothing(tmp_path: Path) -> None:
    assert git_state(project(tmp_path / "p")) == (None, b"")
    assert git_state(None) == (None, b"")


def test_without_git_the_reason_is_on_record(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    state, _ = git_state(repository / "code")
    assert state is not None
    assert state.commit is None and "git cannot be run" in str(state.problem)


def test_a_slow_git_is_not_waited_for(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A git that waits for what never comes, in a child of its own."""
    slow = tmp_path / "bin/git"
    slow.parent.mkdir()
    started = tmp_path / "started"
    slow.write_text(f"#!/bin/sh\nsleep 600 &\n[ -e {started} ] || echo $! >{started}\nwait\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}{os.pathsep}{os.environ['PATH']}")
    began = time.monotonic()
    state, _ = git_state(repository / "code", patience_s=0.2)
    assert state is not None
    assert state.problem == "git took too long"
    assert time.monotonic() - began < 10
    if started.exists():  # else git was killed before it had started anything
        child = Path("/proc") / started.read_text().strip() / "cmdline"
        wait_until(lambda: not child.exists() or not child.read_bytes())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_somebody_elses_repository_is_not_looked_into(repository: Path) -> None:
    for path in [repository, repository / ".git"]:
        os.chown(path, 65534, 65534)
    state, _ = git_state(repository / "code")
    assert state is not None
    assert state.commit is None and "dubious ownership" in str(state.problem)


def test_programs_that_a_repository_names_are_not_called_for_the_diff(
    repository: Path, tmp_path: Path
) -> None:
    git(repository, "config", "diff.external", f"touch {tmp_path}/called")
    (repository / "code/train.py").write_text("changed\n")
    _, diff = git_state(repository / "code")
    assert b"+changed" in diff
    assert not (tmp_path / "called").exists()


def test_a_long_diff_is_cut_with_a_word(repository: Path) -> None:
    (repository / "code/train.py").write_text("x = 1\n" * 400_000)
    _, diff = git_state(repository / "code")
    assert len(diff) < MOST_DIFF + 100
    assert diff.endswith(b"the rest is left out: 1,000,000 bytes are kept.\n")


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://me:secret@example.org/a.git", "https://example.org/a.git"),
        ("https://token@example.org/a.git", "https://example.org/a.git"),
        ("ssh://git:secret@example.org/a.git", "ssh://git@example.org/a.git"),
        ("git@example.org:a.git", "git@example.org:a.git"),
        ("https://example.org/a@b.git", "https://example.org/a@b.git"),
        ("https://me:p@ss@example.org/a.git", "https://example.org/a.git"),
        ("/srv/a.git", "/srv/a.git"),
    ],
)
def test_remotes_are_kept_without_credentials(repository: Path, url: str, clean: str) -> None:
    git(repository, "remote", "add", "origin", url)
    state, _ = git_state(repository / "code")
    assert state is not None
    assert state.remote == without_credentials(url) == clean
