"""`hpctf env`: answers on stdout, the story on stderr, and nothing removed that is in use."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpctf import Experiment, TensorFlow
from hpctf.environment.build_folder import remove
from hpctf.environment.store import Environment, Store
from hpctf.errors import BuildError
from hpctf.site.loading import load_site
from tests.support.built import OLDER_TENSORFLOW
from tests.support.stand_in_wheels import OLDER_VERSION, ask, hpctf_env, start_env
from tests.support.waiting import HANGS_S, wait_until


def build(site: Path, *packages: str) -> Path:
    words = [word for package in packages for word in ("--pip", package)]
    return Path(hpctf_env("build", *words, site=site).stdout.strip())


def test_build_prints_the_interpreter_and_tells_the_story_on_stderr(site: Path) -> None:
    done = hpctf_env("build", "--pip", "tiny", site=site)
    assert done.stdout.count("\n") == 1
    python = Path(done.stdout.strip())
    assert subprocess.check_output([python, "-c", "import tiny; print(1)"]) == b"1\n"
    assert "No version of TensorFlow is named: taking tensorflow-cpu==2.21.*" in done.stderr
    assert "] Installing tensorflow-cpu==2.21.*, tiny, tensorboard\n" in done.stderr
    again = hpctf_env("build", "--pip", "tiny", "--json", site=site)
    name = python.parents[2].name
    assert json.loads(again.stdout) == {"name": name, "python": str(python), "ready": True}


def test_a_dry_run_says_what_it_would_be_called(site: Path) -> None:
    done = hpctf_env("build", "--pip", "tiny", "--dry-run", "--json", site=site)
    answer = json.loads(done.stdout)
    assert answer["ready"] is False
    assert not (site.parent / "store").exists()
    assert str(build(site, "tiny")) == answer["python"]


def test_build_reads_files_from_here(site: Path) -> None:
    (site.parent / "needs.txt").write_text("tiny<1.1\n")
    done = hpctf_env("build", "--pip-file", "needs.txt", site=site)
    code = "import tiny; print(tiny.__version__)"
    assert subprocess.check_output([done.stdout.strip(), "-c", code], text=True) == "1.0\n"


def test_build_makes_what_a_spec_file_says(site: Path) -> None:
    spec, loaded = ask(site, pip_packages=("tiny",))
    file = site.parent / "spec.json"
    file.write_text(json.dumps(spec.as_json()))
    done = hpctf_env("build", "--spec", file, site=site)
    assert Path(done.stdout.strip()) == Store(loaded).python_of(spec)
    assert hpctf_env("lock", file, site=site).stdout == (
        hpctf_env("lock", spec.key, site=site).stdout
    )


def test_build_that_asks_for_nothing_or_too_much_is_a_usage_error(site: Path) -> None:
    done = hpctf_env("build", site=site, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "The request names no packages" in done.stderr
    done = hpctf_env("build", "--locked", "x", "--pip", "tiny", site=site, check=False)
    assert done.returncode == 2
    assert "--locked says all that an environment is made of; --pip cannot add" in done.stderr
    done = hpctf_env("build", "--locked", "no-such-run", site=site, check=False)
    assert done.returncode == 2
    assert "There is no run 'no-such-run'" in done.stderr


@pytest.mark.parametrize("text", ["tiny==1.0\n", "", "# hpctf environment lock 1\n# spec: {}\n"])
def test_a_file_that_is_no_lock_is_refused(site: Path, text: str) -> None:
    (site.parent / "lock").write_text(text)
    done = hpctf_env("build", "--locked", "lock", site=site, check=False)
    assert done.returncode == 2
    assert "is no lock file of hpctf's" in done.stderr
    assert "Traceback" not in done.stderr


def test_list_and_show_say_what_is_there(site: Path) -> None:
    empty = hpctf_env("list", site=site)
    assert (empty.stdout, "There are no environments" in empty.stderr) == ("", True)
    python = build(site, "tiny")
    key = python.parents[2].name
    assert hpctf_env("list", site=site).stdout.split()[0] == key
    (row,) = json.loads(hpctf_env("list", "--json", site=site).stdout)
    assert (row["name"], row["python"], row["ready"]) == (key, str(python), True)
    shown = json.loads(hpctf_env("show", key[-6:], "--json", site=site).stdout)
    assert "tiny==1.1" in shown["packages"]
    assert shown["spec"]["tensorflow"] == "tensorflow-cpu==2.21.*"
    assert "tensorflow-cpu==2.21.0" in hpctf_env("show", key, site=site).stdout


def test_list_shows_who_builds(site: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    going = start_env("build", "--pip", "tiny", site=site, TEST_GATE=str(gate))
    wait_until(lambda: Path(f"{gate}.reached").exists())
    listed = hpctf_env("list", site=site).stdout
    builder = f"is being built by {getpass.getuser()} on {os.uname().nodename} (pid {going.pid},"
    assert builder in listed
    gate.touch()
    going.communicate(timeout=HANGS_S)
    assert going.returncode == 0


def test_a_name_that_is_not_there_or_not_one(site: Path) -> None:
    build(site, "tiny")
    build(site, "tiny<1.1")
    done = hpctf_env("show", "tf2.21", site=site, check=False)
    assert done.returncode == 2
    assert "'tf2.21' may be any of tf2.21-" in done.stderr
    done = hpctf_env("show", "mpi", site=site, check=False)
    assert "There is no environment 'mpi'" in done.stderr


def test_remove_takes_one_away_and_leaves_the_others(site: Path) -> None:
    gone, stays = build(site, "tiny"), build(site, "tiny<1.1")
    hpctf_env("remove", gone.parents[2].name, site=site)
    assert not gone.parents[2].exists()
    assert stays.exists()
    assert build(site, "tiny") == gone  # and it can be built again


def test_remove_refuses_what_a_run_uses(site: Path, tmp_path: Path) -> None:
    python = build(site, "tiny")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/train.py").write_text("import time, tiny\ntime.sleep(600)\n")
    experiment = Experiment("e", site=load_site(site), runs_root=tmp_path / "runs")
    run = experiment.submit(TensorFlow(tmp_path / "src", entry_script="train.py", python=python))
    try:
        done = hpctf_env("remove", python.parents[2].name, site=site, check=False)
        assert done.returncode == 3
        assert f"is used by {run.id}" in done.stderr
        assert python.exists()
    finally:
        run.cancel()
        run.wait_for_completion(raise_on_error=False)
    hpctf_env("remove", python.parents[2].name, site=site)
    assert not python.exists()


def test_remove_never_leaves_the_store(site: Path, tmp_path: Path) -> None:
    build(site, "tiny")
    store = Store(load_site(site))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("")
    (store.root / "link").symlink_to(elsewhere)
    for folder in (elsewhere, store.root / "link", store.root / ".." / "elsewhere"):
        with pytest.raises(BuildError, match="no folder of the store"):
            remove(Environment(folder), store)
    inside = store.root / "tf9"
    inside.mkdir()
    (inside / "current").symlink_to(elsewhere)  # somebody made it lead elsewhere
    remove(Environment(inside), store)
    hpctf_env("remove", "--stale", site=site)
    assert (elsewhere / "precious").exists()


def test_remove_stale_sweeps_what_the_dead_have_left(site: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    killed = start_env("build", "--pip", "tiny", site=site, TEST_GATE=str(gate))
    wait_until(lambda: Path(f"{gate}.reached").exists())
    assert "Nothing is stale" in hpctf_env("remove", "--stale", site=site).stderr
    killed.kill()
    killed.communicate()
    assert "Removed 1 half build" in hpctf_env("remove", "--stale", site=site).stderr
    assert [path.name for path in (site.parent / "store").iterdir()] == ["cache"]


def test_a_build_is_told_a_step_a_line_with_its_python(site: Path) -> None:
    done = hpctf_env("build", "--framework-version", OLDER_TENSORFLOW, site=site)
    assert f"Making a virtual environment with Python {sys.version_info.major}." in done.stderr
    assert f"It works: TensorFlow {OLDER_VERSION}" in done.stderr
