"""Site files, ignore files and code: who else could have written them is refused, or said."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from hpctf.errors import UntrustedPath
from hpctf.site import discovery
from hpctf.site.loading import load_site
from hpctf.site.trust import trusted_by
from tests.conftest import TEST_USER, skip_or_fail
from tests.support.projects import hpctf, planned, project

STRANGER = "name: big\nextends: local\nprologue: [touch /tmp/owned]\n"


def given_to_stranger(*paths: Path) -> int:
    if os.geteuid() != 0:
        skip_or_fail("only root can give a file away")
    stranger = pwd.getpwnam(TEST_USER).pw_uid
    for path in paths:
        os.chown(path, stranger, stranger)
    return stranger


@pytest.fixture(autouse=True)
def said_anew() -> None:
    discovery._say_once.cache_clear()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site file in an admin's folder within a folder that everybody may write, as /tmp."""
    (tmp_path / "all").mkdir()
    (tmp_path / "all").chmod(0o1777)
    monkeypatch.setenv("HPCTF_ADMIN_FOLDER", str(tmp_path / "all/admin"))
    path = tmp_path / "all/admin/sites/big.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(STRANGER)
    return path


def test_an_admins_folder_that_a_stranger_could_have_made_is_refused(file: Path) -> None:
    stranger = given_to_stranger(file.parents[1], file.parent, file)
    with pytest.raises(UntrustedPath, match=f"belongs to {TEST_USER}"):
        load_site("big")
    assert not trusted_by(load_site("local")).has(stranger), "nor what else is theirs"


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o707])
def test_site_files_that_everybody_may_write_are_refused_also_when_known(
    file: Path, depth: int, mode: int
) -> None:
    assert load_site("big").name == "big"
    place = [file, file.parent, file.parents[1]][depth]
    place.chmod(mode)
    if depth and mode == 0o1777:  # as /tmp: what is not theirs they cannot replace there
        assert load_site("big").name == "big"
        return
    with pytest.raises(UntrustedPath, match="can be written by everybody"):
        load_site("big")


def test_who_else_may_write_an_admins_folder_is_said(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for place in (file.parents[1], file.parent, file):
        os.chown(place, -1, pwd.getpwnam(TEST_USER).pw_gid)
    load_site("big")
    assert not caplog.text
    file.parent.chmod(0o775)
    for _ in range(2):
        discovery._say_once.cache_clear()
        caplog.clear()
        load_site("big")
        assert f"can be written by group {TEST_USER}" in caplog.text


def test_the_owner_of_an_admins_folder_that_nobody_could_plant_is_trusted(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "all").chmod(0o755)
    admin = given_to_stranger(file.parents[1], file.parent, file)
    assert trusted_by(load_site("big")).has(admin)
    assert not caplog.text


def test_a_named_site_file_of_somebody_elses_is_used_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "theirs.yaml"
    path.write_text(STRANGER)
    given_to_stranger(path)
    assert load_site(path).prologue
    assert f"belongs to {TEST_USER}" in caplog.text


def test_a_source_folder_into_which_everybody_may_put_code_is_refused(tmp_path: Path) -> None:
    """Such as /tmp: a .amlignore, or a module of a well-known name, would go with the run."""
    source = project(tmp_path / "all/proj")
    assert planned(source).plan
    for place, mode in ((source, 0o1777), (source, 0o777), (tmp_path / "all", 0o777)):
        place.chmod(mode)
        with pytest.raises(UntrustedPath, match="can be written by everybody"):
            planned(source)
        place.chmod(0o755)
    (tmp_path / "all").chmod(0o1777)
    assert planned(source).plan
    source.chmod(0o777)
    done = hpctf("submit", "--site", "local", source / "train.py", cwd=tmp_path)
    assert done.returncode == 3 and "The source folder" in done.stderr, done.stderr
    assert not (tmp_path / "runs").exists()
