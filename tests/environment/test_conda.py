"""Conda environments that py-rattler makes, from channels that py-rattler-build filled."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hpctf.common.trusted_path import ONLY_ME
from hpctf.environment.build import ensure
from hpctf.environment.build_commands import Commands
from hpctf.environment.configuration import conda_configuration
from hpctf.environment.indexes import indexes_of
from hpctf.environment.lock import locked_spec, read_lock
from hpctf.environment.rattler import Rattler
from hpctf.environment.spec import EnvironmentSpec
from hpctf.environment.store import Store
from hpctf.environment.with_rattler import make
from hpctf.errors import BuildError
from hpctf.site.model import Site
from tests.conftest import ROOT
from tests.environment.conda_channels import GREETER, SHORT, base_channel, index, package
from tests.support.stand_in_wheels import ask, hpctf_env, make_site


@pytest.fixture(scope="session")
def base() -> Path:
    """A channel with Python, pip, and packages to relocate."""
    return base_channel()


@pytest.fixture(scope="session")
def channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two channels, ``high`` and ``low``: they disagree."""
    folder = tmp_path_factory.mktemp("channels")
    high, low = folder / "high", folder / "low"
    for version in ("1.0", "1.4"):
        package(high, "lib", version, number=1)
        package(high, "lib", version, build="py_0")
    package(low, "lib", "2.0")
    package(high, "needs1", run='"lib 1.*"')
    package(high, "needs2", run='"lib >=2"')
    package(high, "for-gpus", run='"__cuda >=12.4"')
    package(high, "modern", run='"__glibc >=99"')
    package(low, "elsewhere")
    index(high)
    index(low)
    return folder


def site_for(folder: Path, wheels: Path, *names: Path | str, **environments: Any) -> Path:
    """Write the file of a site with those channels."""
    folder.mkdir(exist_ok=True)
    return make_site(folder, wheels, channels=[str(name) for name in names], **environments)


def asked(site: Path, *packages: str, **more: Any) -> tuple[EnvironmentSpec, Site]:
    return ask(site, conda_packages=packages, python_version=SHORT, **more)


def versions(python: Path) -> dict[str, str]:
    """Return what conda's records say is there: names with versions and builds."""
    found = {}
    for file in python.parents[1].glob("conda-meta/*.json"):
        record = json.loads(file.read_text())
        found[record["name"]] = f"{record['version']}={record['build']}"
    return found


def solved(
    work: Path,
    spec: EnvironmentSpec,
    site: Site,
    environment: Mapping[str, str] | None = None,
    offline: bool = True,
) -> dict[str, str]:
    """Return the packages that would be installed, as `versions`."""
    indexes = indexes_of(spec.sources, site.environments, {})
    variables = environment or {"HOME": str(work)}
    said = conda_configuration(variables)
    commands = Commands(work / "log", variables)
    maker = Rattler(commands, indexes, offline, work, said, work / "cache", ONLY_ME)
    job = maker.job(work / "prefix", spec)
    records = asyncio.run(make._solved(job, make._client(job)))
    return {record.name.normalized: f"{record.version}={record.build}" for record in records}


def run(python: Path, *words: str) -> str:
    return subprocess.check_output([python, *words], text=True).strip()


def test_an_environment_is_made_from_channels_and_pip(
    tmp_path: Path, wheels: Path, base: Path
) -> None:
    """An ``environment.yml`` as people have them, on a site without a network."""
    (tmp_path / "more.txt").write_text("tiny<1.1\n")
    (tmp_path / "near").symlink_to(base)
    (tmp_path / "environment.yml").write_text(
        "name: mine\nprefix: /opt/mine\nchannels: [./near, nodefaults]\n"
        f"variables: {{CHOSEN: person, NUMBER: 3}}\ndependencies:\n- python={SHORT}\n"
        "- pip\n- relocated\n- greeter>=1,<2\n- pip:\n  - -r more.txt\n"
    )
    site = site_for(tmp_path, wheels, "nowhere", umask="0022")
    spec, loaded = ask(site, conda_dependencies_file="environment.yml")
    story: list[str] = []
    python = ensure(spec, loaded, story.append)
    assert "Making the conda environment with py-rattler" in story
    prefix = python.parents[1].resolve()
    said = "import sys, greeter, tiny, tensorflow; print(sys.prefix, tiny.__version__)"
    assert run(python, "-c", said) == f"{python.parents[1]} 1.0"
    assert run(prefix / "bin/greet") == "hello 1.0"
    assert run(prefix / "bin/where") == run(prefix / "bin/where.sh") == f"{prefix}/share"
    assert (prefix / "share/linked").read_text() == f"relocated {prefix}\n", "its post-link script"
    assert list(prefix.glob("lib/python3*/site-packages/greeter/__pycache__/*.pyc"))
    state = json.loads((prefix / "conda-meta/state").read_text())
    assert state["env_vars"] == {"CHOSEN": "person", "NUMBER": "3"}
    lock = read_lock(Store(loaded).find(spec.key).lock)
    assert {"tiny==1.0", "tensorflow-cpu==2.21.0"} <= set(lock.packages)
    assert not [line for line in lock.packages if line.startswith(("pip==", "greeter"))]
    assert "greeter-1.0-py_0" in Store(loaded).find(spec.key).record()["conda"]
    place = f"# conda: file://{tmp_path}/near/noarch/greeter-1.0-py_0.conda#sha256:"
    assert place in lock.text()


@pytest.mark.parametrize(
    ("priority", "packages", "found"),
    [
        ("strict", ["lib"], "1.4=0"),
        ("flexible", ["lib"], "1.4=0"),
        ("disabled", ["lib"], "2.0=0"),
        ("flexible", ["needs2"], "2.0=0"),
        ("disabled", ["needs2"], "2.0=0"),
        ("strict", ["needs1"], "1.4=0"),
        ("strict", ["lib=1.0=py_0"], "1.0=py_0"),
        ("strict", ["lib>=1,<1.4"], "1.0=0"),
        ("strict", ["lib 1.0|1.2"], "1.0=0"),
        ("strict", ["lib[version='<1.2',build='py*']"], "1.0=py_0"),
        ("strict", ["LOW::lib"], "2.0=0"),
        ("strict", ["LOW/linux-64::lib"], "2.0=0"),
    ],
)
def test_packages_are_chosen_as_conda_chooses_them(
    priority: str,
    packages: list[str],
    found: str,
    tmp_path: Path,
    wheels: Path,
    base: Path,
    channels: Path,
) -> None:
    low = "LOW" in packages[0]
    names = [channels / "high", *([] if low else [channels / "low"]), base]
    site = site_for(tmp_path, wheels, *names, channel_priority=priority)
    wanted = [text.replace("LOW", str(channels / "low")) for text in packages]
    assert solved(tmp_path, *asked(site, *wanted))["lib"] == found


@pytest.mark.parametrize(
    ("packages", "priority", "words"),
    [
        (["needs1", "lib>=2"], "disabled", ["needs1 1.0 would require", "lib 1.*"]),
        (["no-such-package"], "flexible", ["No candidates were found for no-such-package"]),
        (["needs2"], "strict", ["strict channel priority"]),
        (["lib=3"], "flexible", ["lib 3.*"]),
        (["modern"], "flexible", ["__glibc >=99"]),
        (["for-gpus"], "flexible", ["__cuda >=12.4", "environments.virtual_packages"]),
    ],
)
def test_what_cannot_be_solved_is_explained_in_the_solvers_words(
    packages: list[str],
    priority: str,
    words: list[str],
    tmp_path: Path,
    wheels: Path,
    base: Path,
    channels: Path,
) -> None:
    places = (channels / "high", channels / "low", base)
    site = site_for(tmp_path, wheels, *places, channel_priority=priority)
    options = [word for text in packages for word in ("--conda", text)]
    done = hpctf_env("build", "--python-version", SHORT, *options, site=site, check=False)
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert all(text in done.stderr for text in words), done.stderr


def test_a_site_says_what_its_nodes_have(
    tmp_path: Path, wheels: Path, base: Path, channels: Path
) -> None:
    places = (channels / "high", base)
    site = site_for(tmp_path, wheels, *places, virtual_packages={"cuda": "12.6"})
    spec, loaded = asked(site, "for-gpus")
    assert "for-gpus" in versions(ensure(spec, loaded))
    plain, _ = asked(site_for(tmp_path, wheels, *places), "for-gpus")
    assert plain.key != spec.key


CONDARC = """
channel_alias: file://{folder}
custom_channels: {{low: "file://{folder}", "team/base": "file://{folder}/by-name"}}
custom_multichannels: {{all: [high, low]}}
default_channels: ["file://{folder}/high", low]
mirrored_channels: {{mirror: ["file://{folder}/low"]}}
"""


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("high", "1.4=0"),
        ("low", "2.0=0"),
        ("all", "2.0=0"),
        ("defaults", "2.0=0"),
        ("mirror", "2.0=0"),
    ],
)
def test_a_channels_name_means_what_the_persons_configuration_says(
    name: str, found: str, tmp_path: Path, wheels: Path, base: Path, channels: Path
) -> None:
    """Those of one name are equal in rank: the newest version wins."""
    by_name = channels / "by-name/team/base"
    by_name.parent.mkdir(parents=True, exist_ok=True)
    if not by_name.exists():
        by_name.symlink_to(base)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".condarc").write_text(CONDARC.format(folder=channels))
    site = site_for(tmp_path, wheels, name, "team/base", channel_priority="strict")
    for text in ("lib", f"{name}::lib"):
        assert solved(tmp_path, *asked(site, text), {"HOME": str(home)})["lib"] == found
    variables = {
        "HOME": str(tmp_path),
        "CONDA_CHANNEL_ALIAS": f"file://{channels}",
        "CONDA_DEFAULT_CHANNELS": f"{channels / 'high'},low",
    }
    if name in ("high", "low", "defaults"):
        site_for(tmp_path, wheels, name, base, channel_priority="strict")
        assert solved(tmp_path, *asked(site, "lib"), variables)["lib"] == found


def test_a_lock_makes_the_same_environment_when_the_channel_has_newer_packages(
    tmp_path: Path, wheels: Path, base: Path
) -> None:
    own = tmp_path / "own"
    package(
        own,
        "greeter",
        "1.1",
        GREETER.replace("VERSION", "1.1"),
        "python",
        python="g = greeter:main",
    )
    index(own)
    site = site_for(tmp_path, wheels, own, base)
    spec, loaded = asked(site, "greeter", "relocated", pip_packages=("tiny",))
    first = ensure(spec, loaded)
    lock = read_lock(Store(loaded).find(spec.key).lock)
    assert len(lock.conda) == 4 and all("#sha256:" in line for line in lock.conda)
    package(
        own,
        "greeter",
        "1.2",
        GREETER.replace("VERSION", "1.2"),
        "python",
        python="g = greeter:main",
    )
    index(own)
    # Elsewhere: another store, whose cache is empty.
    elsewhere = site_for(tmp_path / "elsewhere", wheels, own, base)
    _, other = ask(elsewhere)
    again = ensure(locked_spec(lock, other, print), other)
    assert versions(again) == versions(first) and versions(again)["greeter"] == "1.1=0"
    relocked = read_lock(Store(other).find(again.parents[2].name).lock)
    assert (relocked.conda, relocked.packages) == (lock.conda, lock.packages)
    newest = ensure(*asked(elsewhere, "greeter", "relocated", pip_packages=("tiny",)))
    assert versions(newest)["greeter"] == "1.2=0"


@pytest.mark.parametrize("where", ["channel", "lock"])
def test_a_package_that_was_tampered_with_is_not_installed(
    where: str, tmp_path: Path, wheels: Path, base: Path, channels: Path
) -> None:
    """What the channel's index, or a lock, says of its content does not hold."""
    own = tmp_path / "own"
    shutil.copytree(channels / "high", own)
    site = site_for(tmp_path, wheels, own, base)
    spec, loaded = asked(site, "lib=1.0=py_0")
    if where == "lock":
        ensure(spec, loaded)
        lock = read_lock(Store(loaded).find(spec.key).lock)
        _, loaded = ask(site_for(tmp_path / "elsewhere", wheels, own, base))
        spec = locked_spec(lock, loaded, print)
    victim = own / "linux-64/lib-1.0-py_0.conda"
    shutil.copy(own / "linux-64/lib-1.4-0.conda", victim)
    with pytest.raises(
        BuildError, match=r"(?s)lib-1.0-py_0.*is not what its channel or the lock says"
    ):
        ensure(spec, loaded)
    assert not Store(loaded).is_ready(spec)
    assert not [path for path in (Store(loaded).root / spec.key).iterdir() if path.name != "lock"]


def test_a_package_with_too_short_a_placeholder_or_a_failing_script_is_refused(
    tmp_path: Path, wheels: Path, base: Path
) -> None:
    own = tmp_path / "own"
    failing = (
        "mkdir $PREFIX/bin\nprintf '#!/bin/sh\\nexit 3\\n' > $PREFIX/bin/.failing-post-link.sh"
    )
    package(own, "failing", script=failing)
    index(own)
    site = site_for(tmp_path, wheels, own, base)
    with pytest.raises(BuildError, match="The post-link script of failing failed"):
        ensure(*asked(site, "failing"))
    deep = tmp_path / ("d" * 200)
    deep.mkdir()
    with pytest.raises(BuildError, match=r"(?s)relocated.*(prefix|placeholder)"):
        ensure(*asked(site_for(deep, wheels, base), "relocated"))


def test_without_the_extra_one_sentence_names_it(tmp_path: Path, wheels: Path) -> None:
    site = site_for(tmp_path, wheels)
    blocked = tmp_path / "blocked/sitecustomize.py"
    blocked.parent.mkdir()
    blocked.write_text("import sys\nsys.modules['rattler'] = None\n")
    root = os.environ.get("PYTHONPATH", "")
    done = hpctf_env(
        "build", "--conda", "numpy", site=site, check=False,
        PATH="/usr/bin:/bin", PYTHONPATH=f"{blocked.parent}:{ROOT}:{root}",
    )  # fmt: skip
    assert done.returncode == 3
    assert "no micromamba or mamba or conda on PATH" in done.stderr
    assert "pip install 'hpctf[conda]'" in done.stderr
