"""What hpctf refuses a script by an exception cannot be passed over: its run does not complete."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import pytest

from hpctf.common.paths import CLIENT, STARTUP
from hpctf.node.conclude import passed_over
from hpctf.run_folder.rank_states import read_ranks
from tests.client.test_run_context import pythons, say
from tests.conftest import ROOT
from tests.startup.test_keras_choice import environment
from tests.support.mpi_ranks import environ

WAYS = {
    "an exception": "try:\n{body}\nexcept BaseException as error:\n    print(error)\n",
    "all": "try:\n{body}\nexcept:\n    pass\n",
    "suppressed": "from contextlib import suppress\nwith suppress(BaseException):\n{body}\n",
    "a finally": "try:\n{body}\nfinally:\n    os._exit(0)\n",
}

OPTIMIZER = """
import tensorflow, types
sys.modules["keras"] = types.ModuleType("keras")
sys.modules["keras"].__version__ = "3.15.1"
Adam = type("Adam", (), {"__module__": "keras.src.optimizers"})
from hpctf.distribution.single import refuse_keras_3
refuse_keras_3(Adam(), "ps")
"""

BODIES = {
    "import azureml.train.dnn": "azureml.train is not there in a run of hpctf",
    "from azureml.core import Run, Workspace": "there is no workspace on a cluster",
    "from azureml.core import Run\nRun.get_context().register_model('m')": "within a container",
    "from azureml.core import Run\nRun.get_context().experiment.workspace": "no workspace",
    "from azureml.core import Run\nRun.get_context().fail('no luck')": "Run.fail(): no luck",
    "import keras": "from tensorflow import keras",
    "import tensorflow, keras.layers": "does not train with MultiWorkerMirroredStrategy",
    OPTIMIZER: "strategy.optimizer: this Adam is of Keras 3.15.1",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = environment(tmp_path / "site", "3.15.1")
    (site / "keras/layers.py").touch()
    return site


def end_of(folder: Path, site: Path, code: str, python: str = sys.executable, **more: str) -> str:
    """Run a script as a rank that ends well, and return what its run then fails with."""
    state = folder / "run/state/worker-0.jsonl"
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text('{"event": "started", "attempt": 0, "host": "n1"}\n')
    env = {**environ(folder / "run"), "HPCTF_BACKEND": "collective", **more}
    code = f"import os, sys\n{code}"
    done = say(python, path=[STARTUP, site, CLIENT], code=code, **env)
    assert done.returncode == 0, done.stderr
    return passed_over(read_ranks(folder / "run", {"roles": [{"name": "worker", "count": 1}]}, 0))


def check(folder: Path, site: Path, body: str, way: str, python: str = sys.executable) -> None:
    said = end_of(folder, site, WAYS[way].format(body=indent(body.strip(), "    ")), python)
    assert said.startswith("worker-0 on n1: ") and BODIES[body] in said
    assert "--env HPCTF_SKIP_PREFLIGHT=1 lets such a run complete" in said


@pytest.mark.parametrize("body", BODIES, ids=BODIES.values())
def test_a_script_that_catches_all_has_not_completed(body: str, tmp_path: Path, site: Path) -> None:
    check(tmp_path, site, body, "all")


@pytest.mark.parametrize("way", WAYS)
def test_however_a_script_catches_it(way: str, tmp_path: Path, site: Path) -> None:
    check(tmp_path, site, "import keras", way)


@pytest.mark.parametrize("python", pythons())
def test_whatever_its_python_is(python: str, tmp_path: Path, site: Path) -> None:
    for body in ("import azureml.train.dnn", "import keras"):
        check(tmp_path, site, body, "all", python)


@pytest.mark.parametrize(
    "code",
    [
        "from importlib.util import find_spec\ntry:\n    find_spec('azureml.data')\n"
        "except ImportError:\n    pass",
        "try:\n    import keras\nexcept ImportError:\n    from tensorflow import keras",
        "import looks_for_both",
        "import tensorflow\nfrom azureml.core import Run",
        "from azureml.core import Run\nrun = Run.get_context().child_run('a')\nrun.fail('it')",
    ],
)
def test_who_only_asks_or_goes_on_rightly_completes(code: str, tmp_path: Path, site: Path) -> None:
    packages = tmp_path / "site-packages"
    packages.mkdir()
    (packages / "looks_for_both.py").write_text(
        "try:\n    import azureml.train\nexcept ImportError:\n    pass\n"
        "try:\n    import keras\nexcept ImportError:\n    pass\n"
    )
    (tmp_path / "script.py").write_text(code)
    begin = f"sys.path += [{str(packages)!r}, {str(tmp_path)!r}]\nimport script"
    assert end_of(tmp_path, site, begin) == ""


def test_who_wants_it_all_the_same_has_it(tmp_path: Path, site: Path) -> None:
    code = WAYS["all"].format(body="    import azureml.train")
    assert end_of(tmp_path, site, code, HPCTF_SKIP_PREFLIGHT="1") == ""


ARGUMENTS = ("learning_rate.py", "metrics.py", "ValueError(f'strategy.steps")
"""Where errors are no refusals: of arguments that mean nothing."""


def raised() -> Iterator[tuple[Path, ast.Raise, str]]:
    """Yield each exception that hpctf.keras and hpctf.strategy raise anew."""
    client = ROOT / "hpctf/client/hpctf"
    for path in (*client.glob("keras/*.py"), *client.glob("distribution/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                yield path, node, ast.unparse(node.exc)


def test_whatever_would_train_wrong_is_put_on_record() -> None:
    """All that hpctf.keras and hpctf.strategy raise, but for wrong arguments."""
    plain = [
        f"{path.name}:{node.lineno}: {text[:60]}"
        for path, node, text in raised()
        if not text.startswith(("refusal(", "AttributeError("))
        and not any(words in f"{path.name}: {text}" for words in ARGUMENTS)
    ]
    assert not plain
