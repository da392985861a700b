"""Which environment a script gets that nobody has named one for: its imports tell."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, TensorFlow
from hpctf.environment.libraries import missing_from
from hpctf.estimator.script_imports import imports_of, imports_of_entry
from tests.support.projects import hpctf, planned


def write(folder: Path, **files: str) -> Path:
    """Write modules, ``a__b`` being ``a/b.py``, and return the folder."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def imports(folder: Path) -> set[str]:
    return imports_of(folder / "train.py", folder).top_level


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import tensorflow as tf, os", {"tensorflow", "os"}),
        ("from tensorflow.keras import layers", {"tensorflow"}),
        ("def main():\n    import horovod.tensorflow as hvd", {"horovod"}),
        ("try:\n    import wandb\nexcept ImportError:\n    wandb = None", set()),
        ("try:\n    pass\nfinally:\n    import keras", {"keras"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import keras", {"typing"}),
        ("# import tensorflow\n'import keras'", set()),
        ("print 'Python 2'", set()),
        ("\0", set()),
    ],
)
def test_what_a_script_imports(tmp_path: Path, text: str, found: set[str]) -> None:
    assert imports(write(tmp_path, train=text)) == found


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    import horovod.keras\nexcept ImportError:\n    pass",
        "try:\n    pass\nexcept ValueError:\n    import horovod.keras",
        "def f():\n    try:\n        if 1:\n            from horovod import keras\n    except: 0",
        "import contextlib\nwith contextlib.suppress(ImportError):\n    import horovod.keras",
        "from importlib import import_module as load\ntry:\n    h = load('horovod.keras')\n"
        "except Exception:\n    h = None",
        "try:\n    import helper\nexcept ImportError:\n    helper = None",
        "try:\n    from model import deep\nexcept ImportError:\n    deep = None",
        "import importlib\ntry:\n    importlib.import_module('.deep', package='model')\n"
        "except ImportError: pass",
    ],
)
def test_what_a_script_may_do_without_is_known_apart(tmp_path: Path, text: str) -> None:
    write(
        tmp_path,
        train=text,
        helper="import horovod.keras",
        model____init__="",
        model__deep="from horovod.keras import callbacks",
    )
    found = imports_of(tmp_path / "train.py", tmp_path)
    assert found.first_import("horovod") is None
    assert found.first_attempt("horovod.keras") is not None


@pytest.mark.parametrize(
    "text",
    [
        "import importlib\nimportlib.import_module('horovod.keras')",
        "import importlib as i\nmodule = i.import_module(name='horovod.keras')",
        "hvd = __import__('horovod.keras', fromlist=['keras'])",
        "import runpy\nrunpy.run_module('helper', run_name='__main__')",
        "from importlib import import_module\nNAME = 'horovod.keras'\nimport_module(NAME)",
        "try:\n    import helper\nexcept ImportError:\n    pass\nimport helper",
        "try:\n    pass\nexcept ImportError:\n    pass\nelse:\n    import horovod.keras",
    ],
)
def test_an_import_by_its_name_is_one(tmp_path: Path, text: str) -> None:
    write(tmp_path, train=text, helper="import horovod.keras")
    found = imports_of(tmp_path / "train.py", tmp_path)
    assert found.first_import("horovod.keras") is not None


def test_names_that_do_not_stand_in_the_text_tell_nothing(tmp_path: Path) -> None:
    text = "import importlib, sys\nNAME = 'a'\nNAME = 'b'\n"
    text += "importlib.import_module(NAME)\nimportlib.import_module(sys.argv[1])\n"
    assert imports(write(tmp_path, train=text)) == {"importlib", "sys"}


def test_modules_of_its_own_are_followed(tmp_path: Path) -> None:
    write(
        tmp_path,
        train="import helper\nfrom model import deep\nimport helper",
        helper="import train, numpy",
        model____init__="",
        model__deep="from . import deeper\nfrom .. import outside",
        model__deeper="import tensorflow",
    )
    assert imports(tmp_path) == {"numpy", "tensorflow"}


def test_a_module_of_its_own_is_not_the_installed_one(tmp_path: Path) -> None:
    write(tmp_path, train="import horovod", horovod="hvd = None")
    assert imports(tmp_path) == set()


@pytest.fixture(params=[False, True], ids=["without TensorFlow", "with TensorFlow"])
def has_tensorflow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Let hpctf's own Python have TensorFlow and Horovod, or not, whatever the tests' own has."""
    have: bool = request.param
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if have else None)
    return have


def asked(folder: Path, **more: Any) -> list[str]:
    estimator = TensorFlow(str(folder), entry_script="train.py", **more)
    return missing_from(estimator, lambda: imports_of_entry(estimator))


def test_tensorflow_is_missing_where_hpctfs_own_python_has_none(
    tmp_path: Path, has_tensorflow: bool
) -> None:
    write(tmp_path, train="import tensorflow, horovod.tensorflow, sklearn")
    for_mpi = [] if has_tensorflow else ["tensorflow", "horovod"]
    assert asked(tmp_path, distributed_backend="mpi") == for_mpi
    assert asked(tmp_path) == for_mpi[:1]
    assert asked(tmp_path, python=sys.executable) == []
    assert asked(tmp_path, user_managed=True) == []
    assert asked(tmp_path, modules=["tensorflow/2.15"]) == []


def test_the_seeds_horovod_call_gets_an_environment_and_says_so(
    tmp_path: Path, has_tensorflow: bool
) -> None:
    estimator = TensorFlow(
        source_directory=str(write(tmp_path, train="import tensorflow as tf\nimport horovod")),
        script_params={},
        entry_script="train.py",
        node_count=2,
        process_count_per_node=1,
        distributed_backend="mpi",
        use_gpu=True,
    )
    planned = Experiment("seed", site="slurm", runs_root=tmp_path / "runs").plan(estimator)
    told = [note for note in planned.notes if "no tensorflow and no horovod" in note]
    if has_tensorflow:
        assert planned.spec is None and planned.plan.entry.python == sys.executable
        assert told == []
    else:
        assert planned.spec is not None and planned.spec.horovod and planned.spec.gpu
        assert planned.spec.key in told[0] and planned.spec.key in planned.plan.entry.python


def test_a_script_without_tensorflow_runs_with_hpctfs_own_python(tmp_path: Path) -> None:
    write(tmp_path, train="print(1)")
    done = hpctf("submit", "--site", "slurm", "--dry-run", "--json", "train.py", cwd=tmp_path)
    assert sys.executable in done.stdout and "environments/" not in done.stdout
    assert "own Python" not in done.stderr


ALONE = "does not look at its rank: each of its 2 ranks would train a model of its own"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import tensorflow", True),
        ("from tensorflow import keras", True),
        ("import keras", True),
        ("import tensorflow\ntry:\n    import horovod.tensorflow\nexcept: pass", False),
        ("import tensorflow\nfrom mpi4py import MPI", False),
        ("import tensorflow, hpctf.keras as hvd", False),
        ("import tensorflow, os\nmine = os.environ['SLURM_PROCID']", False),
        ("import os", False),
    ],
)
def test_a_script_that_would_train_alone_on_each_rank_is_told_so(
    tmp_path: Path, text: str, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The Python of the tests has no TensorFlow.
    monkeypatch.setenv("HPCTF_ALLOW_MISSING_MODULES", "1")
    folder = write(tmp_path / "proj", train=text)
    on_mpi = {"python": sys.executable, "distributed_backend": "mpi"}
    notes = planned(folder, node_count=2, **on_mpi).notes
    assert any(ALONE in note for note in notes) == told
    assert not any("model of its own" in note for note in planned(folder, **on_mpi).notes)
