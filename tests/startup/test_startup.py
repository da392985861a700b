"""What runs before a training's script, in every Python: nobody may notice it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hpctf.common.paths import CLIENT, STARTUP
from tests.client.test_run_context import pythons, say

SAY = "import json, sys; print(json.dumps(sorted(sys.modules)))"

FINDERS = "import sys; print([getattr(one, '__name__', '') for one in sys.meta_path])"


def output(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("python", pythons())
def test_a_script_sees_the_path_it_would_see_without(python: str, tmp_path: Path) -> None:
    with_it = output(
        say(python, path=[STARTUP, tmp_path, CLIENT], code="import sys; print(sys.path)")
    )
    without = output(say(python, path=[tmp_path, CLIENT], code="import sys; print(sys.path)"))
    assert with_it == without


@pytest.mark.parametrize("python", pythons())
def test_it_watches_what_is_imported(python: str) -> None:
    assert "Watch" in output(say(python, path=[STARTUP, CLIENT], code=FINDERS))


@pytest.mark.parametrize("python", pythons())
@pytest.mark.parametrize("place", ["before", "behind"])
def test_the_environments_own_sitecustomize_runs_as_ever(
    python: str, place: str, tmp_path: Path
) -> None:
    """As EasyBuild's does: on PYTHONPATH, adding to sys.path."""
    own = "import sys\nsys.path.append('/of/the/site')\nOWN = __name__\n"
    (tmp_path / "sitecustomize.py").write_text(own)
    path = {"before": [STARTUP, tmp_path, CLIENT], "behind": [STARTUP, CLIENT, tmp_path]}[place]
    code = FINDERS + "; import sitecustomize; print(sitecustomize.OWN, '/of/the/site' in sys.path)"
    said = output(say(python, path=list(path), code=code)).splitlines()
    assert "Watch" in said[0]
    assert said[1] == "sitecustomize True"


@pytest.mark.parametrize("python", pythons())
def test_a_sitecustomize_that_fails_fails_as_without(python: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import what_is_not_there\n")
    with_it = say(python, path=[STARTUP, tmp_path], code="print('goes on')")
    without = say(python, path=[tmp_path], code="print('goes on')")
    assert (with_it.returncode, with_it.stdout) == (without.returncode, without.stdout)
    assert with_it.stdout == "goes on\n"
    assert with_it.stderr.splitlines()[-1] == without.stderr.splitlines()[-1]


def test_it_loads_nothing_else() -> None:
    before = json.loads(output(say(sys.executable, path=[CLIENT], code=SAY)))
    after = json.loads(output(say(sys.executable, path=[STARTUP, CLIENT], code=SAY)))
    assert set(after) - set(before) <= {"sitecustomize"}


FAKE = {
    "horovod/__init__.py": "",
    "horovod/keras.py": "from keras import backend as K\n",
    "horovod/tensorflow/__init__.py": "",
    "horovod/tensorflow/keras/__init__.py": (
        "from keras import backend as K\nfrom horovod.tensorflow.keras import callbacks\n"
    ),
    "horovod/tensorflow/keras/callbacks.py": "from keras import backend as K\n",
    "keras/__init__.py": "__version__ = '{keras}'\nbackend = 'of keras'\nclass Model: pass\n",
    "tf_keras/__init__.py": (
        "__version__ = '2.21.0'\nbackend = 'of tf_keras'\n"
        "class Model: __module__ = 'tf_keras.src.engine.training'\n"
    ),
    "tensorflow/__init__.py": "import {package} as keras\n",
}
"""Stand-ins that have what the guard looks at; tests/client/keras has the real ones."""

TRY = (
    "try:\n    import {name} as hvd\n    print(hvd.K, hvd.__loader__.__class__.__name__)\n"
    "except ImportError as error:\n    print(error)\n"
)


@pytest.fixture
def fakes(tmp_path: Path) -> Path:
    return tmp_path / "site"


def fill(folder: Path, **versions: str) -> None:
    for name, text in FAKE.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(**versions) if "{" in text else text)


@pytest.mark.parametrize("python", pythons())
@pytest.mark.parametrize("name", ["horovod.keras", "horovod.tensorflow.keras"])
def test_under_keras_3_it_names_the_line_to_change(python: str, name: str, fakes: Path) -> None:
    fill(fakes, keras="3.4.1", package="keras")
    path = [STARTUP, fakes, CLIENT]
    said = output(say(python, path=list(path), code=TRY.format(name=name)))
    assert said.startswith(f"{name} does not average gradients under Keras 3 (here 3.4.1)")
    flag, line = said.index("--env TF_USE_LEGACY_KERAS=1"), said.index("import hpctf.keras as hvd")
    assert flag < line < said.index("take experimental_run_tf_function out of model.compile")
    assert "pip install --no-deps 'tf-keras'" in said, "there is none"
    code = "import os; os.environ['HPCTF_ALLOW_HOROVOD_KERAS'] = '1'\n" + TRY.format(name=name)
    assert output(say(python, path=list(path), code=code)) == "of keras SourceFileLoader\n"


IN_A_RUN = {
    "HPCTF_BACKEND": "mpi",
    "HPCTF_WORLD_SIZE": "2",
    "HPCTF_ROLE": "worker",
    "HPCTF_INDEX": "1",
}

SWALLOWS = {
    "a fallback": "try:\n    import {name} as hvd\nexcept:\n    hvd = None\n",
    "a thread": (
        "import threading\ndef load():\n    import {name}\n"
        "thread = threading.Thread(target=load)\nthread.start()\nthread.join()\n"
    ),
    "a cleared environment": (
        "import os\nos.environ.clear()\ntry:\n    import {name} as hvd\n"
        "except BaseException:\n    hvd = None\n"
    ),
    "a name": (
        "from importlib import import_module\nfrom contextlib import suppress\n"
        "with suppress(ImportError):\n    import_module('{name}')\n"
    ),
    "a hook": (
        "import sys\nsys.excepthook = lambda *error: None\nsys.stderr.close()\n"
        "try:\n    import {name}\nfinally:\n    sys.exit(0)\n"
    ),
}


@pytest.mark.parametrize("python", pythons())
@pytest.mark.parametrize("way", SWALLOWS)
@pytest.mark.parametrize("name", ["horovod.keras", "horovod.tensorflow.keras"])
def test_no_script_can_swallow_the_refusal_and_train_alone(
    python: str, name: str, way: str, fakes: Path
) -> None:
    fill(fakes, keras="3.4.1", package="keras")
    code = "print('begins')\n" + SWALLOWS[way].format(name=name) + "print('trains alone')\n"
    done = say(python, path=[STARTUP, fakes, CLIENT], code=code, **IN_A_RUN)
    assert (done.returncode, done.stdout) == (78, "begins\n")
    if way != "a hook":
        assert done.stderr.startswith(f"hpctf: refused: {name} does not average gradients")
        assert done.stderr.count("\n") == 1


STREAMS = {
    "redirected": "os.dup2(os.open(os.devnull, os.O_WRONLY), 2)",
    "closed": "sys.stdout.close(); sys.stderr.close(); os.close(2)",
    "replaced": "sys.stdout = sys.stderr = None",
    "hostile": (
        "class Stream:\n"
        "    def write(self, text): sys.exit(0)\n"
        "    flush = write\n"
        "sys.stdout = sys.stderr = Stream()"
    ),
}


@pytest.mark.parametrize("way", STREAMS)
def test_the_sentence_reaches_the_log_whatever_a_script_does_to_its_streams(
    way: str, fakes: Path, tmp_path: Path
) -> None:
    fill(fakes, keras="3.4.1", package="keras")
    log = tmp_path / "run/logs/worker-1.log"
    log.parent.mkdir(parents=True)
    log.write_text("begins\n")
    code = f"import os, sys\n{STREAMS[way]}\nimport horovod.keras\n"
    where = {**IN_A_RUN, "HPCTF_RUN_FOLDER": str(tmp_path / "run")}
    done = say(sys.executable, path=[STARTUP, fakes, CLIENT], code=code, **where)
    assert done.returncode == 78
    first, second = log.read_text().splitlines()
    assert first == "begins" and second.startswith("hpctf: refused: horovod.keras does not average")


@pytest.mark.parametrize("python", pythons())
def test_with_tf_keras_the_backend_is_put_right(python: str, fakes: Path) -> None:
    fill(fakes, keras="3.4.1", package="tf_keras")
    code = TRY.format(name="horovod.tensorflow.keras") + "print(hvd.callbacks.K)\n"
    said = output(say(python, path=[STARTUP, fakes, CLIENT], code=code))
    assert said == "of tf_keras SourceFileLoader\nof tf_keras\n"
    code = TRY.format(name="horovod.keras")
    assert "write: import horovod.tensorflow.keras as hvd" in output(
        say(python, path=[STARTUP, fakes, CLIENT], code=code)
    )


@pytest.mark.parametrize("name", ["horovod.keras", "horovod.tensorflow.keras"])
def test_with_keras_2_nothing_is_changed(name: str, fakes: Path) -> None:
    fill(fakes, keras="2.15.0", package="keras")
    code = TRY.format(name=name)
    said = output(say(sys.executable, path=[STARTUP, fakes, CLIENT], code=code))
    assert said == "of keras SourceFileLoader\n"


def test_who_asks_whether_horovod_is_there_gets_the_right_answer(fakes: Path) -> None:
    code = "from importlib.util import find_spec; print(find_spec('horovod') is not None)"
    assert output(say(sys.executable, path=[STARTUP, CLIENT], code=code)) == "False\n"
    fill(fakes, keras="3.4.1", package="keras")
    code = "from importlib.util import find_spec; print(find_spec('horovod.keras').origin)"
    said = output(say(sys.executable, path=[STARTUP, fakes], code=code))
    assert said == f"{fakes}/horovod/keras.py\n"


@pytest.mark.parametrize("python", pythons())
def test_hpctf_keras_imports_nothing_before_it_is_used(python: str) -> None:
    code = (
        "import sys, hpctf.keras as hvd\nfrom hpctf import keras\nassert keras is hvd\n"
        "assert not {'tensorflow', 'keras', 'horovod'} & set(sys.modules)\n"
        "print(hvd.__file__, 'DistributedOptimizer' in dir(hvd))"
    )
    said = output(say(python, "-S", path=[CLIENT], code=code))
    assert said == f"{CLIENT}/hpctf/keras/__init__.py True\n"


def test_an_installed_hpctf_has_the_very_same_file() -> None:
    code = "import hpctf; print(hpctf.__file__, hpctf.keras.__name__, hpctf.keras.__file__)"
    root = Path(CLIENT).parent.parent
    said = output(say(sys.executable, path=[root], code=code)).split()
    assert said == [f"{root}/hpctf/__init__.py", "hpctf.keras", f"{CLIENT}/hpctf/keras/__init__.py"]
