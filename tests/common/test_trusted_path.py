"""Nothing is executed that a stranger could have put there: each component, link and target."""

from __future__ import annotations

import os
import pwd
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hpctf.common.trusted_path import (
    Trusted,
    check,
    check_chosen,
    check_place,
    check_tree,
    doubts,
    is_own,
)
from hpctf.environment.store import Store
from hpctf.errors import HpctfError, UntrustedPath
from hpctf.site.loading import load_site
from hpctf.site.model import EnvironmentSettings, Site, TrustSettings
from hpctf.site.templates import template_environment
from hpctf.site.trust import template_folder
from tests.conftest import TEST_USER, skip_or_fail

GROUP = 12345
"""A group of nobody's own."""


@pytest.fixture(autouse=True)
def root() -> None:
    if os.geteuid() != 0:
        skip_or_fail("only root can give files away")


@pytest.fixture
def mallory() -> int:
    return pwd.getpwnam(TEST_USER).pw_uid


def planted(top: Path) -> Path:
    """Make what looks like an environment, behind a link in every place that may be one."""
    (top / "real/build/bin").mkdir(parents=True)
    (top / "real/build/lib/python3.11/site-packages").mkdir(parents=True)
    for name in ("environment.json", "environment.lock", "pyvenv.cfg"):
        (top / "real/build" / name).write_text("{}")
    (top / "pythons/3.11/bin").mkdir(parents=True)
    (top / "pythons/3.11/bin/python3.11").write_text("#!/bin/sh\ntouch CANARY\n")
    (top / "pythons/3.11/bin/python3.11").chmod(0o755)
    (top / "real/build/bin/python").symlink_to("../../../pythons/latest/bin/python3.11")
    (top / "pythons/latest").symlink_to(top / "pythons/3.11")
    (top / "store").symlink_to("real")
    (top / "real/key").mkdir()
    (top / "real/key/current").symlink_to("../build")
    return top / "store/key/current/bin/python"


LINKS = ["store", "real/key/current", "real/build/bin/python", "pythons/latest"]
FOLDERS = ["", "real", "real/key", "real/build", "real/build/bin", "pythons", "pythons/3.11"]
FILES = ["pythons/3.11/bin/python3.11"]


def of_strangers(top: Path, part: str, mallory: int) -> None:
    os.chown(top / part, mallory, -1, follow_symlinks=False)


def open_to_all(top: Path, part: str, mallory: int) -> None:
    (top / part).chmod(0o777)


def open_to_a_group(top: Path, part: str, mallory: int) -> None:
    os.chown(top / part, -1, GROUP)
    (top / part).chmod(0o2775)


CHANGES: list[tuple[Callable[[Path, str, int], None], list[str], str]] = [
    (of_strangers, LINKS + FOLDERS + FILES, f"belongs to {TEST_USER}"),
    (open_to_all, FOLDERS + FILES, "can be written by everybody (mode 777)"),
    (open_to_a_group, FOLDERS + FILES, f"can be written by group {GROUP}"),
]


@pytest.mark.parametrize(
    ("change", "part", "words"),
    [(change, part, words) for change, parts, words in CHANGES for part in parts],
)
def test_each_component_of_a_path_and_of_its_links_counts(
    tmp_path: Path, mallory: int, change: Callable[..., None], part: str, words: str
) -> None:
    python = planted(tmp_path)
    assert not list(doubts(python))
    change(tmp_path, part, mallory)
    (doubt,) = doubts(python)
    assert (doubt.path, words in doubt.why) == (str(tmp_path / part), True)
    with pytest.raises(UntrustedPath) as caught:
        check(python, "Python")
    assert str(tmp_path / part) in caught.value.message and caught.value.exit_code == 3
    assert not list(doubts(python, Trusted(frozenset({mallory}), frozenset({GROUP})))) or (
        change is open_to_all
    )


@pytest.mark.parametrize(
    ("change", "part"),
    [(change, part) for change, parts, _ in CHANGES for part in [*parts, "environment.lock"]],
)
def test_a_store_is_used_only_if_all_of_the_way_is_trusted(
    tmp_path: Path, mallory: int, change: Callable[..., None], part: str
) -> None:
    planted(tmp_path)
    store = Store(site_of(tmp_path / "store"))
    found = store.environment("key")
    assert found is not None and [one.key for one in store.environments()] == ["key"]
    change(tmp_path, part.replace("environment.lock", "real/build/environment.lock"), mallory)
    for use in (store.environment, store.find):
        with pytest.raises(UntrustedPath):
            use("key")
    try:
        assert list(store.environments()) == []
    except UntrustedPath:
        assert change is not of_strangers or part in ("", "real", "store")


def site_of(store: Path, **changes: object) -> Site:
    settings = EnvironmentSettings(store=str(store))
    return replace(load_site("local"), environments=settings, **changes)  # type: ignore[arg-type]


def test_a_stranger_is_trusted_once_the_site_names_them(tmp_path: Path, mallory: int) -> None:
    planted(tmp_path)
    shutil.chown(tmp_path / "real/build", mallory)
    trust = TrustSettings(users=(TEST_USER,))
    assert Store(site_of(tmp_path / "store", trust=trust)).environment("key") is not None


def test_members_of_a_trusted_group_may_own_what_runs(tmp_path: Path, mallory: int) -> None:
    python = planted(tmp_path)
    shutil.chown(tmp_path / "real/build", mallory)
    group = pwd.getpwuid(mallory).pw_gid
    assert not list(doubts(python, Trusted(groups=frozenset({group}))))
    assert list(doubts(python, Trusted(groups=frozenset({GROUP}))))


def test_a_sticky_folder_is_passed_but_holds_nothing_itself(tmp_path: Path, mallory: int) -> None:
    scratch = tmp_path / "scratch"
    (scratch / "mine").mkdir(parents=True)
    scratch.chmod(0o1777)
    assert is_own(scratch / "mine") and is_own(scratch / "not-there-yet")
    assert not is_own(scratch)
    (scratch / "planted").symlink_to("mine")
    of_strangers(scratch, "planted", mallory)
    assert not is_own(scratch / "planted")


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UntrustedPath, match="symbolic links"):
        check(tmp_path / "a", "Python")


@pytest.mark.parametrize("tag", [0x02, 0x08], ids=["user", "group"])
def test_an_access_control_list_is_read_behind_its_mask(
    tmp_path: Path, mallory: int, tag: int
) -> None:
    path = tmp_path / "program"
    path.touch(0o755)
    who = mallory if tag == 0x02 else GROUP
    entries = [(0x01, 7, -1), (tag, 7, who), (0x04, 5, -1), (0x10, 7, -1), (0x20, 5, -1)]
    entries.sort(key=lambda entry: entry[0])
    packed = b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)
    except OSError as error:
        skip_or_fail(f"no access control lists here: {error}")
    (doubt,) = doubts(path)
    assert (TEST_USER if tag == 0x02 else str(GROUP)) in doubt.why
    entries[[entry[0] for entry in entries].index(0x10)] = (0x10, 5, -1)
    packed = b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)
    assert is_own(path), "its mask lets nobody write"


def test_a_colleagues_program_of_the_persons_choice_is_noted(tmp_path: Path, mallory: int) -> None:
    python = planted(tmp_path)
    assert check_chosen(python, "Python") is None
    of_strangers(tmp_path, "real/build", mallory)
    note = check_chosen(python, "Python")
    assert note is not None and f"belongs to {TEST_USER}" in note
    (tmp_path / "real").chmod(0o777)
    with pytest.raises(UntrustedPath):
        check_chosen(python, "Python")


@pytest.mark.parametrize("name", ["", "deep", "deep/one.j2"])
def test_a_sites_templates_are_programs(tmp_path: Path, mallory: int, name: str) -> None:
    (tmp_path / "templates/deep").mkdir(parents=True)
    (tmp_path / "templates/deep/one.j2").touch()
    site = replace(load_site("local"), templates=str(tmp_path / "templates"))
    assert template_folder(site) == str(tmp_path / "templates")
    of_strangers(tmp_path / "templates", name, mallory)
    with pytest.raises(UntrustedPath):
        template_folder(site)


def test_a_link_in_a_tree_is_followed_to_its_target(tmp_path: Path, mallory: int) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "elsewhere.whl").touch()
    (tmp_path / "wheels/one.whl").symlink_to("../elsewhere.whl")
    check_tree(tmp_path / "wheels", "The folder")
    of_strangers(tmp_path, "elsewhere.whl", mallory)
    with pytest.raises(UntrustedPath):
        check_tree(tmp_path / "wheels", "The folder")


def test_a_missing_store_is_made_in_a_sticky_folder_and_a_planted_one_is_not_entered(
    tmp_path: Path, mallory: int
) -> None:
    tmp_path.chmod(0o1777)
    assert Store(site_of(tmp_path / "new")).prepare("key") == tmp_path / "new/key"
    (tmp_path / "hers").mkdir()
    for plant in (tmp_path / "folder", tmp_path / "link"):
        plant.mkdir() if plant.name == "folder" else plant.symlink_to("hers")
        os.chown(plant, mallory, -1, follow_symlinks=False)
        with pytest.raises(UntrustedPath):
            Store(site_of(plant)).prepare("key")
        assert list((tmp_path / "hers").iterdir()) == []


def test_runs_go_where_nobody_can_exchange_their_folders(tmp_path: Path, mallory: int) -> None:
    root = tmp_path / "runs"
    (root / "mnist").mkdir(parents=True)
    check_place(root / "new", "The folder")
    of_strangers(root, "mnist", mallory)
    check_place(root / "mnist", "The folder")  # a colleague's, in a folder of the group's
    root.chmod(0o1777)
    check_place(root / "new", "The folder")
    with pytest.raises(UntrustedPath, match="belongs to"):
        check_place(root / "mnist", "The folder")
    root.chmod(0o777)
    with pytest.raises(UntrustedPath, match="everybody"):
        check_place(root / "new", "The folder")


@pytest.mark.parametrize("name", ["logs", "wheels", "cache", "key"])
def test_a_planted_folder_of_a_store_is_not_used(tmp_path: Path, mallory: int, name: str) -> None:
    store = Store(site_of(tmp_path / "store"))
    store.prepare("other")
    (tmp_path / "hers").mkdir()
    (tmp_path / "store" / name).symlink_to("../hers")
    os.chown(tmp_path / "hers", mallory, -1)
    with pytest.raises(HpctfError):
        store.make(name)
    assert list((tmp_path / "hers").iterdir()) == []


def test_a_site_file_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\nscheduler: local\nprologue: ['true']\n")
    assert load_site(path).name == "x"
    path.write_text("name: y\nscheduler: local\n")
    path.chmod(0o666)
    with pytest.raises(UntrustedPath):
        load_site(path)


def test_what_is_kept_in_a_strangers_cache_folder_is_not_believed(
    tmp_path: Path, mallory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checked sites hold shell lines, and compiled templates are code."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load_site("local")
    (kept,) = (tmp_path / "cache/hpctf/sites").iterdir()
    text = kept.read_text().replace('"prologue": []', '"prologue": ["touch CANARY"]')
    kept.write_text(text)
    assert load_site("local").prologue == ("touch CANARY",)
    os.chown(tmp_path / "cache", mallory, -1)
    assert load_site("local").prologue == ()
    template_environment.cache_clear()
    assert template_environment(None, keep=True).bytecode_cache is None
    template_environment.cache_clear()
