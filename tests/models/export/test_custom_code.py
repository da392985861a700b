"""Where the classes are found that a model needs and Keras does not know."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpctf.common.paths import EXPORT_SCRIPTS

sys.path.insert(0, EXPORT_SCRIPTS)
from hpctf_answers import Refused
from hpctf_custom import Code

sys.path.remove(EXPORT_SCRIPTS)

TRAIN = """
from parts import layers

class InScript:
    pass

{0}
    raise SystemExit("it trains")
"""

LAYERS = """
from parts import more
from keras.saving import register_keras_serializable

class Scaled:
    by = more.BY

@register_keras_serializable(package="mine", name="other")
def swing(x): ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A training's code, in ``src``; nothing of it stays imported."""
    before, path = set(sys.modules), list(sys.path)
    files = {
        "src/train.py": TRAIN.format('if __name__ == "__main__":'),
        "src/parts/__init__.py": "",
        "src/parts/layers.py": LAYERS,
        "src/parts/more.py": "BY = 3\nclass Twice: ...\n",
        "src/again.py": "class Twice: ...\n",
        "src/broken.py": "class Broken: ...\nopen('data.csv')\n",
        "src/not_python.py": "class (:\n",
        "keras/saving.py": "def register_keras_serializable(**_): return lambda x: x\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_module_that_defines_a_class_is_imported_as_the_training_did(folder: Path) -> None:
    found = Code(str(folder), "src/train.py").defining("Custom>Scaled")
    assert found["Scaled"].by == 3 and found["Scaled"].__module__ == "parts.layers"
    assert "more" not in found and "register_keras_serializable" not in found


def test_a_name_that_it_is_registered_by_will_do(folder: Path) -> None:
    assert "swing" in Code(str(folder), "src/train.py").defining("mine>other")


def test_a_script_is_imported_only_if_that_does_not_train(folder: Path) -> None:
    code = Code(str(folder), "src/train.py")
    assert "InScript" in code.defining("InScript")
    del sys.modules["train"]
    (folder / "src/train.py").write_text(TRAIN.format("if True:"))
    with pytest.raises(Refused, match=r"src/train\.py defines it, and would train again") as no:
        code.defining("InScript")
    assert "--import FILE.py" in no.value.hint


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Twice", r"'Twice', which src/again\.py, src/parts/more\.py define\.$"),
        ("Nowhere", "'Nowhere', which its training's code defines"),
        ("Broken", r"src/broken\.py .* cannot be imported: FileNotFoundError: .*data\.csv"),
    ],
)
def test_what_cannot_be_found_or_imported_is_told(folder: Path, name: str, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        Code(str(folder), "src/train.py").defining(name)
    assert "--import MODULE" in refused.value.hint


def test_modules_and_files_may_be_named(folder: Path) -> None:
    found = Code(str(folder), "src/train.py").named(["parts.layers", str(folder / "src/again.py")])
    assert {"Scaled", "swing", "Twice"} <= set(found)
    with pytest.raises(
        Refused, match="'layerz' cannot be imported from the code on record: Module"
    ):
        Code(str(folder)).named(["layerz"])
    with pytest.raises(Refused, match="and no code on record"):
        Code(None).named(["layerz"])
    with pytest.raises(Refused, match="Keras does not know 'Scaled'"):
        Code(None).defining("Scaled")
