"""What git knows of a source folder: the commit, and whether the code is that of the commit.

It is written down for people. A submission never fails for it, and waits for it a moment at most:
where git is absent, refuses (``safe.directory``) or takes long, that is what is on record.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from hpctf.scheduler.programs import FOLDER, environment_of

PATIENCE_S = 3.0
"""Seconds for all that git is asked of one folder."""

MOST_DIFF = 1_000_000
"""Bytes of a diff that are kept."""

_USER = re.compile(r"^([a-z][a-z0-9+.-]*://)([^/]*)@", re.IGNORECASE)
_REFUSED = re.compile(rb"^(?:fatal|error): (.*)", re.MULTILINE)


@dataclass(frozen=True)
class GitState:
    """What git says of a folder when a run was submitted from it.

    Parameters
    ----------
    commit
        The commit that is checked out; None before the first one, and where git did not say.
    branch
        Its branch; None for a detached HEAD.
    dirty
        Whether a tracked file of the source folder differs from the commit; None: not known.
    untracked
        Whether git is not told of a file in it.
    remote
        Where the branch comes from, without credentials.
    problem
        Why something is not known.
    """

    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None
    untracked: bool | None = None
    remote: str | None = None
    problem: str | None = None


def git_state(source: Path | None, patience_s: float = PATIENCE_S) -> tuple[GitState | None, bytes]:
    """Return what git says of a source folder, and the diff to its commit; None outside of git.

    Parameters
    ----------
    source
        A folder in a repository, one of its worktrees or a submodule; None for a function's run.
    patience_s
        After so many seconds what is known by then is returned.
    """
    if source is None or not any(os.path.lexists(p / ".git") for p in (source, *source.parents)):
        return None, b""
    git = _Git(source, time.monotonic() + patience_s)
    try:
        return _state(git)
    except _NoAnswer as error:
        return _commit_alone(git, str(error)), b""


def without_credentials(url: str) -> str:
    """Return a remote's address without user and password; of ``ssh://`` the user stays."""

    def user(match: re.Match[str]) -> str:
        name = match[2].partition(":")[0]
        return f"{match[1]}{name}@" if match[1].lower().endswith("ssh://") else match[1]

    return _USER.sub(user, url)


class _NoAnswer(Exception):
    """git said nothing that can be used; the message tells why."""


def _state(git: _Git) -> tuple[GitState, bytes]:
    said = git.ask(
        "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal", "--", "."
    )
    lines = said.decode("utf-8", "surrogateescape").split("\0")
    head = dict(line[2:].partition(" ")[::2] for line in lines if line.startswith("# "))
    commit = head.get("branch.oid")
    branch = head.get("branch.head")
    state = GitState(
        commit=None if commit == "(initial)" else commit,
        branch=None if branch == "(detached)" else branch,
        dirty=any(line[:2] in ("1 ", "2 ", "u ") for line in lines),
        untracked=any(line.startswith("? ") for line in lines),
        remote=_remote(git, head.get("branch.upstream")),
    )
    return state, _diff(git) if state.dirty and state.commit else b""


def _commit_alone(git: _Git, problem: str) -> GitState:
    """Return the commit of a repository whose files take long to look at."""
    try:
        commit = git.ask("rev-parse", "HEAD", more_s=1.0).decode().strip()
    except _NoAnswer:
        return GitState(problem=problem)
    return GitState(commit or None, problem=problem)


def _remote(git: _Git, upstream: str | None) -> str | None:
    name = (upstream or "origin/").partition("/")[0]
    try:
        url = git.ask("config", "--get", f"remote.{name}.url")
    except _NoAnswer:
        return None
    return without_credentials(url.decode("utf-8", "replace").strip()) or None


def _diff(git: _Git) -> bytes:
    """Return how the folder differs from its commit; other programs are not called for it."""
    options = ("--no-ext-diff", "--no-textconv", "--no-color", "--relative")
    try:
        text = git.ask("diff", *options, "HEAD", "--", ".")
    except _NoAnswer as error:
        return f"The difference to the commit is not known: {error}.\n".encode()
    if len(text) <= MOST_DIFF:
        return text
    note = f"\n... the rest is left out: {MOST_DIFF:,} bytes are kept.\n"
    return text[: text.rfind(b"\n", 0, MOST_DIFF)] + note.encode()


@dataclass(frozen=True)
class _Git:
    """git, asked about one folder until a moment."""

    folder: Path
    until: float

    def ask(self, *words: str, more_s: float = 0.0) -> bytes:
        """Return what git prints; raise `_NoAnswer` if it refuses, or is not done in time."""
        try:
            process = subprocess.Popen(
                ["git", "-C", str(self.folder), *words],
                env=environment_of("git"),
                cwd=FOLDER,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise _NoAnswer(f"git cannot be run ({error.strerror})") from None
        with process:
            try:
                left = max(0.0, self.until - time.monotonic())
                answer, complaint = process.communicate(timeout=left + more_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # with what git has started
                raise _NoAnswer("git took too long") from None
        if process.returncode:
            refusal = _REFUSED.search(complaint)
            why = refusal[1].decode("utf-8", "replace") if refusal else ""
            raise _NoAnswer(f"git refuses: {why or f'exit code {process.returncode}'}")
        return answer
