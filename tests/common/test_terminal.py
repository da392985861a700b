"""Nothing that a training wrote acts on the terminal of who looks at it, or ends the command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, Run, TensorFlow
from hpctf.cli import COMMANDS
from hpctf.common.terminal import log_line, visible
from tests.support.projects import project
from tests.support.waiting import HANGS_S

pytestmark = pytest.mark.slow

HOSTILE = "x\x1b]0;EVIL\x07\x1b[2J\x9b2J\x7f\u202egnp\u2066\x00\r\x08 caf\xe9 \u2192 \udce9\ud800"
"""A title, two ways to clear the screen, a bell, texts turned around, bytes and halves of
characters; and what is no ASCII."""

SOURCE = f"""
import os, sys
from hpctf import Run
hostile = {HOSTILE!r}
run = Run.get_context()
for step in range(3):
    run.log(hostile, float(step), step)
run.log("words" + hostile, hostile)
run.log_list("list", [hostile])
run.log_table("table", {{hostile: [hostile]}})
run.tag(hostile, hostile)
run.tag("plain", hostile)
run.add_properties({{hostile: hostile}})
name = hostile.replace("\\0", "").replace("\\ud800", "")
open(b"outputs/" + os.fsencode(name), "wb").write(os.fsencode(name))
child = run.child_run(name=hostile)
child.log(hostile, 1.0)
child.complete()
os.write(1, (hostile + "\\n").encode("utf-8", "surrogatepass") * 3 + b"\\xff\\xfe\\n")
raise RuntimeError(hostile.encode("utf-8", "backslashreplace").decode())
"""

LOOKS = [
    "runs",
    "runs --json",
    "status RUN",
    "status RUN --json",
    "why RUN",
    "why RUN --json",
    "wait RUN",
    "watch RUN",
    "result RUN",
    "shell RUN",
    "logs RUN",
    "logs RUN --role job",
    "files RUN",
    "files RUN --json",
    "metrics RUN",
    "metrics RUN --recursive",
    "metrics RUN --plot",
    "metrics RUN --json",
    "metrics RUN --csv",
    "diff RUN OTHER",
    "diff RUN OTHER --json",
    "tag RUN EVIL=EVIL",
    "runs --column EVIL --column tag:plain",
    "why EVIL",
    "du",
    "download RUN --to DIR/files",
    "report RUN --to DIR/report.html",
    "report RUN OTHER --compare --to DIR/both.html",
    "export csv RUN",
    "export csv RUN --runs",
    "export csv RUN --to DIR/values.csv",
    "cancel RUN",
    "models register m outputs --run RUN --tag EVIL=EVIL --description EVIL",
    "models list",
    "models list --json",
    "models show m",
    "models show m --json",
    "models export m",
    "services list",
    "services list --json",
    "score m EVIL --out DIR/scores",
    "tune status RUN",
    "env list",
    "config",
    "config --json",
    "site show local",
    "submit --dry-run --site local --tag T=EVIL --source-dir DIR no-such-EVIL.py",
    "docs EVIL",
    "docs --search EVIL",
]
NOT_HERE = {"archive", "completion", "doctor", "init", "migrate", "resubmit", "tensorboard"}
"""Commands that say nothing of a run's own words, start something or take the run away."""

PAINTED = ["doctor --site local"]
"""Commands that paint on a terminal, and say nothing of a run's own words."""
COLOR = re.compile(rb"\x1b\[(?:[0-9]*;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")

EXIT = {
    **dict.fromkeys(
        ("why EVIL", "shell", "models export m", "submit", "tune", "score", "docs"), b"2"
    ),
    **dict.fromkeys(("wait", "watch", "result"), b"1"),
}

DATA = ("logs", "files RUN", "download", "metrics RUN --csv", "export csv RUN")
"""What a file or a pipe gets as it is."""

RUNNER = """
import os, sys
from hpctf import cli
for number, words in enumerate(WORDS):
    child = os.fork()
    if not child:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{FOLDER}/{number}.{name}", os.O_WRONLY | os.O_CREAT, 0o600), stream)
        if TTY:
            import pty
            main, side = pty.openpty()
            if os.fork():
                os.close(side)
                try:
                    while part := os.read(main, 65536):
                        os.write(1, part)
                except OSError:
                    os._exit(0)
            os.dup2(side, 1); os.dup2(side, 2); os.close(side); os.close(main)
        given = [word.encode("utf-8", "surrogateescape") for word in words]
        sys.argv = ["hpctf", *map(os.fsdecode, given)]
        try:
            cli.main()
        except SystemExit as ending:
            code = ending.code
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    open(f"{FOLDER}/{number}.code", "w").write(str(os.waitstatus_to_exitcode(status)))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two runs of a hostile script, which fail."""
    folder = tmp_path_factory.mktemp("hostile")
    experiment = Experiment("test", site="local", runs_root=folder / "runs")
    source = project(folder / "proj", text=SOURCE)
    made = [experiment.submit(TensorFlow(source, entry_script="train.py")) for _ in range(2)]
    for run in made:
        run.wait_for_completion(raise_on_error=False)
    return made


def looks(
    runs: list[Run], folder: Path, tty: bool, which: Sequence[str] = LOOKS, **variables: str
) -> dict[str, Any]:
    """Run every command once, and return what each has written."""
    folder.mkdir(exist_ok=True)
    places = {"RUN": runs[0].id, "OTHER": runs[1].id, "DIR": str(folder), "EVIL": HOSTILE}

    def filled(word: str) -> str:
        for name, value in places.items():
            word = word.replace(name, value.replace("\0", "").replace("\ud800", ""))
        return word

    words = [[filled(word) for word in look.split()] for look in which]
    head = f"FOLDER, TTY = {str(folder)!r}, {tty}\nWORDS = {words!a}\n"
    env = {**os.environ, "HPCTF_RUNS_ROOT": str(runs[0].folder.root), "HPCTF_SITE": "local"}
    env |= {"TERM": "xterm", "COLUMNS": "100", **variables}
    done = subprocess.run(
        [sys.executable, "-c", head + RUNNER],
        env=env,
        cwd=folder,
        capture_output=True,
        timeout=HANGS_S,
    )
    assert done.returncode == 0, done.stderr
    return {
        look: tuple((folder / f"{number}.{name}").read_bytes() for name in ("out", "err", "code"))
        for number, look in enumerate(which)
    }


def check_harmless(look: str, content: bytes, encoding: str, ours: str = "") -> None:
    """Refuse what acts on a terminal; `ours` are the sequences that hpctf writes itself."""
    text = re.sub(ours, "", content.decode(encoding)) if ours else content.decode(encoding)
    found = re.findall("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert not found, (look, found, text)


def test_every_command_that_shows_runs_is_looked_at() -> None:
    assert {look.split()[0] for look in LOOKS} | NOT_HERE == set(COMMANDS)


@pytest.mark.parametrize(
    ("encoding", "variables"),
    [
        ("utf-8", {"LC_ALL": "C.UTF-8"}),
        ("ascii", {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        ("latin-1", {"PYTHONIOENCODING": "latin-1"}),
    ],
)
def test_in_a_pipe_every_command_writes_harmless_text(
    runs: list[Run], tmp_path: Path, encoding: str, variables: dict[str, str]
) -> None:
    for look, (out, err, code) in looks(runs, tmp_path / "a", False, **variables).items():
        assert code == EXIT.get(look, EXIT.get(look.split()[0], b"0")), (look, code, err)
        check_harmless(look, err, encoding)
        if "--json" in look:
            json.loads(out.decode("ascii"))
        if not look.startswith(DATA):
            check_harmless(look, out, encoding)
    for made in ("report.html", "both.html", "values.csv"):
        text = (tmp_path / "a" / made).read_bytes().decode("utf-8")
        assert "\x1b" not in text or made.endswith(".csv")
    assert (tmp_path / "a" / "report.html").read_text("utf-8").count("\\x1b]0;EVIL") >= 2


def test_a_notebooks_card_is_utf_8(runs: list[Run]) -> None:
    card = runs[0]._repr_html_()
    assert "\\x1b]0;EVIL" in card
    check_harmless("card", card.encode("utf-8"), "utf-8")


@pytest.fixture(scope="module")
def on_a_terminal(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every command writes on a terminal."""
    which = [*LOOKS, *PAINTED]
    return looks(runs, tmp_path_factory.mktemp("terminal"), True, which, LC_ALL="C.UTF-8")


def test_on_a_terminal_only_hpctf_moves_and_paints(on_a_terminal: dict[str, Any]) -> None:
    ours = r"\x1b\[[0-9;]*m|\r(?=\n)|\x1b\[\?(?:25|1049)[lh]|\x1b\[[0-9]*[KJA]|\x1b\[[0-9;]+H|\r"
    for look, (out, _, _) in on_a_terminal.items():
        assert out or look.startswith(("cancel", "env")), look
        check_harmless(look, out, "utf-8", ours)
        assert b"\x1b]" not in out


def test_what_has_colors_has_none_with_no_color(
    runs: list[Run], on_a_terminal: dict[str, Any], tmp_path: Path
) -> None:
    painted = [look for look, (out, _, _) in on_a_terminal.items() if COLOR.search(out)]
    assert {*PAINTED, "metrics RUN --plot", "wait RUN"} <= {*painted}

    for look, (out, _, _) in looks(runs, tmp_path, True, painted, NO_COLOR="1").items():
        assert out and not COLOR.search(out), look


def test_a_log_goes_into_a_file_as_it_is(runs: list[Run], tmp_path: Path) -> None:
    out = looks(runs, tmp_path / "a", False)["logs RUN"][0]
    assert out == (runs[0].folder.logs / "worker-0.log").read_bytes()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("1/3 [>..]\r2/3 [=>.]\r3/3 [==>]\r", "3/3 [==>]"),
        ("\x1b[1m1/2\x1b[0m \x1b[32m━━\x1b[0m\x1b[37m\x1b[0m", "1/2 ━━"),
        ("\x08\x08\x08 10/10", " 10/10"),
        ("plain\ttext é", "plain\ttext é"),
        ("\x1b[2J\x1b]0;x\x07", "\\x1b[2J\\x1b]0;x"),
    ],
)
def test_a_progress_bar_is_shown_as_it_ended(line: str, shown: str) -> None:
    assert log_line(line) == shown


def test_what_is_visible_stays() -> None:
    text = "naïve 日本語 👩‍🔬 5\u202f% ½ → \n\t"
    assert visible(text) == text
