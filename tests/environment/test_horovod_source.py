"""What hpctf gives the build of Horovod: its source as today's compilers take it, and variables."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from hpctf.environment.build_commands import Commands
from hpctf.environment.horovod import amended_source, build_variables, with_sites_own
from hpctf.environment.spec import EnvironmentSpec

COMMON = """inline std::string refuse() { throw std::logic_error("not supported"); }
inline std::uint8_t most() { return std::max<std::uint8_t>(1, 2); }
"""

SPAN = """#include <cstddef>
template <class T> class span {
 public:
  typedef T* pointer;
  typedef std::size_t size_type;
  span &operator=(const span &other) {
    data_ = other.data_;
    count_ = other.count_;
    return *this;
  }
 private:
  // This is a naive implementation
  pointer const data_;
  const size_type count_;
};
"""

FILES = {
    "horovod/common/common.h": COMMON,
    "third_party/flatbuffers/include/flatbuffers/stl_emulation.h": SPAN,
    "horovod/other.h": SPAN,
}
"""Lines of Horovod 0.28.1 that newer compilers refuse; another file is none of ours."""

SPEC = EnvironmentSpec("pip", "3.11.2", horovod="0.28.1")


def archive_of(files: dict[str, str], folder: Path) -> Path:
    for name, text in files.items():
        path = folder / "horovod-0.28.1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    archive = folder / "horovod-0.28.1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / "horovod-0.28.1", "horovod-0.28.1")
    return archive


def test_what_newer_compilers_refuse_is_put_right_and_nothing_else(tmp_path: Path) -> None:
    source = amended_source(archive_of(FILES, tmp_path), tmp_path / "work")
    common, span, other = (source / name for name in FILES)
    assert (common.read_text(), other.read_text()) == (COMMON, SPAN)
    program = tmp_path / "use.cc"
    program.write_text(
        f'#include "{common}"\n#include "{span}"\n'
        "int main() { span<int> a = span<int>(), b = a; a = b; refuse(); return most(); }\n"
    )
    flags = variables_with(tmp_path)["CXXFLAGS"].split()
    for command, good in ([*flags], True), ([], False):
        words = ["g++", "-std=c++17", "-fsyntax-only", *command, str(program)]
        done = subprocess.run(words, capture_output=True, text=True)
        assert (done.returncode == 0) == good, done.stderr


def test_another_version_of_horovod_is_built_as_it_comes(tmp_path: Path) -> None:
    files = {"horovod/common/common.h": "#pragma once\n", "setup.py": "\n"}
    source = amended_source(archive_of(files, tmp_path), tmp_path / "work")
    assert {name: (source / name).read_text() for name in files} == files


def variables_with(tmp_path: Path, **sites: str) -> dict[str, str]:
    commands = Commands(tmp_path / "log", {"PATH": "/usr/bin", "CPATH": "/modules/include"})
    spec = EnvironmentSpec(**{**SPEC.__dict__, "build_variables": tuple(sites.items())})
    return build_variables(spec, Path("/env/bin/python"), "2.21.0", tmp_path, commands)


OURS = (
    *("CXXFLAGS", "MAKEFLAGS", "PATH", "CMAKE_POLICY_VERSION_MINIMUM"),
    *("HOROVOD_WITH_MPI", "HOROVOD_WITH_TENSORFLOW"),
    *("HOROVOD_WITHOUT_GLOO", "HOROVOD_WITHOUT_PYTORCH", "HOROVOD_WITHOUT_MXNET"),
)


def test_the_list_of_our_variables_is_whole(tmp_path: Path) -> None:
    assert set(variables_with(tmp_path)) == set(OURS)


@pytest.mark.parametrize("name", OURS)
def test_a_variable_of_the_site_adds_to_ours(name: str, tmp_path: Path) -> None:
    ours = variables_with(tmp_path)
    value = {"PATH": "/opt/gcc/bin"}.get(name, "-g3" if name.endswith("FLAGS") else "0")
    made = variables_with(tmp_path, **{name: value})
    assert {key: text for key, text in made.items() if key != name} == {
        key: text for key, text in ours.items() if key != name
    }
    if name.endswith("FLAGS"):
        assert made[name] == f"{ours[name]} -g3"
    elif name == "PATH":
        assert made[name] == "/env/bin:/opt/gcc/bin:/usr/bin"
    else:
        assert made[name] == "0"


def test_variables_that_are_none_of_ours_are_the_sites(tmp_path: Path) -> None:
    made = variables_with(tmp_path, CFLAGS="-g", CXX="g++-13", CPATH="/opt/x", NCCL_HOME="/nccl")
    assert (made["CFLAGS"], made["CXX"], made["NCCL_HOME"]) == ("-g", "g++-13", "/nccl")
    assert made["CPATH"] == "/opt/x:/modules/include"


@pytest.mark.parametrize("part", ["GLOO", "PYTORCH", "MXNET", "MPI", "TENSORFLOW"])
def test_a_part_that_the_site_builds_or_leaves_out_is_not_asked_for_both_ways(part: str) -> None:
    for wanted, other in (("WITH", "WITHOUT"), ("WITHOUT", "WITH")):
        name, opposite = f"HOROVOD_{wanted}_{part}", f"HOROVOD_{other}_{part}"
        assert with_sites_own({opposite: "1"}, {name: "1"}, {}) == {name: "1"}
