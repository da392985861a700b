"""Locked keys: no later layer, no option and no variable changes them, and the lock is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpctf import Experiment
from hpctf.errors import SiteError
from hpctf.site.loading import load_site
from hpctf.site.locks import lock_of
from tests.support.projects import hpctf, project


@pytest.fixture
def admin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of an admin's site ``big``, with two keys and a section locked."""
    folder = Path(os.environ["HPCTF_ADMIN_FOLDER"]) / "sites"
    folder.mkdir(parents=True)
    (folder / "big.yaml").write_text(
        "name: big\n"
        "runs_root: /scratch/runs\n"
        "default_target: gpu\n"
        "targets:\n"
        "  gpu: {partition: gpu, account: all}\n"
        "  cpu: {partition: cpu}\n"
        "mpi: {plugin: pmix}\n"
        "locked:\n"
        "  - mpi.plugin\n"
        "  - targets.gpu\n"
        "  - directives\n"
        "  - runs_root\n"
    )
    monkeypatch.chdir(tmp_path)
    return folder / "big.yaml"


def users_file(text: str) -> Path:
    path = Path(os.environ["XDG_CONFIG_HOME"]) / "hpctf" / "sites" / "big.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refusal(**asked: object) -> str:
    with pytest.raises(SiteError) as caught:
        load_site("big", **asked)  # type: ignore[arg-type]
    assert caught.value.exit_code == 3
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "key", "lock", "lock_line"),
    [
        ("mpi:\n  plugin: pmi2\n", 2, "mpi.plugin", "mpi.plugin", 9),
        ("mpi: null\n", 1, "mpi", "mpi.plugin", 9),  # above it
        ("mpi: 5\n", 1, "mpi", "mpi.plugin", 9),
        ("targets:\n  gpu: {account: me}\n", 2, "targets.gpu.account", "targets.gpu", 10),
        ("targets:\n  gpu:\n    qos: x\n", 3, "targets.gpu.qos", "targets.gpu", 10),
        ("targets: {gpu: null}\n", 1, "targets.gpu", "targets.gpu", 10),
        ("\ndirectives: {mem: 1}\n", 2, "directives.mem", "directives", 11),
        ("runs_root: /mine\n", 1, "runs_root", "runs_root", 12),
    ],
)
def test_a_users_file_cannot_change_what_is_locked(
    admin: Path, text: str, line: int, key: str, lock: str, lock_line: int
) -> None:
    user = users_file(text)
    told = refusal().splitlines()
    expected = f"{user}:{line}: {key}: this key cannot be changed here: {lock} is locked in "
    assert any(one.startswith(f"{expected}{admin}:{lock_line}.") for one in told), told


def test_what_is_not_locked_can_be_changed_beside_it(admin: Path) -> None:
    users_file(
        "mpi: {options: [--x]}\ntargets: {cpu: {account: me}, mine: {qos: x}}\ndirectives: {}\n"
    )
    site = load_site("big", settings={"mpi.launcher": "mpirun"})
    assert (site.mpi.options, site.mpi.launcher, site.mpi.plugin) == (("--x",), "mpirun", "pmix")
    assert site.targets["cpu"].account == "me" and "mine" in site.targets


def test_saying_the_same_again_is_no_change(admin: Path) -> None:
    users_file("mpi: {plugin: pmix}\ntargets: {gpu: {account: all}}\n")
    assert load_site("big", settings={"mpi.plugin": "pmix"}).mpi.plugin == "pmix"


def test_every_later_layer_is_held_and_all_are_told_at_once(
    admin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = users_file("mpi: {plugin: pmi2}\n")
    (tmp_path / "hpctf.yaml").write_text("sites:\n  big:\n    mpi: {plugin: none}\n")
    monkeypatch.setenv("HPCTF_TARGETS__GPU__ACCOUNT", "me")
    lines = refusal(settings=["directives.mem=1G", "ports.first=1"]).splitlines()
    offenders = [line.split(": ")[0] for line in lines if "cannot be changed here" in line]
    assert offenders == [
        f"{user}:1",
        f"{tmp_path}/hpctf.yaml:3",
        "HPCTF_TARGETS__GPU__ACCOUNT",
        "--set directives.mem",
    ]
    assert any(line.startswith("--set ports.first: ports.first: must be") for line in lines)
    assert "It stays 'pmix'; found 'pmi2'." in lines[1]


def test_nobody_can_unlock_and_every_layer_can_lock_more(admin: Path) -> None:
    users_file("locked: []\n")
    assert "mpi.plugin is locked" in refusal(settings={"mpi.plugin": "x"})
    user = users_file("\nlocked: [umask]\n")
    assert load_site("big").locked == (
        "mpi.plugin",
        "targets.gpu",
        "directives",
        "runs_root",
        "umask",
    )
    assert f"umask is locked in {user}:2" in refusal(settings={"umask": "0022"})


def test_locks_hold_for_sites_that_extend_the_locked_one(admin: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("name: x\nextends: big\nmpi: {plugin: pmi2}\n")
    with pytest.raises(SiteError, match=rf"x\.yaml:3: mpi\.plugin: .* is locked in {admin}:9"):
        load_site(file)


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        ("mpi.plugn", "locked: a site has no key 'mpi.plugn'. Did you mean 'plugin'?"),
        ("target.gpu", "Did you mean 'targets'?"),
        ("[a]", "locked.0: must be text"),
    ],
)
def test_a_lock_on_no_key_is_an_error(tmp_path: Path, lock: str, words: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(f"name: x\nlocked:\n  - {lock}\n")
    with pytest.raises(SiteError) as caught:
        load_site(file)
    assert words in str(caught.value) and f"{file}:3: " in str(caught.value)


def test_lock_of_tells_the_lock_of_a_key(admin: Path) -> None:
    site = load_site("big")
    assert lock_of(site, "mpi.plugin") == "mpi.plugin"
    assert lock_of(site, "mpi") == "mpi.plugin"
    assert lock_of(site, "targets.gpu.mem") == "targets.gpu"
    assert lock_of(site, "directives.mem") == "directives"
    for free in ("mpi.options", "targets.cpu", "targets.gpus", "umask", "mpi.plugins"):
        assert lock_of(site, free) is None


def test_a_locked_runs_root_refuses_another(
    admin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert str(Experiment("e", site="big").runs_root) == "/scratch/runs"
    for other in ({"runs_root": tmp_path}, {"site": load_site("big"), "runs_root": "/mine"}):
        with pytest.raises(SiteError, match="runs_root=: site 'big' has locked runs_root"):
            Experiment("e", **{"site": "big", **other})  # type: ignore[arg-type]
    assert str(Experiment("e", site="big", runs_root="/scratch/runs").runs_root) == "/scratch/runs"
    site = load_site("big")
    monkeypatch.setenv("HPCTF_RUNS_ROOT", "/mine")
    with pytest.raises(SiteError, match=f"HPCTF_RUNS_ROOT: runs_root: .* locked in {admin}:12"):
        Experiment("e", site="big")
    with pytest.raises(SiteError, match="HPCTF_RUNS_ROOT: site 'big' has locked runs_root"):
        Experiment("e", site=site)


def test_submit_refuses_and_touches_nothing(admin: Path, tmp_path: Path) -> None:
    source = project(tmp_path / "proj")
    words = ["submit", "--site", "big", "--set", "mpi.plugin=pmi2", source / "train.py"]
    done = hpctf(*words, cwd=tmp_path, env={"HPCTF_RUNS_ROOT": ""})
    assert (done.returncode, done.stdout) == (3, "")
    assert f"mpi.plugin is locked in {admin}:9" in done.stderr
    done = hpctf("submit", "--site", "big", source / "train.py", cwd=tmp_path)
    assert done.returncode == 3 and "HPCTF_RUNS_ROOT: runs_root: this key cannot" in done.stderr
    assert not (tmp_path / "runs").exists()
