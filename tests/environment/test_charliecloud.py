"""Charliecloud for real: an image of Debian's packages, as a folder and as a SquashFS file.

This runs where ch-run can overlay an image (0.38): in the Debian 13 of `make test-debian13`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.support.waiting import wait_until

IMAGES = Path("/var/cache/hpctf/images")

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        not shutil.which("ch-convert"),
        reason="Charliecloud is not installed; make test-debian13 runs this",
    ),
]

_DEPENDS = (
    "apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts "
    "--no-breaks --no-replaces --no-enhances python3-mpi4py python3 dash coreutils libc-bin"
)
_UNUSED = ("libllvm", "libz3-4", "libamd-comgr", "libamdhip64", "libhsa-", "perl", "debconf")
"""What MPI's libraries name, and load where there are such GPUs."""


def make_image(folder: Path) -> None:
    """Make a folder with Python, Open MPI and mpi4py, file by file of Debian's packages."""
    said = subprocess.run(_DEPENDS.split(), capture_output=True, text=True, check=True).stdout
    packages = {line for line in said.splitlines() if line[:1].isalnum()}
    packages = {name for name in packages if not name.startswith(_UNUSED)}
    listed = subprocess.run(["dpkg", "-L", *packages], capture_output=True, text=True, check=False)
    documents = ("/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/info")
    names = [name for name in listed.stdout.splitlines() if not name.startswith(documents)]
    names = sorted(
        {os.path.join(os.path.realpath(os.path.dirname(n)), os.path.basename(n)) for n in names}
    )
    folder.mkdir(parents=True)
    subprocess.run(
        f"tar -C / --no-recursion --ignore-failed-read -cf - -T - | tar -C {folder} -xf -",
        shell=True,
        input="\n".join(name for name in names if os.path.lexists(name)),
        text=True,
        check=True,
        capture_output=True,
    )
    for name in ("bin", "lib", "lib64", "sbin"):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        if not path.is_symlink():
            path.symlink_to(f"usr/{name}")
    for name in ("dev", "proc", "sys", "tmp", "etc", "root", "var/tmp", "home", "ch", "mnt"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in ("passwd", "group", "hosts", "resolv.conf"):
        (folder / "etc" / name).touch()
    (folder / "ch/environment").write_text(
        "PATH=/usr/local/bin:/usr/bin:/bin\nOF_IMAGE='yes, $HOME'\nMINE=of the image\n1BAD=x\nno\n"
        "TF_CONFIG=of the image\n"
    )


@pytest.fixture(scope="session")
def images() -> Path:
    """A folder with the image ``folder``, ``image.sqfs`` and ``image.tar.gz``, kept."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (IMAGES / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (IMAGES / "image.sqfs").exists():
            shutil.rmtree(IMAGES / "folder", ignore_errors=True)
            make_image(IMAGES / "folder")
            convert = ["ch-convert", IMAGES / "folder", IMAGES / "image.sqfs"]
            subprocess.run(convert, check=True, capture_output=True)
    return IMAGES


@pytest.fixture
def user(person: Person) -> Person:
    """Somebody at a site with Charliecloud."""
    site = {"name": "charlie", "containers": {"runtime": "charliecloud"}}
    person.env["HPCTF_SITE"] = str(person.write("site.yaml", json.dumps(site)))
    return person


KINDS = pytest.mark.parametrize("kind", ["folder", "image.sqfs"])

TELL = """
import json, os, sys
from hpctf import Run
run = Run.get_context()
try:
    open("/usr/bin/new", "w")
except PermissionError:
    pass  # its owner is somebody else
with open("outputs/told.json", "w") as stream:
    json.dump({"env": dict(os.environ), "cwd": os.getcwd(), "argv": sys.argv, "id": run.id,
               "outputs": str(run.outputs), "executable": sys.executable,
               "data": open(os.environ["HPCTF_INPUT_DATA"]).read(),
               "scratch": os.path.exists(os.environ["TMPDIR"] + "/mine")}, stream)
"""

NASTY = "$(id)`id`\\\\ 'one' \"two\" a,b;c\nnext line\t% ü"


@KINDS
def test_the_image_sees_the_run_its_inputs_and_every_variable(
    user: Person, images: Path, kind: str
) -> None:
    user.write("train.py", TELL)
    user.write("data/one.csv", "1,2\n")
    user.write("scratch/mine", "")
    words = ["--container", images / kind, "--env", f"MINE={NASTY}"]
    words += ["--input", f"data={user.home}/data/one.csv"]
    words += ["--env", f"TMPDIR={user.home}/scratch", "train.py", "--", NASTY]
    user.hpctf("submit", "--wait", *words, LD_LIBRARY_PATH="/of/the/host")
    told = json.loads(user.output("told.json"))
    status = user.status()
    folder = status["run_folder"]
    assert (told["cwd"], told["outputs"]) == (f"{folder}/snapshot", f"{folder}/outputs")
    assert (told["id"], told["argv"]) == (status["id"], ["train.py", NASTY])
    assert (told["executable"], told["data"]) == ("/usr/bin/python3", "1,2\n")
    assert told["scratch"]
    env = told["env"]
    assert env["OF_IMAGE"] == "yes, $HOME"
    assert env["PATH"] == "/usr/local/bin:/usr/bin:/bin"
    assert env["MINE"] == NASTY  # over the image's own
    assert "CH_RUNNING" in env
    assert "LD_LIBRARY_PATH" not in env
    assert not (images / "folder/usr/bin/new").exists()


MPI = """
import os
from mpi4py import MPI
from hpctf import Run
run = Run.get_context()
world = MPI.COMM_WORLD
big = world.allreduce(bytearray(2_000_000), op=lambda a, b: a + b)
total = world.allreduce(run.rank + 1)
with open(f"outputs/{run.rank}.txt", "w") as stream:
    print(os.environ["OF_IMAGE"], total, world.Get_size(), len(big), file=stream)
"""


@pytest.mark.parametrize("nodes", ["1", "2"])
def test_mpi_ranks_meet_inside_of_an_image(user: Person, images: Path, nodes: str) -> None:
    """On two nodes, and on one through its shared memory, from two containers."""
    user.write("train.py", MPI)
    words = ["--backend", "mpi", "--nodes", nodes, "--procs-per-node", str(2 // int(nodes))]
    user.hpctf("submit", "--wait", *words, "--container", images / "image.sqfs", "train.py")
    said = [user.output(f"{rank}.txt") for rank in (0, 1)]
    assert said == ["yes, $HOME 3 2 4000000\n"] * 2


STOPPED = """
import signal, subprocess, time
told = []
signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
helper = subprocess.Popen(["sleep", "600"])
open("outputs/ready", "w").close()
while not told:
    time.sleep(0.1)
time.sleep(1)  # as a checkpoint takes
import colorsys  # from the image
print(*told, file=open("outputs/told.txt", "w"))
"""


@KINDS
def test_a_cancelled_training_has_its_grace_and_its_image(
    user: Person, images: Path, kind: str
) -> None:
    user.write("train.py", STOPPED)
    run = user.hpctf("submit", "--container", images / kind, "train.py").stdout.strip()
    outputs = Path(user.status(run)["run_folder"]) / "outputs"
    wait_until((outputs / "ready").exists)
    user.hpctf("cancel", run)
    user.hpctf("wait", run, check=False)
    assert (outputs / "told.txt").read_text() == "15\n"
    assert user.status(run)["state"] == "Canceled"


@KINDS
def test_a_failure_inside_is_the_runs(user: Person, images: Path, kind: str) -> None:
    user.write("train.py", "raise SystemExit(7)")
    done = user.hpctf("submit", "--wait", "--container", images / kind, "train.py", check=False)
    assert done.returncode == 1
    assert user.status()["exit_code"] == 7


def test_without_user_namespaces_the_reason_is_said(user: Person, images: Path) -> None:
    """The prologue of a site takes them away from the job alone, in a namespace of its own."""
    user.write("train.py", "")
    ch_run = user.write(
        "bin/ch-run",
        "#!/bin/sh\nexec unshare -Ur sh -c 'echo 0 >/proc/sys/user/max_user_namespaces;"
        ' exec /usr/bin/ch-run "$@"\' sh "$@"\n',
    )
    ch_run.chmod(0o755)
    path = f"{ch_run.parent}:/usr/local/bin:/usr/bin:/bin"
    words = ["submit", "--wait", "--container", images / "folder", "train.py"]
    assert user.hpctf(*words, check=False, PATH=path).returncode == 1
    why = user.hpctf("why", "@last").stdout
    assert "Charliecloud cannot make user namespaces on the node: No space left on device" in why
    assert "user.max_user_namespaces" in why


def test_what_charliecloud_does_not_run_is_converted_as_the_refusal_says(
    user: Person, images: Path
) -> None:
    user.write("train.py", "print('trained')")
    subprocess.run(
        ["tar", "-czf", user.home / "mine.tar.gz", "-C", images / "folder", "etc"], check=True
    )
    words = ["submit", "--wait", "--container", "mine.tar.gz", "train.py"]
    done = user.hpctf(*words, check=False)
    assert done.returncode == 2
    assert f"Convert it: ch-convert {user.home}/mine.tar.gz mine.sqfs; then" in done.stderr
    user.cluster.run("ch-convert", "mine.tar.gz", "mine.sqfs", user=user.user, cwd=user.home)
    assert user.hpctf("submit", "--dry-run", "--container", "mine.sqfs", "train.py").returncode == 0
