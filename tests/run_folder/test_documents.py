"""Whatever lies where a run's documents should be: one clear message, and all other runs go on."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import json
import os
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from hpctf import Experiment, ParameterServer, Run, TensorFlow
from hpctf.cli import cli
from hpctf.errors import HpctfError, UnreadableRun
from hpctf.notebook.cards import experiment_card
from hpctf.run_folder.documents import FORMAT
from hpctf.runs.housekeeping.dependents import active_runs_with
from hpctf.runs.housekeeping.removal import ASK_AGAIN_S
from tests.support.projects import project

pytestmark = pytest.mark.slow

SOURCE = """
import sys
from hpctf import Run
run = Run.get_context()
run.log("loss", 0.5, 1)
run.tag("stage", "final")
"""
DOCUMENTS = ("run.json", "plan.json", "state/final.json", "state/last.json", "state/cancel.json")
WRONG: tuple[Any, ...] = (None, True, 7, -1, 10**400, 1e300, "x", "\ud800", [], [[]], {}, {"a": {}})
GONE = object()
CONTRACT = {0, 1, 2, 3}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A runs root with two runs that are over, one of them with parameter servers."""
    folder = tmp_path_factory.mktemp("unreadable")
    experiment = Experiment("test", site="local", runs_root=folder / "runs")
    source = project(folder / "proj", text=SOURCE)
    common: dict[str, Any] = {
        "entry_script": "train.py",
        "arguments": ["--lr", "0.1"],
        "environment_variables": {"API_TOKEN": "abcdefghij"},
    }
    ps = ParameterServer(1, 1, coordinator=False)
    several = experiment.submit(TensorFlow(source, distributed_training=ps, **common))
    single = experiment.submit(TensorFlow(source, **common), tags={"a": "b"})
    for run in (several, single):
        run.wait_for_completion()
        (run.folder.state / "cancel.json").write_text('{"time": 1.0, "by": "alice"}')
    return folder / "runs", several.id, single.id


@pytest.fixture
def root(made: tuple[Path, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that root."""
    monkeypatch.setenv("HPCTF_RUNS_ROOT", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(made[0], tmp_path / "runs", symlinks=True)


@pytest.fixture
def bad(made: tuple[Path, str, str], root: Path) -> Path:
    """The folder of the run that is to be damaged."""
    return root / "test" / made[1]


@pytest.fixture
def good(made: tuple[Path, str, str]) -> str:
    """The id of the other run."""
    return made[2]


def hpctf(*words: str) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code, and what it wrote to stdout and stderr.

    An error that is not one of hpctf's own is raised.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main(list(words), standalone_mode=False) or 0
        except HpctfError as error:
            code = error.exit_code
            print(error, file=sys.stderr)
        except click.ClickException as error:
            code = error.exit_code
            error.show()
    return code, out.getvalue(), err.getvalue()


def places(document: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where each value of a document is, at every level."""
    if place:
        yield place
    if isinstance(document, dict):
        for key, inner in document.items():
            yield from places(inner, (*place, key))
    elif isinstance(document, list):
        for number, inner in enumerate(document[:2]):
            yield from places(inner, (*place, number))


def changed(document: Any, place: tuple[Any, ...], value: Any) -> str:
    """Return a document's text with another value at one place, or without it."""
    new = copy.deepcopy(document)
    holder = new
    for part in place[:-1]:
        holder = holder[part]
    if value is GONE:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    return json.dumps(new)


def mutations(document: Any) -> Iterator[tuple[str, str]]:
    """Yield what is changed, and a document's text with that change: each key is left out, and gets
    every fourth wrong value, its neighbour the next ones."""
    for number, place in enumerate(places(document)):
        for value in (GONE, *WRONG[number % 4 :: 4]):
            words = "gone" if value is GONE else repr(value)[:20]
            yield f"{place} {words}", changed(document, place, value)
    for value in WRONG:
        yield f"all {value!r:.20}", json.dumps(value)


def of_one_run(name: str, other: str) -> list[tuple[str, ...]]:
    """Return the commands that read one run and change nothing."""
    return [
        ("status", name),
        ("status", name, "--json"),
        ("why", name),
        ("wait", name, "--json"),
        ("metrics", name),
        ("files", name),
        ("logs", name),
        ("diff", name, other),
        ("diff", other, name, "--json"),
        ("report", name, "--json"),
        ("report", name, "--out", "r.html", "--force"),
        ("export", "csv", name, "--to", "c.csv"),
        ("runs", name),
        ("result", name),
        ("cancel", name),
        ("resubmit", name, "--dry-run"),
    ]


OF_MANY = [
    ("runs", "--json", "--column", "param:lr", "--column", "loss"),
    ("runs", "--sort", "loss"),
    ("runs", "--filter", "tag:stage=final", "--filter", "submitted>5"),
    ("du", "--json"),
    ("du", "--runs"),
    ("metrics", "test"),
    ("report", "test", "--json"),
]


def test_no_value_of_any_key_ends_in_a_traceback(root: Path, bad: Path, good: str) -> None:
    commands = of_one_run(bad.name, good) + OF_MANY
    state = bad / "state/final.json"
    settled = state.read_text()
    for name in DOCUMENTS:
        path = bad / name
        text = path.read_text()
        for what, new in mutations(json.loads(text)):
            count = zlib.crc32(f"{name} {what}".encode(errors="replace"))
            command = commands[count % len(commands)]  # each document meets each of them often
            waits = command[0] in ("wait", "result")  # for a job of a host that is not this one
            if name != "state/final.json" and count // len(commands) % 2 and not waits:
                state.unlink()
            path.write_text(new)
            try:
                code = hpctf(*command)[0]
            except Exception as error:
                raise AssertionError(f"{name}: {what}: {command}: {error!r}") from error
            assert code in CONTRACT
            state.write_text(settled)
        path.write_text(text)


def test_no_value_of_any_line_ends_in_a_traceback(root: Path, bad: Path, good: str) -> None:
    """Of the files that grow: state files, samples and journals. A command for each change, in
    turn, with a run that is settled or not."""
    commands = itertools.cycle([*of_one_run(bad.name, good), *OF_MANY])
    caches = {path: path.read_bytes() for path in (bad / "state").glob("[fl]*t.json")}
    tried = 0
    for path in sorted([*bad.glob("state/*.jsonl"), *bad.glob("metrics/**/*.jsonl")]):
        whole = path.read_bytes()
        records = [json.loads(line) for line in whole.splitlines()]
        for number, record in enumerate(records[:4]):
            for what, changed_line in itertools.islice(mutations(record), tried % 3, None, 3):
                lines = [json.dumps(one) for one in records]
                lines[number] = changed_line
                path.write_text("\n".join([*lines, ""]))
                command = next(commands)
                for cache, content in caches.items():
                    cache.unlink(missing_ok=True)
                    if tried % 2 or command[0] in ("wait", "result"):
                        cache.write_bytes(content)
                code, _, said = hpctf(*command)
                assert code in CONTRACT, (path.name, what, command, said)
                tried += 1
        path.write_bytes(whole)
    assert tried > 200


def put_empty(path: Path) -> None:
    path.write_bytes(b"")


def put_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def put_foreign(path: Path) -> None:
    path.write_text('{"name": "another tool\'s", "version": "2"}')


def put_binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def put_utf16(path: Path) -> None:
    path.write_bytes(path.read_text().encode("utf-16"))


def put_deep(path: Path) -> None:
    path.write_text("[" * 100_000 + "]" * 100_000)


def put_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_link(path: Path) -> None:
    shutil.move(path, path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def put_broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere/at/all")


def put_newer(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": FORMAT + 2}))


PUTS = [value for name, value in list(globals().items()) if name.startswith("put_")]


def listing(*words: str) -> dict[str, dict[str, Any]]:
    code, out, err = hpctf("runs", "--json", *words)
    assert code == 0, err
    return {row["id"]: row for row in json.loads(out)}


@pytest.mark.parametrize("put", PUTS)
@pytest.mark.parametrize("name", ["run.json", "plan.json"])
def test_a_run_that_cannot_be_read_is_shown_with_the_reason_and_the_rest_goes_on(
    root: Path, bad: Path, good: str, name: str, put: Callable[[Path], None]
) -> None:
    (bad / "state/final.json").unlink()
    put(bad / name)
    rows = listing()
    assert rows[good]["state"] == "Completed"
    assert rows[bad.name]["state"] == "Unreadable"
    assert rows[bad.name]["reason"].startswith(f"{name}: ")
    code, out, err = hpctf("runs")
    assert code == 0
    assert good in out
    assert f"{bad.name}: {name}: " in err
    code, out, err = hpctf("status", bad.name)
    assert (code, out) == (3, "")
    assert f"Cannot read run {bad.name}: {name}: " in err
    code, out, err = hpctf("runs", "--rm", "--experiment", "test", "--yes")
    assert code == 0, err
    assert out == f"{good}\n"
    assert f"Run {bad.name} stays: it cannot be read" in err
    assert bad.exists()


@pytest.mark.parametrize("put", PUTS)
@pytest.mark.parametrize("name", ["final.json", "last.json"])
def test_what_a_look_has_kept_is_found_out_anew_where_it_is_broken(
    root: Path, bad: Path, good: str, name: str, put: Callable[[Path], None]
) -> None:
    if put is put_newer:
        return
    (bad / "state/cancel.json").unlink()
    put(bad / "state" / name)
    assert {row["state"] for row in listing("--column", "loss").values()} == {"Completed"}
    assert Run(bad).get_metrics() == Run(bad.parent / good).get_metrics()


def test_a_newer_format_is_said(bad: Path) -> None:
    put_newer(bad / "run.json")
    with pytest.raises(UnreadableRun, match=rf"newer hpctf made it \(format {FORMAT + 2}") as seen:
        Run(bad).get_details()
    assert seen.value.hint == "Update hpctf."


def test_documents_say_their_format_and_are_read_without(bad: Path) -> None:
    for name in ("run.json", "plan.json"):
        document = json.loads((bad / name).read_text())
        assert document.pop("format") == FORMAT
        (bad / name).write_text(json.dumps(document))
    assert Run(bad).status


def long_ago(path: Path) -> None:
    when = time.time() - 2 * ASK_AGAIN_S
    os.utime(path, (when, when))


@pytest.mark.parametrize("evidence", ["state/final.json", "state/job.jsonl"])
@pytest.mark.parametrize("command", [("runs", "--rm"), ("archive",)])
def test_a_named_run_that_cannot_be_read_goes_once_it_is_sure_that_it_is_over(
    bad: Path, good: str, command: tuple[str, ...], evidence: str
) -> None:
    put_truncated(bad / "run.json")
    if evidence != "state/final.json":
        (bad / "state/final.json").unlink()
    code, _, err = hpctf(*command, bad.name, "--yes")
    assert code == 2
    assert f"rm -r {bad}" in err
    long_ago(bad / evidence)
    code, _, err = hpctf(*command, "--experiment", "test", "--yes")
    assert code == 0
    assert bad.exists()
    code, _, err = hpctf(*command, bad.name, "--yes")
    assert code == 0, err
    assert not bad.exists()


def test_a_run_that_cannot_be_read_may_use_an_environment(root: Path, bad: Path) -> None:
    assert active_runs_with(root, Path("/store/abc")) == []
    (bad / "state/final.json").unlink()
    put_truncated(bad / "plan.json")
    (user,) = active_runs_with(root, Path("/store/abc"))
    assert user.startswith(bad.name)


def test_programs_are_warned_of_a_run_that_cannot_be_read(root: Path, bad: Path, good: str) -> None:
    put_empty(bad / "run.json")
    (bad / "state/final.json").unlink()
    experiment = Experiment("test", site="local", runs_root=root)
    with pytest.warns(RuntimeWarning, match=f"Cannot read run {bad.name}: run.json: it is empty"):
        assert [run.id for run in experiment.get_runs()] == [good]
    assert "Unreadable" in experiment_card(experiment.name, experiment.runs_root)
