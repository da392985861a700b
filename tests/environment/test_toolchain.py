"""Loading environment modules, as every script of hpctf does it: what counts as failed.

`module` is a function here that says what it is made to say; real ones are in
tests/environment/test_lmod.py (Lmod) and tests/environment/test_activation_here.py (Environment
Modules).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpctf.environment.toolchain import environment_with, in_order
from hpctf.errors import SiteError
from hpctf.site.model import EnvironmentSettings, Site

LMOD = "Lmod has detected the following error: The following module(s) are unknown"
NO_LMOD = "bash: line 1: /opt/lmod/libexec/lmod: No such file or directory"


def defines(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    for name in [*os.environ]:
        if name.startswith(("MODULE", "LOADEDMODULES", "_LMFILES_", "LMOD", "BASH_FUNC_m")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BASH_FUNC_module%%", f"() {{ {body}\n}}")


@pytest.mark.parametrize(
    ("code", "said", "loaded", "failed"),
    [
        (0, "", "gcc/12:cuda/12", False),
        (0, "", "", False),  # a name that stands for others
        (0, "News: ERROR 404 is fixed; error-free since May", "gcc/12", False),
        (0, "ERROR: the old one had a flaw", "gcc/12:cuda/12.1", False),
        (0, "cuda(12):ERROR:105: Unable to locate a modulefile for cuda/12", "gcc/12", True),
        (0, "ERROR: Unable to locate a modulefile for cuda/12", "", True),
        (0, "ERROR: x", "gcc/12:cuda/123", True),
        (1, "", "gcc/12:cuda/12", False),  # Lmod 8.7.14 with LMOD_CACHED_LOADS
        (1, "", "gcc/12", True),
        (1, LMOD, "gcc/12:cuda/12", True),
        (0, LMOD, "gcc/12", True),
        (0, "\nInactive Modules:\n  1) cuda/12", "gcc/12", True),
        (0, 'Lmod is automatically replacing "gcc/12" with "intel/19".', "cuda/12:intel/19", False),
        (0, 'Lmod is automatically replacing "gcc/12" with "intel/19".', "intel/19", True),
        (0, NO_LMOD, "", True),
    ],
)
def test_two_of_code_words_and_what_is_loaded_say_that_loading_failed(
    monkeypatch: pytest.MonkeyPatch, code: int, said: str, loaded: str, failed: bool
) -> None:
    monkeypatch.setenv("SAID", said)
    defines(monkeypatch, f'echo "$SAID" >&2; export LOADEDMODULES={loaded}; return {code}')
    if not failed:
        assert environment_with(["gcc", "cuda/12"])["LOADEDMODULES"] == loaded
        return
    with pytest.raises(SiteError, match="module load gcc cuda/12 failed on ") as caught:
        environment_with(["gcc", "cuda/12"])
    assert " ".join(said.replace('"', "").split()) in caught.value.message


def test_a_name_with_a_minus_is_unloaded_first(monkeypatch: pytest.MonkeyPatch) -> None:
    defines(monkeypatch, 'export ASKED="${ASKED-}$*;" LOADEDMODULES=intel/19:gcc/12')
    monkeypatch.setenv("LOADEDMODULES", "intel/19")
    assert environment_with(["gcc/12", "-cuda"])["ASKED"] == "unload cuda;load gcc/12;"
    defines(monkeypatch, "export LOADEDMODULES=intel/19; echo ERROR: sticky")
    with pytest.raises(SiteError, match="ERROR: sticky"):
        environment_with(["intel", "-intel"])


def test_a_person_can_do_without_a_module_of_the_sites() -> None:
    assert in_order(["gcc/12", "mpi"], ["-gcc", "mpi"]) == ("mpi", "-gcc")
    assert in_order(["gcc/12"], ["-gcc/13"], ["gcc/13"]) == ("gcc/12", "gcc/13")


def test_what_profile_defines_is_found_and_its_path_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module system in a folder of the site's own is known to /etc/profile alone."""
    defines(monkeypatch, "")
    monkeypatch.delenv("BASH_FUNC_module%%")
    from hpctf.environment import toolchain

    text = toolchain.render_environment(["gcc"])
    profile = tmp_path / "profile"
    profile.write_text("PATH=/site/bin\nmodule() { export LOADEDMODULES=$2; }\n")
    text = text.replace("/etc/profile;", f"{profile};").replace("!= /etc/profile", f"!= {profile}")
    for elsewhere in ("/etc/profile.d/", "/usr/share/"):
        text = text.replace(elsewhere, "/nowhere/")
    monkeypatch.setattr(toolchain, "render_environment", lambda _: text)
    made = environment_with(["gcc"])
    assert (made["LOADEDMODULES"], made["PATH"]) == ("gcc", f"{os.environ['PATH']}:/site/bin")


@pytest.mark.parametrize("name", ["gcc openmpi", "gcc;id", "--force", "", "a\nb", "$x"])
def test_a_module_is_one_word(name: str) -> None:
    with pytest.raises(ValueError, match="modules has"):
        Site(name="x", modules=(name,))
    with pytest.raises(ValueError, match=r"environments\.modules has"):
        EnvironmentSettings(modules=(name,))


@pytest.mark.parametrize("name", ["gcc/.12", "mpi/openmpi-x86_64", "-cuda", "r@4.2", ".hidden/1"])
def test_names_of_modules(name: str) -> None:
    assert Site(name="x", modules=(name,)).modules == (name,)
