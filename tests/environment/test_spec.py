"""What is asked for becomes one description, and its content a name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hpctf import TensorFlow
from hpctf.environment import resolve as asked_module
from hpctf.environment.indexes import indexes_of
from hpctf.environment.interpreters import _found_here
from hpctf.environment.requirements import Reader, Sources
from hpctf.environment.resolve import spec_of
from hpctf.environment.spec import EnvironmentSpec, spec_from
from hpctf.environment.toolchain import mpi_of
from hpctf.errors import SiteError, UsageError
from hpctf.site.loading import load_site
from hpctf.site.model import EnvironmentSettings
from tests.support.built import OLDER_TENSORFLOW as OLDER
from tests.support.stand_in_wheels import OLDER_VERSION, ask, make_site, make_wheel


def key_of(site: Path, **asked: Any) -> str:
    return ask(site, **asked)[0].key


def refusal(site: Path, **asked: Any) -> str:
    with pytest.raises((UsageError, SiteError)) as caught:
        ask(site, **asked)
    return str(caught.value)


def test_a_name_says_tensorflow_python_and_mpi(site: Path) -> None:
    spec, _ = ask(site, framework_version=OLDER, mpi=True)
    short = ".".join(spec.python_version.split(".")[:2])
    assert spec.key.startswith(f"tf{OLDER}-py{short}-mpi-")
    assert (spec.horovod, spec.tensorflow) == ("0.28.1", f"tensorflow-cpu=={OLDER}.*")
    assert "Open MPI" in spec.mpi


def test_the_order_of_packages_does_not_matter(site: Path) -> None:
    assert key_of(site, pip_packages=("a", "b>=1,<2")) == key_of(
        site, pip_packages=("b <2, >=1", "a")
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"pip_packages": ("a", "b")},
        {"pip_packages": ("a==1",)},
        {"framework_version": OLDER},
        {"framework_version": "2.21.0"},
        {"gpu": True},
        {"mpi": True},
    ],
    ids=str,
)
def test_whatever_differs_has_another_name(site: Path, changed: dict[str, Any]) -> None:
    assert key_of(site, **{"pip_packages": ("a",), **changed}) != key_of(site, pip_packages=("a",))


@pytest.mark.parametrize(
    "field",
    ["python", "python_version", "mpi", "modules", "channels", "machine", "build_variables"],
)
def test_another_python_mpi_or_module_is_another_environment(field: str) -> None:
    one = EnvironmentSpec("pip", "3.11.2", "/usr/bin/python3.11", horovod="0.28.1", mpi="A 4.1")
    value: Any = {
        "python": "/opt/python3.11",
        "python_version": "3.11.3",
        "mpi": "A 4.1.5",
        "machine": "aarch64",
        "build_variables": (("CXX", "g++-12"),),
    }.get(field, ("x",))
    other = EnvironmentSpec(**{**one.__dict__, field: value})
    assert one.key != other.key


def test_a_spec_goes_through_json(site: Path) -> None:
    spec, _ = ask(site, pip_packages=("a[x]>=1 ; python_version > '3'",), mpi=True)
    again = spec_from(json.loads(json.dumps(spec.as_json())))
    assert (again, again.key) == (spec, spec.key)
    with pytest.raises(UsageError, match="no environment's description"):
        spec_from({"kind": "pip", "colour": "blue"})


def test_an_estimator_without_packages_has_no_environment_to_build(site: Path) -> None:
    assert spec_of(TensorFlow(function=print, distributed_backend="mpi"), load_site(site)) is None


def test_an_estimators_files_are_seen_from_its_source_folder(site: Path, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/train.py").write_text("")
    (tmp_path / "src/needs.txt").write_text("tiny\n")
    estimator = TensorFlow(
        tmp_path / "src", entry_script="train.py", pip_requirements_file="needs.txt"
    )
    spec = spec_of(estimator, load_site(site))
    assert spec is not None and spec.pip == ("tiny", "tensorboard")


@pytest.mark.parametrize(
    ("asked", "pip", "tensorflow", "version"),
    [
        ({}, ("tensorboard",), "tensorflow-cpu==2.21.*", "2.21"),
        ({"gpu": True}, ("tensorboard",), "tensorflow[and-cuda]==2.21.*", "2.21"),
        ({"framework_version": OLDER_VERSION}, (), f"tensorflow-cpu=={OLDER_VERSION}", OLDER),
        ({"pip_packages": ("tensorflow==2.20.0",)}, ("tensorflow==2.20.0",), None, "2.20"),
        ({"pip_packages": ("tensorflow",)}, ("tensorflow", "tensorboard"), None, ""),
        ({"pip_packages": ("tb-nightly",)}, ("tb-nightly",), "tensorflow-cpu==2.21.*", "2.21"),
        ({"pip_packages": ("tf_nightly",)}, ("tf_nightly",), None, ""),
        ({"pip_packages": ("tiny",)}, ("tiny", "tensorboard"), "tensorflow-cpu==2.21.*", "2.21"),
    ],
    ids=str,
)  # fmt: skip
def test_tensorflow_is_added_unless_it_is_named(
    site: Path, asked: dict[str, Any], pip: tuple[str, ...], tensorflow: str, version: str
) -> None:
    spec, _ = ask(site, **asked)
    assert (spec.pip, spec.tensorflow, spec.tensorflow_version) == (pip, tensorflow, version)


def test_the_sites_tensorflow_comes_before_hpctfs(site: Path, wheels: Path) -> None:
    make_site(site.parent, wheels, tensorflow="tensorflow-rocm")
    assert ask(site, gpu=True)[0].tensorflow == "tensorflow-rocm==2.21.*"


@pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="TensorFlow 2.18, the newest with it, is for Python 3.12"
)
def test_gpu_horovod_takes_the_newest_tensorflow_that_it_can_be_built_for(
    site: Path, wheels: Path
) -> None:
    make_site(site.parent, wheels, horovod={"gpu_operations": "NCCL"})
    assert ask(site, mpi=True, gpu=True)[0].tensorflow == "tensorflow[and-cuda]==2.18.*"
    said = refusal(site, mpi=True, gpu=True, framework_version="2.21")
    assert "for TensorFlow 2.18 or older, not for 2.21" in said
    assert "framework_version='2.18'" in said


def test_horovod_in_the_packages_is_built_by_hpctf(site: Path) -> None:
    spec, _ = ask(site, pip_packages=("horovod[tensorflow]==0.28.0", "tiny"), mpi=True)
    assert (spec.pip, spec.horovod) == (("tiny", "tensorboard"), "0.28.0")
    assert "takes an exact version" in refusal(site, pip_packages=("horovod>=0.27",), mpi=True)


def test_one_version_of_tensorflow_is_said_once(site: Path) -> None:
    said = refusal(site, pip_packages=("tensorflow==2.21.0",), framework_version=OLDER)
    assert f"framework_version is '{OLDER}', but the packages say 'tensorflow==2.21.0'" in said
    spec, _ = ask(site, pip_packages=("tensorflow",), framework_version=OLDER)
    assert (spec.constraints, spec.tensorflow_version) == ((f"tensorflow=={OLDER}.*",), OLDER)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("latest", "must be a version of TensorFlow"),
        ("1.15", "2.2 is the oldest"),
        ("2", "must be a version of TensorFlow"),
    ],
)
def test_a_framework_version_that_cannot_be(site: Path, version: str, words: str) -> None:
    assert words in refusal(site, framework_version=version)


@pytest.mark.parametrize(
    "package", ["tensorflow-gpu", "tensorflow_gpu>=2", "tensorflow-gpu==2.0.0"]
)
def test_tensorflow_gpu_is_a_part_of_tensorflow_now(site: Path, package: str) -> None:
    said = refusal(site, pip_packages=(package,))
    assert package in said and "'tensorflow[and-cuda]'" in said
    own = ask(site, pip_packages=("tensorflow-gpu==2.4.1",), conda_packages=("python=3.8",))[0]
    assert (own.tensorflow, own.tensorflow_version) == (None, "2.4")


def test_a_python_that_tensorflow_has_no_packages_for(site: Path) -> None:
    said = refusal(site, framework_version="2.10", python_version="3.11")
    assert said == "python_version is 3.11, but TensorFlow 2.10 needs Python 3.8 to 3.10."
    assert "3.8 or later" in refusal(site, python_version="3.6")
    assert "such as '3.11'" in refusal(site, python_version="three")


@pytest.mark.parametrize("version", ["2.22", "2.100", "3.0", ""])
def test_a_tensorflow_that_nothing_is_known_of_yet_takes_any_newer_python(
    site: Path, version: str
) -> None:
    """Whether there are packages for it, the installer finds out."""
    asked = {"framework_version": version} if version else {"pip_packages": ("tensorflow>=2",)}
    assert "There is no Python 3.99 here" in refusal(site, python_version="3.99", **asked)
    if version:
        said = refusal(site, python_version="3.9", **asked)
        assert said.endswith(f"TensorFlow {version} needs Python 3.10 or later.")


def test_interpreters_are_found_by_any_version_in_their_name(tmp_path: Path) -> None:
    for name in ("python3.9", "python3.14", "python3.20", "python3.14-config", "python3.14t"):
        (tmp_path / name).symlink_to(sys.executable)
    found = [Path(path).name for path in _found_here({"PATH": str(tmp_path)})]
    named = [name for name in found if (tmp_path / name).exists()]
    assert named[:3] == ["python3.20", "python3.14", "python3.9"]


def test_a_python_that_is_not_here_is_refused_with_those_that_are(site: Path) -> None:
    said = refusal(site, python_version="3.11.99")
    assert "There is no Python 3.11.99 here. Found: " in said
    assert "/usr/bin/python3" in said
    assert "environments.pythons" in said


def test_no_mpi_is_refused_where_building_happens_here(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mpi_of({"PATH": "/nonexistent"}) == ""
    monkeypatch.setattr(asked_module, "mpi_of", lambda environment: "")
    assert "no mpicc on PATH" in refusal(site, mpi=True)


REFUSED = {
    "tiny==": "needs.txt:2: 'tiny==' is no requirement",
    "not a requirement": "needs.txt:2: 'not a requirement' is no requirement",
    "-e .": "needs.txt:2: an editable package changes",
    "--find-link x": "needs.txt:2: hpctf does not know the option '--find-link'. Did you mean",
    "-r more.txt": "needs.txt:2: the requirements file",
    "-r https://x.org/r.txt": "only files of this machine are read",
    "./nowhere": "nowhere' does not exist",
    "https://x.org/a-1.tar.gz": "does not say which package it is",
    "tiny --global-option=x": "only --hash=ALGORITHM:DIGEST may stand",
    "-r needs.txt": "includes itself",
    "--index-url": "must be one option with its value",
}


@pytest.mark.parametrize("line", REFUSED)
def test_a_wrong_line_is_refused_with_its_place(site: Path, line: str) -> None:
    (site.parent / "needs.txt").write_text(f"tiny # fine\n{line}\n")
    said = refusal(site, pip_requirements_file="needs.txt")
    assert REFUSED[line] in said
    assert f"{site.parent}/needs.txt:2" in said
    assert not (site.parent / "store").exists()


def test_a_file_that_is_not_there_or_not_text(site: Path) -> None:
    assert "needs.txt does not exist" in refusal(site, pip_requirements_file="needs.txt")
    (site.parent / "needs.txt").write_bytes(b"tiny\n\xff\xfe\n")
    said = refusal(site, pip_requirements_file="needs.txt")
    assert "needs.txt:2 cannot be read: byte 0xff is not UTF-8" in said


def test_a_wrong_package_of_a_list_is_named_by_its_place(site: Path) -> None:
    assert "pip_packages[1]: 'b==' is no requirement" in refusal(site, pip_packages=("a", "b=="))
    assert "pip_packages[0] is '-r x.txt'" in refusal(site, pip_packages=("-r x.txt",))


def test_a_requirements_file_with_all_that_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    wheel = make_wheel(tmp_path / "sub", "local", "1.0")
    (tmp_path / "needs.txt").write_text(
        "# all of it\n"
        "--index-url https://${TOKEN}@pypi.example/simple\n"
        "--extra-index-url=https://more.example/simple\n"
        "-f wheels\n--pre\n--no-binary mpi4py\n"
        "-r sub/more.txt\n-c limits.txt\n"
        "a == 1.0 \\\n    --hash=sha256:00ff \\\n    --hash=sha256:0123\n"
        "b[x] ; python_version < '4'   # a comment\n"
    )
    (tmp_path / "sub/more.txt").write_text(f"./{wheel.name}\nc @ git+https://x.org/c.git\n")
    (tmp_path / "limits.txt").write_text("numpy<2\n")
    reader = Reader()
    reader.file(tmp_path / "needs.txt")
    found = reader.found()
    assert found.lines == (
        f"local @ {wheel.as_uri()}",
        "c @ git+https://x.org/c.git",
        "a==1.0 --hash=sha256:00ff --hash=sha256:0123",
        'b[x]; python_version < "4"',
    )
    assert found.constraints == ("numpy<2",)
    assert found.hashes
    assert [path for path, _ in found.local] == [str(wheel)]
    assert found.sources == Sources(
        "https://secret@pypi.example/simple",
        ("https://more.example/simple",),
        (str(tmp_path / "wheels"),),
        pre=True,
        no_binary=("mpi4py",),
    )


def test_what_an_included_file_says_is_part_of_the_name(site: Path) -> None:
    (site.parent / "needs.txt").write_text("-r more.txt\n")
    keys = []
    for text in ("tiny\n", "tiny==1.0\n"):
        (site.parent / "more.txt").write_text(text)
        keys.append(key_of(site, pip_requirements_file="needs.txt"))
    assert keys[0] != keys[1]


def test_hashes_need_uv(site: Path, wheels: Path) -> None:
    make_site(site.parent, wheels, pip="pip")
    (site.parent / "needs.txt").write_text("tiny==1.0 --hash=sha256:00\n")
    assert "environments.pip: uv" in refusal(site, pip_requirements_file="needs.txt")


CONDA = {
    "dependencies: numpy": "environment.yml:1: dependencies must be a list",
    "dependencies:\n- 'num py ! 3'": "environment.yml:2: 'num py ! 3' is not a conda package",
    "dependencies:\n- numpy\nvariables: [A]": "environment.yml:3: variables must map names",
    "variables:\n  HF_TOKEN: abc": "environment.yml:2: the variable HF_TOKEN looks like a secret",
    "variables:\n  A: https://me:secret@host/": "environment.yml:2: the variable A looks like",
    "dependencies:\n- pip:\n  - 'tiny=='": "environment.yml:3: 'tiny==' is no requirement",
    "dependencies:\n- python>=3.9": "hpctf needs to know which Python",
    "- numpy": "is not a mapping",
    "dependencies: [": "cannot be read",
    "dependency: [numpy]": "Did you mean 'dependencies'?",
}


@pytest.mark.parametrize("text", CONDA)
def test_a_wrong_conda_file_is_refused_with_its_place(site: Path, text: str) -> None:
    (site.parent / "environment.yml").write_text(text)
    assert CONDA[text] in refusal(site, conda_dependencies_file="environment.yml")


def test_a_file_that_conda_exported_keeps_every_build(site: Path) -> None:
    (site.parent / "environment.yml").write_text(
        "channels: [../shared, conda-forge]\ndependencies:\n- _libgcc_mutex=0.1=conda_forge\n"
        "- python=3.11.5=hab00c5b_0_cpython\n- ./own::numpy=1.26.0=py311h64a7726_0\n"
    )
    spec, _ = ask(site, conda_dependencies_file="environment.yml")
    assert spec.python_version == "3.11.5"
    assert spec.conda == (
        "_libgcc_mutex=0.1=conda_forge",
        "python=3.11.5=hab00c5b_0_cpython",
        f"{site.parent}/own::numpy=1.26.0=py311h64a7726_0",
    )
    assert spec.channels == (f"{site.parent.parent}/shared", "conda-forge")


@pytest.mark.parametrize(
    "changed",
    [
        {"channel_priority": "strict"},
        {"virtual_packages": (("cuda", "12.4"),)},
        {"variables": (("A", "b"),)},
    ],
)
def test_what_changes_a_conda_environment_changes_its_name(changed: dict[str, Any]) -> None:
    one = EnvironmentSpec("conda", "3.11", conda=("numpy",), channel_priority="flexible")
    assert EnvironmentSpec(**{**one.__dict__, **changed}).key != one.key


def test_conda_packages_and_their_python(site: Path) -> None:
    spec, _ = ask(site, conda_packages=("python=3.10", "bioconda::samtools>=1.3", "numpy=1.26"))
    assert (spec.kind, spec.python_version) == ("conda", "3.10")
    assert spec.conda == ("bioconda::samtools>=1.3", "numpy=1.26")
    assert spec.channels == ("conda-forge",)
    said = refusal(site, conda_packages=("python=3.10",), python_version="3.11")
    assert "python_version is '3.11', but the conda packages say python=3.10" in said
    assert ask(site, conda_packages=("tensorflow=2.18",))[0].tensorflow is None


def test_uv_is_told_what_pip_is_told(tmp_path: Path) -> None:
    """uv does not read pip's configuration; people are set up for pip."""
    (tmp_path / "certificate.pem").write_text("")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "pip.conf").write_text(
        "[global]\nextra-index-url = https://one.example https://two.example\n"
        f"cert = {tmp_path}/certificate.pem\n[install]\nfind-links = {tmp_path}/wheels /gone\n"
    )
    environment = {
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_INDEX_URL": "https://mine.example/simple",
        "PIP_DEFAULT_TIMEOUT": "180",
    }
    found = indexes_of(Sources(), EnvironmentSettings(), environment)
    words = " ".join(found.words)
    assert words.startswith("--index-url https://mine.example/simple --extra-index-url")
    assert "--extra-index-url https://one.example --extra-index-url https://two.example" in words
    assert f"--find-links {tmp_path}/wheels" in words and "/gone" not in words
    assert found.variables["SSL_CERT_FILE"] == f"{tmp_path}/certificate.pem"
    assert found.variables["UV_HTTP_TIMEOUT"] == "180"


def test_a_file_comes_before_the_site_and_the_site_before_pips_configuration() -> None:
    settings = EnvironmentSettings(index_url="https://site.example", proxy="http://proxy:3128")
    environment = {"PIP_INDEX_URL": "https://mine.example", "PIP_CONFIG_FILE": "/dev/null"}
    found = indexes_of(Sources(), settings, environment)
    assert found.words == ("--index-url", "https://site.example")
    assert found.variables["HTTPS_PROXY"] == found.variables["http_proxy"] == "http://proxy:3128"
    of_file = indexes_of(Sources(index_url="https://file.example"), settings, environment)
    assert of_file.words == ("--index-url", "https://file.example")
