"""Lmod for real: a tree of compilers, MPIs and what is built with both.

Debian lets a machine have Lmod or Environment Modules, not both. This runs where it is Lmod, as in
the Debian 13 of `make test-debian13`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hpctf.admin.survey.login_node import find_modules
from hpctf.environment.toolchain import environment_with
from hpctf.errors import SiteError
from tests.conftest import Person

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        not Path("/usr/share/lmod").exists(),
        reason="Lmod is not installed: it conflicts with Environment Modules; "
        "make test-debian13 runs this",
    ),
]

NOISE = 'LmodMessage("ERROR: what was wrong with it has been put right")\n'


def write_tree(root: Path) -> Path:
    """Write modules below a folder, and return the MODULEPATH of their core."""

    def write(name: str, text: str) -> None:
        path = root / f"{name}.lua"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    for gcc in ("12", "13"):
        below = f"Compiler/gcc{gcc}"
        shows = f'family("compiler")\nprepend_path("MODULEPATH", "{root}/{below}")\n'
        write(f"Core/gcc/{gcc}", shows)
        for mpi in ("4.1", "5.0") if gcc == "12" else ("4.1",):
            shows = f'family("mpi")\nprepend_path("MODULEPATH", "{root}/MPI/gcc{gcc}-{mpi}")\n'
            write(f"{below}/openmpi/{mpi}", f'{shows}setenv("MPI_OF", "gcc{gcc}")\n')
    write("MPI/gcc12-5.0/hdf5/1.14", 'setenv("GREETING", "hello there")\n')
    write("Core/intel/19", 'family("compiler")\n')
    write("Core/noisy/1", NOISE)
    write("Core/sticky/1", 'add_property("lmod", "sticky")\n')
    write("Core/broken/1", 'LmodError("no \\"licence\\" here")\n')
    return root / "Core"


def only_lmods_path(monkeypatch: pytest.MonkeyPatch, modulepath: Path) -> None:
    """Let a test have an environment in which nobody has loaded or defined anything."""
    for name in [*os.environ]:
        if name.startswith(
            ("MODULE", "LOADEDMODULES", "_LMFILES_", "LMOD", "_ModuleTable", "BASH_")
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MODULEPATH", str(modulepath))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MODULEPATH of a tree, in this process's environment."""
    core = write_tree(tmp_path / "modules")
    only_lmods_path(monkeypatch, core)
    return core


SETTINGS = {
    "LMOD_LANG": "de",
    "LMOD_COLORIZE": "yes",
    "LMOD_PAGER": "less",
    "LMOD_REDIRECT": "yes",
    "LMOD_CACHED_LOADS": "yes",
    "LMOD_QUIET": "yes",
}


@pytest.mark.parametrize("settings", [{}, SETTINGS], ids=["", "settings"])
@pytest.mark.parametrize(
    ("modules", "words"),
    [
        (["openmpi/5.0"], "Before openmpi/5.0, load gcc/12."),
        (["openmpi/4.1"], "Before openmpi/4.1, load gcc/12, or gcc/13."),
        (["gcc/13", "hdf5"], "Before hdf5/1.14, load gcc/12 openmpi/5.0."),
        (["openmpi/9"], "Lmod knows openmpi/4.1, openmpi/5.0."),
        (["nosuch/1"], "unknown: nosuch/1"),
        (["broken"], "no licence here"),
        (["hdf5/2"], "Lmod knows hdf5/1.14."),
        (["openmpi"], "Before openmpi/5.0, load gcc/12."),
        (["gcc/12", "openmpi/4.1", "intel"], "automatically replacing gcc/12 with intel/19"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_loaded_is_said_in_lmods_words_with_what_to_load_before(
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    modules: list[str],
    words: str,
    settings: dict[str, str],
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SiteError) as caught:
        environment_with(modules)
    assert caught.value.message.startswith(f"module load {' '.join(modules)} failed on ")
    assert words in caught.value.message


@pytest.mark.parametrize("settings", [{}, SETTINGS], ids=["", "settings"])
def test_what_is_loaded_is_loaded_whatever_lmod_says_meanwhile(
    tree: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    made = environment_with(["noisy", "gcc", "openmpi"])
    assert made["LOADEDMODULES"] == "noisy/1:gcc/13:openmpi/4.1"
    for name in made.keys() - os.environ.keys():
        monkeypatch.setenv(name, made[name])
    monkeypatch.setenv("MODULEPATH", made["MODULEPATH"])
    for asked, loaded in (
        (["gcc/12"], "noisy/1:gcc/12:openmpi/5.0"),  # reloaded with another version
        (["intel"], "noisy/1:intel/19"),  # takes gcc's place, by its family
        (["-noisy", "gcc/13"], "gcc/13:openmpi/4.1"),
    ):
        assert environment_with(asked)["LOADEDMODULES"] == loaded
    for name, value in environment_with(["gcc/12", "openmpi/4.1", "sticky"]).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SiteError, match=r"Inactive Modules: 1\) openmpi/4\.1"):
        environment_with(["openmpi", "intel"])
    with pytest.raises(SiteError, match=r"not unloaded: .* sticky/1"):
        environment_with(["-sticky"])


def test_a_site_that_forbids_swapping_is_quoted(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMOD_DISABLE_SAME_NAME_AUTOSWAP", "yes")
    with pytest.raises(SiteError, match=r"prevents the automatic swapping .* module swap"):
        environment_with(["gcc/12", "gcc/13"])
    assert environment_with(["gcc/13"])["LOADEDMODULES"] == "gcc/13"


def test_site_init_finds_what_a_login_shell_offers(tree: Path) -> None:
    found = find_modules(60)
    assert found.kind == "lmod"
    assert {"gcc/12", "gcc/13", "intel/19"} <= set(found.names)
    assert not found.mpi  # they are behind the compilers


def login_environment(person: Person, *modules: str) -> dict[str, str]:
    """Return the variables of a login shell in which modules were loaded, functions among them."""
    script = f"module load {' '.join(modules)} >&2; exec env -0"
    command = ["bash", "-lc", script]
    env = {**person.env, "HOME": str(person.home), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    pairs = dict(pair.partition("=")[::2] for pair in done.stdout.split("\0") if pair)
    return {name: value for name, value in pairs.items() if name not in ("PWD", "SHLVL", "_")}


TELL = """
import os
with open("outputs/told", "w") as stream:
    print(os.environ["GREETING"], os.environ["LOADEDMODULES"], file=stream)
"""


def test_modules_of_a_tree_are_loaded_on_the_nodes(person: Person) -> None:
    """Once from a shell that knows no module, once from one that has others loaded."""
    person.env["MODULEPATH"] = str(write_tree(person.home / "modules"))
    person.write("train.py", TELL)
    wanted = ("noisy", "gcc/12", "openmpi", "hdf5")
    words = [word for name in wanted for word in ("--module", name)]
    person.hpctf("submit", "--wait", *words, "train.py")
    assert person.output("told") == "hello there noisy/1:gcc/12:openmpi/5.0:hdf5/1.14\n"

    person.env.update(login_environment(person, "sticky", "intel"))
    done = person.hpctf("submit", "--wait", *words, "--module", "-noisy", "train.py")
    assert done.returncode == 0
    assert person.output("told") == "hello there sticky/1:gcc/12:openmpi/5.0:hdf5/1.14\n"

    done = person.hpctf("submit", "--wait", "--module", "hdf5", "train.py", check=False)
    assert done.returncode == 1
    status = person.status()
    assert "cannot be loaded as requested: hdf5" in status["reason"]
    assert status["reason"].endswith("Before hdf5/1.14, load gcc/12 openmpi/5.0.")
    assert status["reason"] in person.hpctf("why", "@last").stdout
