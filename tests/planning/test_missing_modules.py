"""A module that the environment lacks is named before anything is built or queued."""

from __future__ import annotations

import sys
import venv
from pathlib import Path

import pytest

from hpctf.environment.modules_held import package_of
from hpctf.errors import UsageError
from hpctf.planning.missing_modules import ALLOW
from tests.support.projects import planned
from tests.support.stand_in_wheels import make_site

ABSENT = "no_such_module"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment that holds one module, ``held``."""
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, with_pip=False, symlinks=True)
    next(folder.glob("lib/python3*/site-packages")).joinpath("held.py").write_text("")
    return str(folder / "bin/python")


def project(folder: Path, text: str) -> Path:
    (folder / "train.py").write_text(text)
    return folder


def notes(folder: Path, text: str, python: str, **more: object) -> str:
    return "\n".join(planned(project(folder, text), python=python, **more).notes)


def test_what_a_script_needs_at_its_start_is_refused_with_the_way_out(
    tmp_path: Path, python: str
) -> None:
    text = "import os, held\nimport sklearn.svm\nfrom cv2 import imread\n"

    with pytest.raises(UsageError) as refused:
        planned(project(tmp_path, text), python=python)

    assert refused.value.message == (
        f"train.py:2 imports sklearn, and train.py:3 imports cv2, which the Python {python} lacks."
    )
    assert f"{python} -m pip install scikit-learn opencv-python-headless" in str(refused.value)
    assert f"--env {ALLOW}=1" in str(refused.value)
    assert planned(project(tmp_path, text), python=python, environment_variables={ALLOW: "1"})


@pytest.mark.parametrize(
    "text",
    [
        f"try:\n    import {ABSENT}\nexcept ImportError:\n    pass",
        f"import typing\nif typing.TYPE_CHECKING:\n    import {ABSENT}",
        "import held, json, hpctf, azureml.core",
        "import own, package.deep, compiled",
    ],
)
def test_what_needs_nothing_more_is_planned_without_a_word(
    tmp_path: Path, python: str, text: str
) -> None:
    (tmp_path / "own.py").write_text("")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/deep.py").write_text("import held")
    (tmp_path / "compiled.cpython-399-x86_64-linux-gnu.so").write_text("")

    assert ABSENT not in notes(tmp_path, text, python)
    assert "lack" not in notes(tmp_path, text, python)


@pytest.mark.parametrize(
    "text",
    [
        f"def late():\n    import {ABSENT}",
        f"import sys\nif len(sys.argv) > 2:\n    import {ABSENT}",
        f"import sys\nsys.path.insert(0, '/elsewhere')\nimport {ABSENT}",
        f"def late():\n    import own\n# own imports {ABSENT}",
    ],
)
def test_what_a_script_may_come_to_need_is_a_note(tmp_path: Path, python: str, text: str) -> None:
    (tmp_path / "own.py").write_text(f"import {ABSENT}")

    assert f" imports {ABSENT}, which the Python {python} " in notes(tmp_path, text, python)


@pytest.mark.parametrize(
    "text", [f"if __name__ == '__main__':\n    import {ABSENT}", "from own import x"]
)
def test_a_module_of_its_own_is_read_too(tmp_path: Path, python: str, text: str) -> None:
    (tmp_path / "own.py").write_text(f"import {ABSENT}")

    with pytest.raises(UsageError, match=f"py:[12] imports {ABSENT}"):
        planned(project(tmp_path, text), python=python)


def test_pythonpath_counts(tmp_path: Path, python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / f"{ABSENT}.py").write_text("")
    text, path = f"import {ABSENT}", str(tmp_path / "more")

    assert "lack" not in notes(tmp_path, text, python, environment_variables={"PYTHONPATH": path})
    monkeypatch.setenv("PYTHONPATH", path)
    assert "lack" not in notes(tmp_path, text, python)


def test_an_environment_that_is_yet_to_be_built_is_known_by_its_packages(tmp_path: Path) -> None:
    site = make_site(tmp_path, tmp_path / "wheels")
    text = "import tensorflow, numpy, sklearn"

    with pytest.raises(
        UsageError, match=r"imports sklearn, which environment tf2.21-\S+ lacks"
    ) as e:
        planned(project(tmp_path, text), site, framework_version="2.21")
    assert "Add --pip scikit-learn." in str(e.value)

    assert "lack" not in "".join(
        planned(project(tmp_path, text), site, pip_packages=["Scikit_Learn>=1"]).notes
    )
    brought = planned(project(tmp_path, text), site, pip_packages=["imbalanced-learn"]).notes
    assert "may lack. Add --pip scikit-learn." in "".join(brought)


def test_hpctfs_own_python_is_known_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="which hpctf's own Python lacks") as refused:
        planned(project(tmp_path, f"import {ABSENT}, pytest"))
    assert "Add --pip no-such-module: hpctf then builds an environment." in str(refused.value)
    assert planned(project(tmp_path, "import pytest"), python=sys.executable)


def test_an_image_and_modules_hold_what_nobody_sees_here(tmp_path: Path) -> None:
    planned(project(tmp_path, f"import {ABSENT}"), modules=["tensorflow/2.15"], python="python3")


def test_packages_are_named_as_on_the_index() -> None:
    assert package_of("PIL") == "pillow"
    assert package_of("tensorflow_datasets") == "tensorflow-datasets"
