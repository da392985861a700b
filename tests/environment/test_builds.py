"""An environment is built whole, once, or not at all: races, kills, failures, full disks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpctf.environment.build import ensure
from hpctf.environment.build_folder import sweep
from hpctf.environment.interpreters import inspect
from hpctf.environment.lock import locked_spec, read_lock
from hpctf.environment.progress import telling
from hpctf.environment.store import Store
from hpctf.errors import BuildError, SiteError
from hpctf.site.loading import load_site
from tests.conftest import PYENV, ROOT, skip_or_fail
from tests.support.built import OLDER_TENSORFLOW
from tests.support.disks import mounted
from tests.support.stand_in_wheels import (
    OLDER_VERSION,
    ask,
    env_command,
    hpctf_env,
    make_conda,
    make_site,
    make_wheel,
    start_env,
)
from tests.support.waiting import HANGS_S, wait_until


def run(python: Path, code: str) -> str:
    return subprocess.check_output([python, "-c", code], text=True).strip()


def contents(site: Path) -> list[str]:
    """Return what lies in the store, two levels deep, but for uv's cache and locks."""
    store = site.parent / "store"
    found = [*store.glob("*"), *store.glob("*/*")]
    paths = [str(path.relative_to(store)) for path in found]
    return sorted(p for p in paths if not p.startswith("cache") and not p.endswith("/lock"))


def test_an_environment_has_what_was_asked_for_and_tensorflow(site: Path) -> None:
    spec, loaded = ask(site, pip_packages=("tiny<1.1",), framework_version=OLDER_TENSORFLOW)
    said: list[str] = []
    python = ensure(spec, loaded, said.append)
    assert python == Store(loaded).python_of(spec)
    assert (
        run(python, "import tiny, tensorflow as tf; print(tiny.__version__, tf.__version__)")
        == f"1.0 {OLDER_VERSION}"
    )
    assert run(python, "import tf_keras; print(tf_keras.__version__)") == OLDER_VERSION
    assert said[-1] == f"Environment {spec.key} is ready"


def test_nothing_brings_in_a_second_tensorflow(site: Path) -> None:
    spec, loaded = ask(site, pip_packages=("needy", "tf_keras"))  # both need 'tensorflow'
    python = ensure(spec, loaded)
    assert run(python, "import needy, tf_keras, tensorflow; print('right')") == "right"


def test_what_is_ready_is_not_built_again(site: Path) -> None:
    spec, loaded = ask(site, pip_packages=("tiny",))
    ensure(spec, loaded)
    before = contents(site)
    said: list[str] = []
    ensure(spec, loaded, said.append)
    assert (said, contents(site)) == ([], before)


def test_what_an_environment_is_made_of_is_on_record(site: Path) -> None:
    spec, loaded = ask(site, pip_packages=("tiny",))
    ensure(spec, loaded)
    one = Store(loaded).find(spec.key)
    record = one.record()
    assert record["checked"] == {"tensorflow": "2.21.0"}
    assert record["packages"] == [
        "tensorboard==2.20.0",
        "tensorflow-cpu==2.21.0",
        "tf-keras==2.21.0",
        "tiny==1.1",
    ]
    assert (record["user"], record["host"]) == (
        os.environ.get("USER") or record["user"],
        os.uname().nodename,
    )
    assert record["size_bytes"] > 0
    assert "tiny==1.1" in (one.current / "build.log").read_text()


def test_the_store_is_private_unless_the_site_shares_it(tmp_path: Path, wheels: Path) -> None:
    for umask, mode in (("0077", 0o700), ("0022", 0o755)):
        (tmp_path / umask).mkdir()
        spec, site = ask(make_site(tmp_path / umask, wheels, umask), pip_packages=("tiny",))
        before = os.umask(0o027)  # the person's own does not matter
        try:
            python = ensure(spec, site)
        finally:
            os.umask(before)
        store = tmp_path / umask / "store"
        assert stat.S_IMODE(store.stat().st_mode) == mode
        assert stat.S_IMODE((store / spec.key).stat().st_mode) == mode
        module = next(python.parents[1].glob("lib/python3*/site-packages/tiny/__init__.py"))
        assert bool(module.stat().st_mode & stat.S_IROTH) == (umask == "0022")
        assert bool(python.parents[1].stat().st_mode & stat.S_IXOTH) == (umask == "0022")


def test_two_builders_at_once_make_one_environment(site: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    words = ("build", "--pip", "tiny")
    first = start_env(*words, site=site, TEST_GATE=str(gate))
    wait_until(lambda: Path(f"{gate}.reached").exists())
    second = start_env(*words, site=site, TEST_GATE=str(gate))
    assert second.stderr is not None
    story = iter(second.stderr.readline, "")
    waits = next(line for line in story if "Waiting for" in line)
    assert f"on {os.uname().nodename} (pid {first.pid}, since " in waits
    gate.touch()
    said = [first.communicate(timeout=HANGS_S), second.communicate(timeout=HANGS_S)]
    assert [first.returncode, second.returncode] == [0, 0], said
    assert said[0][0] == said[1][0]  # the same interpreter
    assert "has been built meanwhile" in said[1][1]
    assert len([name for name in contents(site) if "/2" in name]) == 1


def test_without_locks_the_second_builder_drops_its_own(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system whose locks do not reach other hosts: both build to the end."""

    def no_locks(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    gate = tmp_path / "gate"
    first = start_env("build", "--pip", "tiny", site=site, TEST_GATE=str(gate))
    wait_until(lambda: Path(f"{gate}.reached").exists())
    monkeypatch.setattr("fcntl.flock", no_locks)
    spec, loaded = ask(site, pip_packages=("tiny",))
    python = ensure(spec, loaded)
    mine = os.readlink(python.parents[1])
    gate.touch()
    out, story = first.communicate(timeout=HANGS_S)
    assert (first.returncode, out.strip()) == (0, str(python)), story
    assert "Somebody else has built it meanwhile: theirs is used" in story
    assert os.readlink(python.parents[1]) == mine
    assert len([name for name in contents(site) if "/2" in name]) == 1


def test_a_killed_build_leaves_nothing_that_looks_whole(site: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    killed = start_env("build", "--pip", "tiny", site=site, TEST_GATE=str(gate))
    wait_until(lambda: Path(f"{gate}.reached").exists())
    spec, loaded = ask(site, pip_packages=("tiny",))
    killed.kill()
    killed.communicate()
    assert not Store(loaded).is_ready(spec)
    assert json.loads(hpctf_env("list", "--json", site=site).stdout) == []
    assert len([name for name in contents(site) if "/2" in name]) == 2  # what it had begun
    done = hpctf_env("build", "--pip", "tiny", site=site)
    assert "whose builder is gone" in done.stderr
    assert Path(done.stdout.strip()) == Store(loaded).python_of(spec)
    assert len([name for name in contents(site) if "/2" in name]) == 1


def test_whoever_waits_goes_on_when_the_builder_is_killed(site: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    killed = start_env("build", "--pip", "tiny", site=site, TEST_GATE=str(gate))
    wait_until(lambda: Path(f"{gate}.reached").exists())
    waiting = start_env("build", "--pip", "tiny", site=site)
    assert waiting.stderr is not None
    assert any("Waiting for" in line for line in iter(waiting.stderr.readline, ""))
    killed.kill()
    killed.communicate()
    out, story = waiting.communicate(timeout=HANGS_S)
    assert waiting.returncode == 0, story
    assert os.access(out.strip(), os.X_OK)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_build_that_is_told_to_end_leaves_nothing(
    site: Path, tmp_path: Path, number: signal.Signals
) -> None:
    gate = tmp_path / "gate"
    build = start_env("build", "--pip", "tiny", site=site, TEST_GATE=str(gate))
    wait_until(lambda: Path(f"{gate}.reached").exists())
    build.send_signal(number)
    build.communicate(timeout=HANGS_S)
    assert build.returncode in (130, 143)
    assert [name for name in contents(site) if "/" in name] == []


def test_a_build_that_fails_leaves_its_log_alone(site: Path) -> None:
    done = hpctf_env("build", "--pip", "tiny==9.9", site=site, check=False)
    assert done.returncode == 3
    assert "Installing the packages failed: exit code 1" in done.stderr
    assert "tiny==9.9" in done.stderr
    assert "Traceback" not in done.stderr
    log = Path(done.stderr.partition("The whole log: ")[2].splitlines()[0])
    assert "tiny==9.9" in log.read_text()
    assert [name for name in contents(site) if "/" in name] == [f"logs/{log.name}"]


def test_a_build_that_fails_its_check_is_a_failed_build(site: Path) -> None:
    done = hpctf_env("build", "--pip", "tiny", site=site, check=False, TEST_BREAK="yes")
    assert done.returncode == 3
    assert "Importing TensorFlow failed" in done.stderr
    assert "libcudart.so.11 is broken" in done.stderr
    spec, loaded = ask(site, pip_packages=("tiny",))
    assert not Store(loaded).is_ready(spec)
    assert ensure(spec, loaded).exists()  # and the next one is not in its way


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    with mounted(tmp_path / "small", "size=3m") as place:
        yield place


def test_a_full_disk_is_said_and_nothing_stays(
    small_disk: Path, tmp_path: Path, wheels: Path
) -> None:
    big = tmp_path / "big"
    make_wheel(big, "big", "1.0", f"data = {'x' * 4_000_000!r}\n")
    site = make_site(
        tmp_path, wheels, store=str(small_disk / "store"), find_links=[str(wheels), str(big)]
    )
    done = hpctf_env(
        "build", "--pip", "big", site=site, check=False, UV_CACHE_DIR=str(tmp_path / "uv")
    )
    assert done.returncode == 3
    assert "is full (" in done.stderr and "MB are free now" in done.stderr
    assert "environments.store" in done.stderr
    assert not [*(small_disk / "store").glob("tf*/2*")]


def test_a_store_that_everybody_may_write_is_refused(site: Path) -> None:
    store = site.parent / "store"
    store.mkdir()
    store.chmod(0o777)
    done = hpctf_env("build", "--pip", "tiny", site=site, check=False)
    assert done.returncode == 3
    assert "can be written by everybody" in done.stderr
    assert list(store.iterdir()) == []


def test_a_store_that_cannot_be_made_is_said(site: Path, wheels: Path) -> None:
    (site.parent / "file").write_text("")
    make_site(site.parent, wheels, store=str(site.parent / "file/store"))
    done = hpctf_env("build", "--pip", "tiny", site=site, check=False)
    assert done.returncode == 3
    assert "Not a directory" in done.stderr


def test_an_offline_site_lacks_what_its_wheels_lack(site: Path) -> None:
    done = hpctf_env("build", "--pip", "in-no-folder", site=site, check=False)
    assert done.returncode == 3
    assert "in-no-folder" in done.stderr and "network" in done.stderr


def test_an_index_that_is_not_reached_is_said_with_the_ways_out(site: Path, wheels: Path) -> None:
    nobody = "http://127.0.0.1:9/simple"  # port 9 (discard): nobody listens
    make_site(site.parent, wheels, offline=False, index_url=nobody)
    done = hpctf_env("build", "--pip", "six", site=site, check=False, UV_HTTP_RETRIES="0")
    assert done.returncode == 3
    assert "does not reach the packages' index" in done.stderr
    assert "environments.build_on: login" in done.stderr


def test_a_folder_of_wheels_that_is_gone_is_said(site: Path, wheels: Path) -> None:
    make_site(site.parent, wheels, find_links=["/no/such/wheels"])
    done = hpctf_env("build", "--pip", "tiny", site=site, check=False)
    assert done.returncode == 3
    assert "environments.find_links names '/no/such/wheels'" in done.stderr


def test_pip_cannot_keep_a_second_tensorflow_out(site: Path, wheels: Path) -> None:
    """What pip does build: test_configuration.py."""
    make_site(site.parent, wheels, pip="pip")
    spec, loaded = ask(site, pip_packages=("needy",))
    with pytest.raises(BuildError, match="beside 'tensorflow-cpu'"):
        ensure(spec, loaded)


def test_another_python_than_hpctfs_own(
    site: Path, wheels: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed = [
        found
        for path in sorted(PYENV.glob("3.*/bin/python3"))
        if (found := inspect(str(path)))
        and (3, 10) <= found.short <= (3, 13)
        and found.short != sys.version_info[:2]
    ]
    if not listed:
        pytest.skip("Debian has one CPython alone, and there is no other in " + str(PYENV))
    wanted = ".".join(map(str, listed[0].short))
    make_site(site.parent, wheels, pythons=[str(PYENV)], umask="0022")
    spec, loaded = ask(site, pip_packages=("tiny",), python_version=wanted)
    python = ensure(spec, loaded)
    assert run(python, "import sys; print('%d.%d' % sys.version_info[:2])") == wanted
    assert "which other users may not enter" in caplog.text


def test_a_locked_build_has_the_same_versions(site: Path, tmp_path: Path, wheels: Path) -> None:
    spec, loaded = ask(site, pip_packages=("tiny",))
    first = ensure(spec, loaded)
    lock_file = Store(loaded).write_lock(spec.key, tmp_path)
    assert hpctf_env("build", "--locked", lock_file, site=site).stdout.strip() == str(first)
    newer = tmp_path / "newer"
    make_wheel(newer, "tiny", "1.2")  # what an open request would take now
    make_site(tmp_path, wheels, find_links=[str(wheels), str(newer)])
    hpctf_env("remove", spec.key, site=site)
    again = Path(hpctf_env("build", "--locked", lock_file, site=site).stdout.strip())
    assert run(again, "import tiny; print(tiny.__version__)") == "1.1"
    locked = locked_spec(read_lock(lock_file), load_site(site), print)
    one = Store(loaded).environment(locked.key)
    assert one is not None and one.python == again
    assert read_lock(one.lock).packages == read_lock(lock_file).packages
    assert run(ensure(spec, load_site(site)), "import tiny; print(tiny.__version__)") == "1.2"


def test_a_conda_environment_with_a_pip_section(site: Path, wheels: Path, tmp_path: Path) -> None:
    program, calls = make_conda(tmp_path, "/usr/bin/python3")
    make_site(site.parent, wheels, conda=str(program), channels=["conda-forge"])
    (tmp_path / "environment.yml").write_text(
        "name: mine\nchannels: [bioconda, conda-forge]\ndependencies:\n"
        "- python=3.11\n- numpy>=1.2\n- pip\n- pip:\n  - tiny==1.0\n"
    )
    spec, loaded = ask(site, conda_dependencies_file="environment.yml")
    python = ensure(spec, loaded)
    words = json.loads(calls.read_text())
    assert words[:3] == ["create", "--yes", "--quiet"]
    channels = words.index("--override-channels") + 1
    assert words[channels:] == [
        "-c", "bioconda", "-c", "conda-forge", "python=3.11", "pip", "numpy>=1.2",
    ]  # fmt: skip
    assert run(python, "import tiny, tensorflow; print(tiny.__version__)") == "1.0"
    lock = read_lock(Store(loaded).find(spec.key).lock)
    assert "https://conda.example/linux-64/python-3.11-0.conda#0123" in lock.conda
    assert "tiny==1.0" in lock.packages
    ensure(locked_spec(lock, loaded, print), loaded)
    assert "--file" in json.loads(calls.read_text().splitlines()[-1])


def test_a_conda_program_that_is_not_there_is_refused(site: Path, wheels: Path) -> None:
    make_site(site.parent, wheels, conda="/opt/no-such/conda")
    done = hpctf_env("build", "--conda", "numpy", site=site, check=False)
    assert done.returncode == 3
    assert "environments.conda is '/opt/no-such/conda', which is not on" in done.stderr


def test_a_conda_that_fails_is_told_in_its_own_words(site: Path, wheels: Path) -> None:
    program, _ = make_conda(site.parent, "/usr/bin/python3")
    make_site(site.parent, wheels, conda=str(program))
    done = hpctf_env("build", "--conda", "no-such-package", site=site, check=False)
    assert done.returncode == 3
    assert "Could not solve for environment specs" in done.stderr


def test_a_builder_on_another_host_is_left_alone_while_it_lives(site: Path) -> None:
    folder = site.parent / "store/key"
    work = folder / "20260101-000000-00000000.work"
    work.mkdir(parents=True)
    builder = work / "builder.json"
    builder.write_text(json.dumps({"host": "elsewhere", "pid": 1, "start": "1", "since": 0}))
    assert sweep(folder) == []
    os.utime(builder, (0, 0))  # it has not been touched for long
    assert sweep(folder) == ["20260101-000000-00000000"]
    assert list(folder.iterdir()) == []


BACKEND = """
import pathlib, zipfile
def build_wheel(folder, *_):
    text = pathlib.Path("mine.py").read_text()
    head = "Metadata-Version: 2.1\\nName: mine\\nVersion: 1\\n"
    with zipfile.ZipFile(f"{folder}/mine-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("mine.py", text)
        wheel.writestr("mine-1.dist-info/METADATA", head)
        wheel.writestr("mine-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("mine-1.dist-info/RECORD", "")
    return "mine-1-py3-none-any.whl"
"""


def test_a_local_package_that_changes_is_another_environment(site: Path) -> None:
    project = site.parent / "mine"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "mine"\nversion = "1"\n'
    )
    (project / "backend.py").write_text(BACKEND)
    answers = []
    for answer in (1, 2):
        (project / "mine.py").write_text(f"answer = {answer}\n")
        spec, loaded = ask(site, pip_packages=("./mine",))
        answers.append((run(ensure(spec, loaded), "import mine; print(mine.answer)"), spec.key))
    assert [answer for answer, _ in answers] == ["1", "2"]
    assert answers[0][1] != answers[1][1]
    spec, loaded = ask(site, pip_packages=("./mine", "tiny"))
    (project / "mine.py").write_text("answer = 3\n")
    with pytest.raises(BuildError, match="has changed since"):
        ensure(spec, loaded)


def test_another_users_environment_is_used_and_a_half_one_is_left_alone(
    tmp_path: Path, wheels: Path
) -> None:
    """Two real users share a store: the second one runs as `nobody`."""
    if os.geteuid() != 0:
        skip_or_fail("being two users needs root")
    home = Path("/var/tmp") / f"hpctf-two-users-{os.getpid()}"
    home.mkdir(mode=0o755)
    try:
        shutil.copytree(wheels, home / "wheels")
        shutil.copytree(ROOT / "hpctf", home / "lib/hpctf", symlinks=False)
        site = make_site(home, home / "wheels", umask="0022")
        hpctf_env("build", "--pip", "tiny", site=site)
        for path in (home, *home.rglob("*.whl"), site):
            path.chmod(0o755)
        words = env_command("build", "--pip", "tiny", site=site)
        as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        variables = {**os.environ, "HOME": "/nonexistent", "PYTHONPATH": str(home / "lib")}
        variables |= {"XDG_CACHE_HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent"}
        done = subprocess.run(
            [*as_nobody, *words], cwd="/", env=variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert subprocess.check_output(
            [*as_nobody, done.stdout.strip(), "-c", "import tiny; print(tiny.__version__)"],
            text=True, cwd="/",
        ).strip() == "1.1"  # fmt: skip
        words = env_command("build", "--pip", "tiny<1.1", site=site)
        done = subprocess.run(
            [*as_nobody, *words], cwd="/", env=variables, capture_output=True, text=True
        )
        assert done.returncode == 3, done.stdout
        assert "cannot be made: Permission denied" in done.stderr
        (home / "store").chmod(0o700)
        done = subprocess.run(
            [*as_nobody, *words], cwd="/", env=variables, capture_output=True, text=True
        )
        assert done.returncode == 3
        assert "you may not read it" in done.stderr or "Permission denied" in done.stderr
    finally:
        shutil.rmtree(home)


def test_progress_is_a_line_a_step_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with telling() as tell:
        tell("One")
        tell("Two")
    assert capsys.readouterr().err == "[0:00] One\n[0:00] Two\n"


def test_a_module_that_is_not_there_is_refused(site: Path) -> None:
    site.write_text(json.dumps({**json.loads(site.read_text()), "modules": ["no-such/1.0"]}))
    with pytest.raises(SiteError, match=r"module load no-such/1\.0 failed"):
        ask(site, pip_packages=("tiny",))
