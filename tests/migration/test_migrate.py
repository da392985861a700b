"""`hpctf migrate`: import lines of Azure ML's change, all else stays, and the rest is named."""

from __future__ import annotations

import ast
import codecs
import json
from pathlib import Path
from typing import Any

import pytest

from hpctf.errors import UsageError
from hpctf.migration.migrate import Migrated, migrate
from tests.support.projects import hpctf

LINES = [
    ("from azureml.core import Workspace", "from hpctf.azureml.core import Workspace"),
    ("from azureml.core import *", "from hpctf.azureml.core import *"),
    (
        "from  azureml.core  import  Model as M # c",
        "from  hpctf.azureml.core  import  Model as M # c",
    ),
    ("from azureml import core", "from hpctf.azureml import core"),
    ("from \\\n azureml.data import x", "from \\\n hpctf.azureml.data import x"),
    (
        "from azureml.core import (\n    Run, Model  # é\n)",
        "from hpctf.azureml.core import (\n    Run, Model  # é\n)",
    ),
    ("import azureml.core", "from hpctf import azureml"),
    ("import azureml.core.run as r", "import hpctf.azureml.core.run as r"),
    ("import os, azureml", "import os; from hpctf import azureml"),
    (
        "import azureml.core, azureml.data as d",
        "import hpctf.azureml.data as d; from hpctf import azureml",
    ),
    ("é = 1; import azureml.core", "é = 1; from hpctf import azureml"),
    ("if x:\n\timport azureml.core  # y", "if x:\n\tfrom hpctf import azureml  # y"),
    ("try: import azureml.core\nexcept: x", "try: from hpctf import azureml\nexcept: x"),
    ("import azuremlx, os", "import azuremlx, os"),
    ("from .azureml import x", "from .azureml import x"),
    ("'import azureml.core'  # from azureml", "'import azureml.core'  # from azureml"),
]


def of(folder: Path, text: str | bytes, name: str = "submit.py") -> Migrated:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return migrate(path, "local")


@pytest.mark.parametrize(("before", "after"), LINES)
def test_import_lines_alone_change(before: str, after: str, tmp_path: Path) -> None:
    done = of(tmp_path, f"{before}\n\nx = 1 \n")
    assert done.content.decode() == f"{after}\n\nx = 1 \n"
    ast.parse(done.content)
    assert done.changed == (before != after)


@pytest.mark.parametrize(
    ("codec", "first", "mark"),
    [
        ("utf-8", "", b""),
        ("utf-8", "", codecs.BOM_UTF8),
        ("latin-1", "# -*- coding: latin-1 -*-", b""),
        ("cp1252", "#!/usr/bin/python\n# vim: set fileencoding=cp1252 :", b""),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encoding_mark_and_ends_of_lines_stay(
    codec: str, first: str, mark: bytes, end: str, tmp_path: Path
) -> None:
    text = f"{first}\nx = 'é'; from azureml.core import Run, Workspace\nRun.get(x, 'ü')\n"
    before = mark + text.replace("\n", end).encode(codec)
    done = of(tmp_path, before)
    assert done.content == before.replace(b"from azureml", b"from hpctf.azureml")


REFUSED: list[tuple[str, bytes, str]] = [
    ("a.py", b"print 'x'\nfrom azureml.core import Run\n", r"a.py:1 is not Python 3"),
    ("a.py", b"def f(:\n", r"a.py:1 is not Python 3"),
    ("a.py", b"x = 1\n\xff\n", r"not UTF-8|utf-8"),
    ("a.py", codecs.BOM_UTF16_LE + "x".encode("utf-16-le"), "UTF-16"),
    ("a.py", b"# coding: klingon\n", "klingon"),
    ("a.py", b"x = 1\0\n", "null|NUL"),
    ("a.ipynb", b"{", "not JSON"),
    ("a.ipynb", b"[]", "no cells"),
    ("a.ipynb", b'{"cells": 3}', "no cells"),
    ("a.ipynb", b'{"cells": [{"cell_type": "code", "source": 3}]}', "no cells"),
    ("a.ipynb", b"\xff\xfe", "not UTF-8"),
    ("a.ipynb", b'{"cells": [], "metadata": {"kernelspec": {"language": "R"}}}', "written in 'R'"),
]


@pytest.mark.parametrize(("name", "content", "said"), REFUSED)
def test_what_cannot_be_read_is_one_message(
    name: str, content: bytes, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        of(tmp_path, content, name)


SUBMITS = """\
from azureml.core import (
    Workspace, Experiment,
    Image)
from azureml.core import Dataset, Environment, ScriptRunConfig
from azureml.train.hyperdrive import choice
from azureml.pipeline.core import Pipeline
import azureml.core.compute
from azureml.train.dnn import TensorFlow
ws = Workspace.from_config()
cluster_name = "gpu-cluster"
target = azureml.core.compute.ComputeTarget(workspace=ws, name=cluster_name)
web_paths = ['https://example.org/a.gz']
dataset = Dataset.File.from_files(path=web_paths)
data = dataset.take(3)
env = Environment.get(ws, name='AzureML-TensorFlow-2.0-GPU')
other = Environment.get(workspace=ws, name='AzureML-PyTorch-1.3-GPU')
est = TensorFlow(entry_script='x.py', image_registry_details=None)
run = Experiment(ws, 'x').submit(est)
run.get_environment()
run.wait_for_completion()
for run in []:
    run.log('of something else', 1)
def f(ws): return ws.create()
ws.get_default_keyvault().get_secret('x')
old = TensorFlow(entry_script='x.py', framework_version='1.13')
"""

NAMED = {
    3: "azureml.core.Image",
    6: "azureml.pipeline.core",
    11: "compute target 'gpu-cluster'",
    13: "Dataset.File.from_files('https://example.org/a.gz')",
    14: "FileDataset.take",
    15: "Environment.get(name='AzureML-TensorFlow-2.0-GPU')",
    16: "Environment.get(name='AzureML-PyTorch-1.3-GPU')",
    17: "TensorFlow(image_registry_details=...)",
    19: "Run.get_environment",
    24: "Keyvault.get_secret",
    25: "TensorFlow(framework_version='1.13')",
}


def test_what_hpctf_cannot_do_is_named_by_line(tmp_path: Path) -> None:
    done = of(tmp_path, SUBMITS)
    assert {remark.line: remark.what for remark in done.remarks} == NAMED
    assert all(remark.instead.endswith(".") for remark in done.remarks)


def test_long_expressions_are_no_hindrance(tmp_path: Path) -> None:
    long = f"x = {'+'.join(['1'] * 900)}\nx = x{'.y()' * 900}\n"
    done = of(tmp_path, f"from azureml.core import Workspace, Image\n{long}")
    assert [remark.what for remark in done.remarks] == ["azureml.core.Image"]


def cell(text: str | list[str], kind: str = "code") -> dict[str, Any]:
    return {"cell_type": kind, "metadata": {}, "source": text}


def test_a_notebooks_cells_change_and_magics_stay(tmp_path: Path) -> None:
    cells = [
        cell("import azureml.core", "markdown"),
        cell(["%matplotlib inline\n", "import azureml.core  # é\n", "!ls \\\n", "  -l\n", "x = 1"]),
        cell("%%writefile train.py\nfrom azureml.core import Run"),
        cell("%%time\nfrom azureml.core import Workspace\nfiles = !ls\nWorkspace?\nawait x"),
        cell("ws = Workspace.from_config()\nws.create()"),
        cell("!pip install --upgrade azureml-sdk"),
        cell("from azureml.core import (\n"),
        cell("x = ('%d'\n    % 3)\nfrom azureml.core import Run"),
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    before = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    done = of(tmp_path, before, "n.ipynb")
    after = json.loads(done.content)["cells"]
    assert after[0] == cells[0] and after[2] == cells[2] and after[6] == cells[6]
    assert after[1]["source"][:3] == [
        "%matplotlib inline\n",
        "from hpctf import azureml  # é\n",
        "!ls \\\n",
    ]
    assert after[3]["source"].splitlines()[1] == "from hpctf.azureml.core import Workspace"
    assert after[7]["source"].endswith("from hpctf.azureml.core import Run")
    said = [(remark.cell, remark.line, remark.what) for remark in done.remarks]
    assert said[0] == (4, 2, "Workspace.create")
    assert said[1][:2] == (5, 1) and said[2][0] == 6
    # Nothing else of the file changed.
    assert sum(a != b for a, b in zip(before.splitlines(), lines(done), strict=True)) == 3
    assert json.loads(done.content).keys() == notebook.keys()


def lines(done: Migrated) -> list[str]:
    return done.content.decode().splitlines()


@pytest.mark.parametrize(
    "written",
    [
        json.dumps({"cells": [cell("import azureml.core\n'é'")]}, indent=2),
        json.dumps({"cells": [cell("import azureml.core\n'é'")]}, indent="\t", ensure_ascii=False),
        json.dumps({"cells": [cell("'\ud83d'"), cell("import azureml.core")]}, indent=1) + "\n",
        json.dumps({"cells": [cell("import azureml.core")]}),
        json.dumps({"cells": [cell("import azureml.core")]}, indent=1).replace("\n", "\r\n"),
    ],
)
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_notebooks_json_stays_as_it_was_written(
    written: str, mark: bytes, tmp_path: Path
) -> None:
    before = mark + written.encode()
    done = of(tmp_path, before, "n.ipynb")
    assert done.content == before.replace(b"import azureml.core", b"from hpctf import azureml")


def test_an_old_notebook_has_its_cells_in_worksheets(tmp_path: Path) -> None:
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": "import azureml.core"}]}]}
    done = of(tmp_path, json.dumps({**old, "nbformat": 3}), "n.ipynb")
    assert json.loads(done.content)["worksheets"][0]["cells"][0]["input"] == (
        "from hpctf import azureml"
    )


def test_a_training_script_stays_and_what_no_run_has_is_named(tmp_path: Path) -> None:
    text = "from azureml.core import Run, Dataset\nimport azureml.mlflow\nrun = Run.get_context()\n"
    done = of(tmp_path, text)
    assert (done.content.decode(), done.training) == (text, True)
    assert [(one.line, one.what) for one in done.remarks] == [
        (1, "azureml.core.Dataset"),
        (2, "azureml.mlflow"),
    ]
    assert of(tmp_path, "from azureml.core.run import Run\ndef f(run: Run): ...\n").training


def test_the_command_prints_the_file_and_replaces_none(tmp_path: Path) -> None:
    (tmp_path / "submit.py").write_text(SUBMITS)
    done = hpctf("migrate", "submit.py", "--site", "local", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("from hpctf.azureml.core import (\n")
    assert "submit.py: line 19: Run.get_environment: Use run.get_details()" in done.stderr
    assert f"Changed 6 import lines; {len(NAMED)} lines need your hand." in done.stderr

    written = hpctf("migrate", "submit.py", "--to", "new.py", cwd=tmp_path)
    assert (written.stdout, written.returncode) == ("new.py\n", 0)
    assert (tmp_path / "new.py").read_text() == done.stdout
    for target in ("submit.py", "new.py"):
        again = hpctf("migrate", "submit.py", "--to", target, cwd=tmp_path)
        assert again.returncode == 2 and "replaces no file" in again.stderr
    assert (tmp_path / "submit.py").read_text() == SUBMITS

    answer = json.loads(hpctf("migrate", "new.py", "--json", cwd=tmp_path).stdout)
    assert (answer["changed"], answer["text"]) == (0, done.stdout)
    absent = hpctf("migrate", "nothing.py", cwd=tmp_path)
    assert absent.returncode == 2 and "Cannot read 'nothing.py'" in absent.stderr
