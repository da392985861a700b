"""How a training enters its environment: another Python, modules, containers; on this machine.

Containers run under a stand-in for Apptainer (tests/support/standins), which no index here has.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, ParameterServer, Run, TensorFlow, TrainingFailed
from hpctf.common.files import read_records
from hpctf.common.paths import CLIENT, STARTUP
from hpctf.site.loading import load_site
from hpctf.site.model import ContainerSettings, Site
from tests.conftest import PYENV, ROOT, need_environment_modules, skip_or_fail
from tests.runs.status.test_local_runs import said
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

OWN_VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
STANDINS = ROOT / "tests/support/standins"

TELL = """
import json, os, sys
from hpctf import Run
run = Run.get_context()
with open(f"outputs/{run.role}-{run.index}.json", "w") as stream:
    json.dump({"version": list(sys.version_info[:2]), "executable": sys.executable,
               "prefix": sys.prefix, "argv": sys.argv, "id": run.id, "cwd": os.getcwd(),
               "outputs": str(run.outputs), "env": dict(os.environ)}, stream)
"""

NASTY = "$(touch /tmp/pwned)`id`\\n\\\\ 'one' \"two\" a,b;c\nnext line\t% \u00fc"


@pytest.fixture
def site() -> Site:
    return load_site("local")


def project(folder: Path, script: str) -> Path:
    """Return a source folder with ``train.py``."""
    made = folder / "proj"
    made.mkdir(exist_ok=True)
    (made / "train.py").write_text(script)
    return made


def submit(tmp_path: Path, site: Site, script: str = TELL, **asked: Any) -> Run:
    """Submit a training, wait for it, and return its run."""
    estimator = TensorFlow(project(tmp_path, script), entry_script="train.py", **asked)
    run = Experiment("test", site=site, runs_root=tmp_path / "runs").submit(estimator)
    run.wait_for_completion()
    return run


def other_python() -> str:
    """Return a Python of another version than hpctf's own: another CPython, or Debian's PyPy."""
    folders = ["/usr/bin", "/usr/local/bin", *map(str, PYENV.glob("3.*/bin"))]
    names = [f"python3.{minor}" for minor in (8, 9, 13, 12, 10, 11) if sys.version_info[1] != minor]
    for name in (*names, "pypy3"):
        found = shutil.which(name, path=os.pathsep.join(folders))
        if found:
            return found
    skip_or_fail("there is no second version of Python here (tools/debian-packages)")
    raise AssertionError("unreachable")


def test_the_training_may_have_another_python_than_hpctf(tmp_path: Path, site: Site) -> None:
    """A real virtual environment, without hpctf in it: the script imports its client all the
    same, and nothing else of hpctf's own environment."""
    base = other_python()
    assert os.spawnv(os.P_WAIT, base, [base, "-m", "venv", "--without-pip", f"{tmp_path}/env"]) == 0
    script = TELL + "\nimport importlib.util\nassert importlib.util.find_spec('submitit') is None\n"
    told = said(submit(tmp_path, site, script, python=tmp_path / "env/bin/python"))["worker-0"]
    assert told["version"] != list(sys.version_info[:2])
    assert told["prefix"] == told["env"]["VIRTUAL_ENV"] == f"{tmp_path}/env"
    assert told["env"]["PATH"].startswith(f"{tmp_path}/env/bin:")
    assert told["id"].startswith("test_")


def test_a_functions_bytecode_meets_no_other_python(tmp_path: Path, site: Site) -> None:
    base = other_python()
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "python3").symlink_to(base)
    estimator = TensorFlow(
        function=print,
        python="python3",
        user_managed=True,
        modules=["any"],
        environment_variables={"PATH": str(folder)},
    )
    from hpctf.planning.planner import make_plan

    plan = make_plan(
        estimator, site, run_id="e_1_a", experiment="e", run_folder=str(tmp_path / "e")
    ).plan
    assert plan.entry.command[0] == "python3"  # what it is, the node's PATH says
    done = os.popen(f"{base} {' '.join(plan.entry.command[1:])} 2>&1; echo $?").read()
    assert f"the function is of Python {OWN_VERSION}, but the training runs with Python" in done
    assert done.endswith("\n1\n")


def test_a_persons_own_pythonpath_comes_before_the_client(tmp_path: Path, site: Site) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/helper.py").write_text("")
    variables = {"PYTHONPATH": str(tmp_path / "mine")}
    script = f"import helper\n{TELL}"
    run = submit(tmp_path, site, script, environment_variables=variables, python="/usr/bin/python3")
    assert said(run)["worker-0"]["env"]["PYTHONPATH"] == f"{STARTUP}:{tmp_path}/mine:{CLIENT}"


def test_user_managed_takes_the_python_on_path(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").symlink_to("/usr/bin/python3")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    run = submit(tmp_path, site, user_managed=True)
    assert said(run)["worker-0"]["executable"] == f"{tmp_path}/bin/python3"


def test_the_scripts_of_a_conda_environment_are_run(tmp_path: Path, site: Site) -> None:
    """No conda here: a folder laid out as one of its environments is."""
    env = tmp_path / "env"
    (env / "conda-meta").mkdir(parents=True)
    (env / "etc/conda/activate.d").mkdir(parents=True)
    (env / "etc/conda/activate.d/cuda.sh").write_text('export XLA_FLAGS="--dir=$CONDA_PREFIX"\n')
    (env / "etc/conda/env_vars.d").mkdir()
    (env / "etc/conda/env_vars.d/a.json").write_text('{"A": "package", "B": "package", "C": "x"}')
    (env / "etc/conda/env_vars.d/b.json").write_text("[damaged")
    owners = {"A": "owner", "B": "owner", "C": "***unset***", "D": 4}
    (env / "conda-meta/state").write_text(json.dumps({"version": 1, "env_vars": owners}))
    (env / "bin").mkdir()
    (env / "bin/python").symlink_to("/usr/bin/python3")
    asked = {"arguments": ["a b", "$x"], "environment_variables": {"B": "person"}}
    told = said(submit(tmp_path, site, python=env / "bin/python", **asked))
    got = told["worker-0"]["env"]
    assert [got.get(name) for name in "ABCD"] == ["owner", "person", None, "4"]
    assert told["worker-0"]["env"]["XLA_FLAGS"] == f"--dir={env}"
    assert told["worker-0"]["env"]["CONDA_PREFIX"] == str(env)
    assert told["worker-0"]["argv"] == ["train.py", "a b", "$x"]


# --- environment modules ---------------------------------------------------------------------


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Real Environment Modules, with a module of ours; as on a cluster, no shell has loaded it."""
    need_environment_modules()
    for name in [*os.environ]:
        if name.startswith(("MODULE", "LOADEDMODULES", "_LMFILES_", "LMOD", "BASH_FUNC_m")):
            monkeypatch.delenv(name)
    folder = tmp_path / "modulefiles"
    (folder / "tensorflow").mkdir(parents=True)
    (tmp_path / "tf/bin").mkdir(parents=True)
    (tmp_path / "tf/bin/python3").symlink_to("/usr/bin/python3")
    (tmp_path / "tf/python").mkdir()
    (tmp_path / "tf/python/of_the_module.py").write_text("")
    (folder / "tensorflow/2.15").write_text(
        "#%Module1.0\n"
        f"prepend-path PATH {tmp_path}/tf/bin\n"
        f"prepend-path PYTHONPATH {tmp_path}/tf/python\n"
        f"prepend-path LD_LIBRARY_PATH {tmp_path}/tf/lib\n"
        "setenv TF_ROOT {a b}\n"
    )
    (folder / "broken").write_text(
        '#%Module1.0\nputs stderr "no \\"licence\\" \\\\ here"\nexit 1\n'
    )
    (folder / "ruins").write_text("#%Module1.0\nsetenv PYTHONHOME /nowhere\n")
    monkeypatch.setenv("MODULEPATH", str(folder))
    monkeypatch.delenv("PYTHONPATH", raising=False)  # a module puts its own before it
    return folder


def test_a_modules_python_trains_with_what_the_module_sets(
    tmp_path: Path, site: Site, modules: Path
) -> None:
    run = submit(tmp_path, site, f"import of_the_module\n{TELL}", modules=["tensorflow/2.15"])
    told = said(run)["worker-0"]
    assert told["executable"] == f"{tmp_path}/tf/bin/python3"
    assert told["env"]["TF_ROOT"] == "a b"
    assert told["env"]["LD_LIBRARY_PATH"].split(":")[0] == f"{tmp_path}/tf/lib"
    assert "HPCTF_LD_LIBRARY_PATH" not in told["env"]
    assert told["env"]["PYTHONPATH"] == f"{STARTUP}:{tmp_path}/tf/python:{CLIENT}"


def test_what_ruins_a_python_does_not_ruin_hpctfs_own(
    tmp_path: Path, site: Site, modules: Path
) -> None:
    script = project(tmp_path, "").joinpath("train.sh")
    script.write_text("#!/bin/sh\necho $PYTHONHOME >outputs/home.txt\n")
    script.chmod(0o755)
    estimator = TensorFlow(tmp_path / "proj", entry_script="train.sh")
    loads = replace(site, modules=("ruins",))
    run = Experiment("test", site=loads, runs_root=tmp_path / "runs").submit(estimator)
    run.wait_for_completion()
    assert (run.folder.outputs / "home.txt").read_text() == "/nowhere\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [("nowhere/1", "Unable to locate a modulefile"), ("broken", "module load broken failed")],
)
def test_a_module_that_cannot_be_loaded_fails_the_run_and_is_named(
    tmp_path: Path, site: Site, modules: Path, name: str, words: str
) -> None:
    with pytest.raises(TrainingFailed) as caught:
        submit(tmp_path, site, modules=[name])
    assert f"module load {name} failed on node {os.uname().nodename}" in str(caught.value)
    assert words in str(caught.value)


def test_no_module_command_is_told_in_one_line(
    tmp_path: Path, site: Site, modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hpctf.planning.planner import make_plan
    from hpctf.submission.script import render_local

    folder = str(tmp_path / "run")
    Path(folder, "state").mkdir(parents=True)
    estimator = TensorFlow(project(tmp_path, TELL), entry_script="train.py", modules=["x/1"])
    plan = make_plan(estimator, site, run_id="e_1_a", experiment="e", run_folder=folder).plan
    script = render_local(plan).replace("/usr/share/", "/nowhere/").replace("/etc/p", "/nowhere/p")
    (tmp_path / "job.sh").write_text(script)
    done = os.popen(f"bash {tmp_path}/job.sh echo never 2>&1").read()
    assert done == (
        "hpctf: modules are to be loaded (x/1), but there is no module command on node "
        f"{os.uname().nodename}\n"
    )
    record = json.loads((tmp_path / "run/state/job.jsonl").read_text())
    assert (record["event"], record["exit_code"]) == ("ended", 127)


# --- containers ------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image for the stand-in, which sets variables of its own; its Python is the system's."""
    if shutil.which("bwrap") is None:
        skip_or_fail("bubblewrap is not installed (tools/debian-packages)")
    monkeypatch.setenv("PATH", f"{STANDINS}:{os.environ['PATH']}")
    path = tmp_path / "image.sif"
    path.write_text("TF_CONFIG=of the image\nMINE=of the image\nTF_CPP_MIN_LOG_LEVEL=3\n")
    return path


@pytest.fixture
def unshared() -> Iterator[Path]:
    """A folder that no container sees by itself, unlike /tmp."""
    folder = Path("/var/tmp" if os.geteuid() else "/var/cache/hpctf") / f"test-{os.getpid()}"
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("options", [(), ("--cleanenv",)], ids=["", "cleanenv"])
def test_a_container_sees_the_run_its_inputs_and_every_variable(
    unshared: Path, site: Site, image: Path, options: tuple[str, ...]
) -> None:
    (unshared / "data.csv").write_text("1,2\n")
    within = replace(site, containers=ContainerSettings(options=options))
    script = TELL + "\nopen(os.environ['HPCTF_INPUT_DATA']).read()\n"
    run = submit(
        unshared,
        within,
        script,
        container=image,
        environment_variables={"MINE": NASTY, "PYTHONPATH": "/mine"},
        inputs={"data": str(unshared / "data.csv")},
        arguments=[NASTY],
    )
    told = said(run)["worker-0"]
    assert told["env"]["CONTAINER"] == str(image)
    assert told["executable"] == "/usr/bin/python3"
    assert told["env"]["MINE"] == NASTY  # over the image's own
    assert told["env"]["PYTHONPATH"] == f"{STARTUP}:/mine:{CLIENT}"
    assert told["argv"] == ["train.py", NASTY]
    assert told["id"] == run.id
    assert (told["cwd"], told["outputs"]) == (str(run.folder.snapshot), str(run.folder.outputs))
    kept = run.folder.state / "worker-0.env"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_tf_config_in_a_container_is_the_runs(unshared: Path, site: Site, image: Path) -> None:
    training = ParameterServer(1, 1, coordinator=False)
    run = submit(unshared, site, container=image, distributed_training=training)
    spec = json.loads(said(run)["ps-0"]["env"]["TF_CONFIG"])
    assert spec["task"] == {"type": "ps", "index": 0}


def test_hpctfs_own_files_are_read_only_in_a_container(
    unshared: Path, site: Site, image: Path
) -> None:
    script = "import hpctf\ntry:\n    open(hpctf.__file__, 'a')\nexcept OSError as error:\n"
    script += "    print(error, file=open('outputs/said.txt', 'w'))\n"
    run = submit(unshared, site, script, container=image)
    assert "Read-only file system" in (run.folder.outputs / "said.txt").read_text()


def test_a_signal_reaches_the_training_in_a_container_once_and_it_may_finish(
    unshared: Path, site: Site, image: Path
) -> None:
    script = (
        "import signal, time\n"
        "told = []\n"
        "signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))\n"
        "open('outputs/ready', 'w').close()\n"
        "while not told:\n"
        "    time.sleep(0.1)\n"
        "time.sleep(1)\n"  # as a checkpoint takes, and longer than the runtime takes to end
        "print(*told, file=open('outputs/told.txt', 'w'))\n"
    )
    estimator = TensorFlow(project(unshared, script), entry_script="train.py", container=image)
    run = Experiment("test", site=site, runs_root=unshared / "runs").submit(estimator)
    wait_until((run.folder.outputs / "ready").exists)
    [started] = read_records(run.folder.state / "worker-0.jsonl")
    wrapper = Path(f"/proc/{started['pid']}/stat").read_text().rpartition(")")[2].split()[1]
    os.kill(int(wrapper), signal.SIGTERM)
    run.wait_for_completion(raise_on_error=False)
    assert (run.folder.outputs / "told.txt").read_text() == f"{int(signal.SIGTERM)}\n"


def test_a_function_comes_back_out_of_a_container(unshared: Path, site: Site, image: Path) -> None:
    def where() -> str:
        import os

        return os.environ["CONTAINER"]

    version = os.popen("/usr/bin/python3 --version").read().split()[1].rpartition(".")[0]
    estimator = TensorFlow(function=where, container=image)
    run = Experiment("test", site=site, runs_root=unshared / "runs").submit(estimator)
    if version == OWN_VERSION:
        assert run.result() == str(image)
    else:
        with pytest.raises(TrainingFailed, match=f"the training runs with Python {version}"):
            run.result()


def test_a_containers_failure_is_the_runs(unshared: Path, site: Site, image: Path) -> None:
    with pytest.raises(TrainingFailed, match="exit code 7"):
        submit(unshared, site, "raise SystemExit(7)", container=image)


def test_no_container_runtime_is_told(unshared: Path, site: Site, image: Path) -> None:
    without = replace(site, containers=ContainerSettings(runtime="singularity"))
    with pytest.raises(TrainingFailed, match="No such file or directory: 'singularity'"):
        submit(unshared, without, container=image)
