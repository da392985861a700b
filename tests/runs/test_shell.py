"""A shell in a rank's place, on this machine: its environment, its folder, how it ends, and when
there is none."""

from __future__ import annotations

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpctf import Experiment, Run, TensorFlow
from tests.support.projects import hpctf, project
from tests.support.waiting import HANGS_S, wait_until

WAITS = """
import json, os, time
name = os.environ["HPCTF_ROLE"] + "-" + os.environ["HPCTF_INDEX"]
with open("outputs/part-" + name, "w") as stream:
    json.dump(dict(os.environ), stream)
os.rename("outputs/part-" + name, f"outputs/{name}.json")
time.sleep(600)
"""


class Going:
    """A run of two ranks that goes on, on this machine."""

    def __init__(self, folder: Path) -> None:
        self.root, source = folder / "runs", project(folder / "proj", text=WAITS)
        experiment = Experiment("test", site="local", runs_root=self.root)
        self.run = experiment.submit(
            TensorFlow(
                source,
                entry_script="train.py",
                distributed_backend="collective",
                worker_count=2,
                environment_variables={"MY_TOKEN": "s3cret words"},
            )
        )
        names = [self.run.folder.outputs / f"worker-{index}.json" for index in (0, 1)]
        wait_until(lambda: all(name.exists() for name in names))
        self.env = {"HPCTF_RUNS_ROOT": str(self.root), "HPCTF_SITE": "local"}

    def shell(self, *words: str) -> subprocess.CompletedProcess[str]:
        return hpctf("shell", *words, cwd=self.root, env=self.env)


@pytest.fixture(scope="module")
def going(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Going]:
    made = Going(tmp_path_factory.mktemp("shell"))
    yield made
    made.run.cancel()
    made.run.wait_for_completion(raise_on_error=False)


PRINT = "import json, os; print(json.dumps([os.getcwd(), dict(os.environ)]))"


def test_a_command_has_the_environment_and_the_folder_of_its_rank(going: Going) -> None:
    words = [going.run.id, "--role", "worker", "--index", "1", "--", sys.executable, "-c", PRINT]
    done = going.shell(*words)
    assert done.returncode == 0, done.stderr
    folder, found = json.loads(done.stdout)
    assert folder == str(going.run.folder.snapshot)
    ranks = json.loads((going.run.folder.outputs / "worker-1.json").read_text())
    assert found["MY_TOKEN"] == "s3cret words"
    assert found["TF_CONFIG"] == ranks["TF_CONFIG"]
    same = {name for name in ranks if name.startswith("HPCTF_")} - {"HPCTF_PREFLIGHT"}
    assert {name: found[name] for name in same} == {name: ranks[name] for name in same}
    assert found["PATH"] == ranks["PATH"] and found["HPCTF_INDEX"] == "1"
    assert found["HPCTF_SKIP_PREFLIGHT"] == "1" and "HPCTF_PREFLIGHT" not in found


def test_a_shell_reads_commands_from_a_pipe_and_gives_their_exit_code(going: Going) -> None:
    command = [sys.executable, "-c", "from hpctf.cli import main; main()", "shell", going.run.id]
    env = {**os.environ, **going.env, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, input="echo $HPCTF_RANK; pwd; exit 7", env=env, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (7, f"0\n{going.run.folder.snapshot}\n")
    missing = going.shell(going.run.id, "--", "no-such-program")
    assert missing.returncode == 127 and "cannot run no-such-program" in missing.stderr
    killed = going.shell(going.run.id, "--", "/bin/sh", "-c", "kill -9 $$")
    assert killed.returncode == 128 + signal.SIGKILL


def test_a_shell_on_a_terminal_says_where_it_is(going: Going) -> None:
    said = b""
    pid, terminal = pty.fork()
    if not pid:
        os.environ.update(going.env, TERM="dumb", PYTHONPATH=str(Path(__file__).parents[2]))
        code = "from hpctf.cli import main; main()"
        os.execv(sys.executable, [sys.executable, "-c", code, "shell", going.run.id])
    os.write(terminal, b"tty && exit 5\n")
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        if not part:
            break
        said += part
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert f"worker-0 of run {going.run.id} on {os.uname().nodename}".encode() in said
    assert b"(worker-0) " in said and b"/dev/pts/" in said


def test_where_there_is_no_shell_is_said(going: Going, tmp_path: Path) -> None:
    nobody = going.shell(going.run.id, "--index", "2", "--", "true")
    assert nobody.returncode == 2 and "has no rank worker-2: it has worker-0" in nobody.stderr

    over = Experiment("over", site="local", runs_root=going.root).submit(
        TensorFlow(project(tmp_path / "proj"), entry_script="train.py")
    )
    over.wait_for_completion()
    ended = going.shell(over.id, "--", "true")
    assert ended.returncode == 2 and "it is over (Completed)" in ended.stderr
    (over.folder.path / "seal").unlink()
    foreign = going.shell(over.id, "--", "true")
    assert foreign.returncode == 2 and "it was not submitted by you" in foreign.stderr


def test_leaving_an_interactive_run_ends_it(tmp_path: Path) -> None:
    source = project(tmp_path / "proj", text="raise SystemExit('not to be run')")
    words = [
        "submit",
        "--interactive",
        "--site",
        "local",
        str(source / "train.py"),
        "--",
        "-x",
        "1",
    ]
    env = {**os.environ, "HPCTF_RUNS_ROOT": str(tmp_path / "runs")}
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", "from hpctf.cli import main; main()", *words],
        input="echo $HPCTF_RANK; ls; exit 3",
        env=env,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
    )
    assert done.returncode == 3, done.stderr
    assert done.stdout.split() == ["0", "outputs", "train.py"]
    assert shlex.join(["train.py", "-x", "1"]) in done.stderr
    run = Run(next((tmp_path / "runs").glob("train/*")))
    assert run.wait_for_completion(raise_on_error=False).state == "Canceled"
    assert run.plan["time_limit_s"] == 3600
