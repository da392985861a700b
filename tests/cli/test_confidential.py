"""Secrets that a run is given reach its script, and nobody else: each input has a canary of its
own, and every file that others may read, and every command's output, is looked through."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpctf import Run
from hpctf.notebook.cards import experiment_card, run_card
from hpctf.submission.sbatch import write_script
from tests.support.every_command import about_else, about_runs, filled, run_all
from tests.support.projects import hpctf

pytestmark = pytest.mark.slow

SCRIPT = """
API_KEY = "canary-code"
import json, os, sys
from hpctf import Run
Run.get_context().log("loss", 1.0, 1)
open("outputs/said.txt", "w").write("hello")
json.dump({"arguments": sys.argv[1:], "variables": dict(os.environ)}, open("seen.json", "w"))
os.chmod("seen.json", 0o600)
"""

VARIABLES = {
    "HF_TOKEN": "canary-token",
    "DB_PWD": "canary-pwd",
    "GITHUB_PAT": "canary-pat",
    "OPENAI_API_KEY": "canary-key",
    "SESSION_COOKIE": "canary-cookie",
    "STORE": "https://me:canary-userinfo@host/x",
    "HEADER": "Authorization: Bearer canary-bearer",
    "PLAIN_LOOK": "ghp_" + "canary12" * 5,
}
ARGUMENTS = ["--api-key", "canary-argument", "--password=canary-equals", "--data"]
ARGUMENTS += ["s3://me:canary-data@bucket/x"]
TAGS = {"wandb_token": "canary-tag", "where": "https://me:canary-tagged@host/"}
REMOTE = "https://me:canary-remote@git.example/x.git"
CANARIES = [
    "canary-token", "canary-pwd", "canary-pat", "canary-key", "canary-cookie", "canary-userinfo",
    "canary-bearer", "canary12", "canary-argument", "canary-equals", "canary-data", "canary-tag",
    "canary-tagged", "canary-remote", "canary-site", "canary-prologue", "canary-in", "canary-code",
]  # fmt: skip


def hpctf_in(*words: str, **variables: str) -> subprocess.CompletedProcess[Any]:
    return hpctf(*words, cwd=Path(variables["HPCTF_RUNS_ROOT"]).parent, env=variables)


def words(option: str, values: dict[str, str]) -> list[str]:
    return [word for name, value in values.items() for word in (option, f"{name}={value}")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, str]]:
    top = tmp_path_factory.mktemp("confidential")
    source = top / "proj"
    source.mkdir()
    (source / "train.py").write_text(SCRIPT)
    for command in ("init -q", "add -A", "commit -qm x", f"remote add origin {REMOTE}"):
        own = ["-c", "user.name=x", "-c", "user.email=x@x"]
        subprocess.run(["git", "-C", source, *own, *command.split()], check=True)
    site = top / "site.yaml"
    site.write_text(
        "name: s\nscheduler: local\numask: '0022'\n"
        "prologue: ['export A=1 SITE_TOKEN=canary-prologue', 'log in --token canary-in']\n"
        "environments: {proxy: 'http://me:canary-site@proxy:3128'}\n"
    )
    variables = {"HPCTF_RUNS_ROOT": str(top / "runs"), "HPCTF_SITE": str(site)}
    done = hpctf_in(
        *["submit", "--wait", *words("--env", VARIABLES), *words("--tag", TAGS)],
        *[str(source / "train.py"), "--", *ARGUMENTS],
        **variables,
    )
    assert done.returncode == 0, done.stderr
    run = Run(next((top / "runs/train").iterdir()))
    assert not found_in(done.stdout + done.stderr)
    return run, variables


def is_private(path: Path) -> bool:
    return not stat.S_IMODE(path.stat().st_mode) & 0o077


def found_in(text: str) -> list[str]:
    return [canary for canary in CANARIES if canary in text]


def test_the_script_gets_all_of_them(made: tuple[Run, dict[str, str]]) -> None:
    seen = json.loads((made[0].folder.snapshot / "seen.json").read_text())
    assert seen["arguments"] == ARGUMENTS
    assert VARIABLES.items() <= seen["variables"].items()


def test_no_file_of_the_run_that_others_may_read_holds_one(
    made: tuple[Run, dict[str, str]],
) -> None:
    run = made[0]
    private = set()
    for place, _, names in os.walk(run.folder.path):
        for name in names:
            path = Path(place, name)
            if path.is_symlink() or "snapshot" in path.parts:
                continue  # code is copied as it is
            if is_private(path):
                private.add(name)
                continue
            assert not found_in(path.read_bytes().decode(errors="replace")), path
    assert {"confidential.json", "payload.pkl"} <= private
    assert {"run.json", "plan.json"}.isdisjoint(private), "others may ask for its state"


def test_no_command_shows_or_writes_one(
    made: tuple[Run, dict[str, str]], again: Run, tmp_path: Path, tools_python: str
) -> None:
    """All commands that there are, in an environment that has MLflow and TensorBoard."""
    run, variables = made
    calls = [*about_else(), *(call for call in about_runs() if call[0] != "archive")]
    calls += [["archive", "--list"], ["report", "RUN", "OTHER", "--compare", "--to", "OUT"]]
    script = str(run.folder.path.parents[2] / "proj/train.py")
    asked = []
    for number, call in enumerate(calls):
        meant = {"SCRIPT": script, "/bin/false": tools_python}
        if call[0] != "tensorboard":  # it goes on; what it shows is what the export writes
            words = [meant.get(word, word) for word in call]
            asked.append(filled(words, run.id, again.id, tmp_path / f"out-{number}"))
    for said in run_all(asked, tools_python, tmp_path, variables):
        assert said.code in (0, 1, 2, 3), said
        assert "Traceback" not in said.text, said
        code_is_the_answer = said.words[0] == "migrate"
        shown = said.text.replace("canary-code", "") if code_is_the_answer else said.text
        assert not found_in(shown), said
    wrote = {" ".join(words[:2]).split(" train_")[0] for words in asked if Path(words[-1]).exists()}
    assert wrote >= {"report", "download", "export csv"}, wrote
    assert len(list(tmp_path.glob("out-*"))) >= 7, "those with --json write, too"
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        # Of sites, what is kept; of the script, a file of its own that it made private.
        mine = {"cache", "snapshot"} & set(path.parts) and is_private(path)
        assert mine or not found_in(path.read_bytes().decode(errors="replace")), path
    shown = run_card(run.folder) + experiment_card("train", run.folder.root)
    assert not found_in(shown)


def test_a_job_script_with_a_secret_of_the_sites_is_its_owners_alone(tmp_path: Path) -> None:
    lines = ["export PATH=/x:$PATH", "export A=1 SITE_TOKEN=canary-site", "load --token canary-key"]
    tmp_path.chmod(0o755)
    for number, line in enumerate(lines):
        write_script(tmp_path / str(number), f"#!/bin/bash\n{line}\n")
    assert [is_private(tmp_path / str(number)) for number in range(3)] == [False, True, True]


@pytest.fixture(scope="module")
def again(made: tuple[Run, dict[str, str]]) -> Run:
    """The same run submitted again with another token: it has all other secrets of the first."""
    done = hpctf_in("resubmit", "--wait", "--env", "HF_TOKEN=canary-token-2", made[0].id, **made[1])
    assert done.returncode == 0, done.stderr
    return next(
        Run(path) for path in made[0].folder.path.parent.iterdir() if path.name != made[0].id
    )


def test_a_run_is_submitted_again_with_its_secrets(again: Run) -> None:
    seen: dict[str, Any] = json.loads((again.folder.snapshot / "seen.json").read_text())
    assert seen["arguments"] == ARGUMENTS
    wanted = {**VARIABLES, "HF_TOKEN": "canary-token-2"}
    assert wanted.items() <= seen["variables"].items()


def test_who_may_not_read_them_is_told_so_and_sees_all_else(
    made: tuple[Run, dict[str, str]], again: Run
) -> None:
    kept = again.folder.path / "confidential.json"
    kept.rename(kept.with_name("aside"))
    try:
        done = hpctf_in("resubmit", again.id, **made[1])
        assert done.returncode == 2 and "HF_TOKEN" in done.stderr
        assert hpctf_in("status", again.id, **made[1]).returncode == 0
    finally:
        kept.with_name("aside").rename(kept)


def test_an_archive_of_secrets_is_its_owners_alone(
    made: tuple[Run, dict[str, str]], again: Run
) -> None:
    done = hpctf_in("archive", "--yes", again.id, **made[1])
    assert done.returncode == 0, done.stderr
    (file,) = again.folder.root.rglob(f"{again.id}.tar.gz")
    assert is_private(file)
    assert hpctf_in("archive", "--restore", again.id, **made[1]).returncode == 0
    assert is_private(again.folder.path / "confidential.json")
