"""A file that may not be read or written, wherever in a run: one sentence, of any command."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import shutil
import sys
import traceback
from pathlib import Path

import pytest

import hpctf.cli
from hpctf import Run
from tests.conftest import TEST_USER, skip_or_fail
from tests.support.ended_runs import Copy
from tests.support.every_command import about_runs, filled

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
_VERSION_3 = 0x20080522


def without_rights_over_files() -> None:
    """Let this process be asked for its rights to files as an ordinary user is (capset(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0
    for kind in range(3):
        data[kind] &= ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
    assert libc.capset(header, data) == 0


def said_by(calls: list[list[str]], folder: Path) -> list[tuple[list[str], int, str]]:
    """Run commands, one after the other, in a process without rights over files; return what each
    ended with and wrote to stderr."""
    answers = folder / "answers"
    child = os.fork()
    if not child:
        try:
            without_rights_over_files()
            os.chdir(folder)
            found = []
            for number, words in enumerate(calls):
                path = folder / f"stderr-{number}"
                sys.argv = ["hpctf", *words]
                with (
                    path.open("w") as err,
                    open(os.devnull, "w") as out,
                    contextlib.redirect_stderr(err),
                    contextlib.redirect_stdout(out),
                ):
                    try:
                        code = hpctf.cli._run()
                    except BaseException:
                        traceback.print_exc()
                        code = 99
                found.append((words, code, path.read_text()))
            answers.write_text(json.dumps(found))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return [(words, code, said) for words, code, said in json.loads(answers.read_text())]


@pytest.mark.parametrize("kind", ["closed", "given away"])
def test_every_command_says_in_one_sentence_what_it_may_not_touch(
    run: Run, copy: Copy, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        skip_or_fail("only root can give a file away")
    monkeypatch.setenv("HPCTF_RUNS_ROOT", str(run.folder.root))
    run.tag("by", "me")
    other = copy()
    names = [path.relative_to(run.folder.path) for path in sorted(run.folder.path.rglob("*"))]
    assert len(names) > 20
    stranger = pwd.getpwnam(TEST_USER)
    sentences = set()
    for name in [None, *names[:: 1 if kind == "closed" else 6]]:
        victim = copy()
        for path in [victim.folder.path / name] if name else list(victim.folder.path.rglob("*")):
            if path.is_symlink() or (name is None and path.is_dir()):
                continue
            path.chmod(0 if kind == "closed" else 0o700 if path.is_dir() else 0o600)
            if kind == "given away":
                os.chown(path, stranger.pw_uid, stranger.pw_gid)
        place = tmp_path / "place"
        place.mkdir()
        calls = [
            filled(words, victim.id, other.id, place / f"out-{number}")
            for number, words in enumerate(about_runs())
        ]
        for words, code, said in said_by(calls, place):
            assert code in (0, 1, 2, 3), (str(name), words, code, said)
            assert "Traceback" not in said and "[Errno" not in said, (str(name), words, said)
            sentences.add(said.splitlines()[0] if code == 3 and said else "")
        shutil.rmtree(place)
        shutil.rmtree(victim.folder.path, ignore_errors=True)
    assert len(sentences) > 3
    whose = "belongs to you (mode 0)" if kind == "closed" else f"belongs to {stranger.pw_name}"
    assert any(whose in one for one in sentences), sentences
