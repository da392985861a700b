"""Every public name of Azure ML's SDK v1 works, or says in one sentence what to write instead.

The names are those of its wheels (hpctf/azureml/sdk-v1.json).
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from hpctf import azureml
from hpctf.azureml import compute, environment, hyperdrive, workspace
from hpctf.azureml.modules import Placeholder, surface
from hpctf.azureml.refusing import NotHere, NotThere, Refusal
from hpctf.azureml.sentences import MEMBERS, OF_MODULE, OF_NAME, expanded
from hpctf.startup import azureml as startup
from tests.conftest import ROOT

SURFACE = surface()
CLASSES: dict[str, type] = {
    name: getattr(azureml, name) for name in SURFACE["classes"] if hasattr(azureml, name)
} | {
    "AmlComputeStatus": compute.AmlComputeStatus,
    "AzureBlobDatastore": azureml.Datastore,
    "DockerSection": environment.DockerSection,
    "HyperDriveConfig": hyperdrive.NAMES["HyperDriveConfig"],
    "HyperDriveRun": hyperdrive.HyperDriveRun,
    "Keyvault": workspace.Keyvault,
    "PythonSection": environment.PythonSection,
}
SETTINGS = ["Environment", "DockerSection", "PythonSection", "RunConfiguration", "ScriptRunConfig"]
SETTINGS += ["DockerConfiguration", "MpiConfiguration", "TensorflowConfiguration"]
NOWHERE = object()
MADE_BY_OTHERS = {("AmlComputeStatus", "__init__"), ("AzureBlobDatastore", "__init__")}
DOCUMENT = ROOT / "docs/azureml-names.md"


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("names")
    (folder / "model.txt").write_text("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HPCTF_MODELS_ROOT", str(folder / "models"))
        ws = azureml.Workspace(site="local")
        model = azureml.Model.register(ws, str(folder / "model.txt"), "names")
    return {**objects(), "Model": model}


def objects() -> dict[str, Any]:
    """Return an object of each class that has attributes of its own."""
    ws = azureml.Workspace(site="local")
    target = azureml.ComputeTarget(ws, "default")
    data = azureml.Dataset.File.from_files(str(ROOT / "docs"))
    store = azureml.Datastore(ws)
    run_config = azureml.RunConfiguration()
    return {
        "Workspace": ws,
        "ComputeTarget": target,
        "AmlCompute": compute.AmlCompute(ws, "default"),
        "AmlComputeStatus": target.get_status(),
        "AzureBlobDatastore": store,
        "Datastore": store,
        "DataPath": azureml.DataPath(store, "x"),
        "DataReference": store.path("x"),
        "DatasetConsumptionConfig": data.as_mount(),
        "FileDataset": data,
        "Experiment": azureml.Experiment(ws, "e"),
        "Environment": azureml.Environment("e"),
        "PythonSection": azureml.Environment("e").python,
        "DockerSection": azureml.Environment("e").docker,
        "RunConfiguration": run_config,
        "MpiConfiguration": run_config.mpi,
        "TensorflowConfiguration": run_config.tensorflow,
        "DockerConfiguration": run_config.docker,
        "ScriptRunConfig": azureml.ScriptRunConfig(ROOT, "setup.cfg"),
        "Keyvault": ws.get_default_keyvault(),
        "TensorFlow": azureml.TensorFlow(ROOT / "tests", entry_script="conftest.py"),
        "Estimator": azureml.Estimator(ROOT / "tests", entry_script="conftest.py"),
        "Mpi": azureml.Mpi(),
        "ParameterServer": azureml.ParameterServer(),
    }


def members() -> Iterator[tuple[str, str, list[str] | None]]:
    for name, known in SURFACE["classes"].items():
        for member, parameters in known.items():
            yield name, member, parameters


def answer(name: str, member: str, there: dict[str, Any]) -> str:
    """Return ``works``, the sentence, or what is wrong."""
    cls = CLASSES[name]
    found = inspect.getattr_static(cls, member, NOWHERE)
    if isinstance(found, Refusal):
        with pytest.raises(NotHere) as refused:
            getattr(there.get(name, cls), member)
        return refused.value.hint or ""
    known = found is not NOWHERE or hasattr(there.get(name), member)
    return "works" if known else "is neither there nor refused"


@pytest.fixture(scope="module")
def answers(there: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(name, member): answer(name, member, there) for name, member, _ in members()}


def test_every_member_of_every_class_is_there_or_refused(
    answers: dict[tuple[str, str], str],
) -> None:
    assert set(CLASSES) == set(SURFACE["classes"])
    wrong = [key for key, said in answers.items() if said.startswith("is neither")]
    assert not wrong


def test_a_name_that_azure_ml_has_not_either_is_one_sentence(there: dict[str, Any]) -> None:
    for name, one in there.items():
        assert not hasattr(one, "no_such_name"), name
        with pytest.raises(NotHere, match=r"has no no_such_name in hpctf.\n.*azureml-names.md"):
            _ = one.no_such_name
    for name in SETTINGS:
        with pytest.raises(NotHere, match="has no no_such_name"):
            objects()[name].no_such_name = 1


def test_a_name_that_is_nearly_right_is_named() -> None:
    config = azureml.RunConfiguration()
    with pytest.raises(NotHere, match=r"Did you mean auto_prepare_environment\?"):
        config.prepare_environment = True
    config.auto_prepare_environment = True
    with pytest.raises(NotHere, match="no counterpart"):
        _ = azureml.Environment("e").docker.base_image_registry


def test_all_that_works_takes_azure_mls_parameters() -> None:
    wrong = []
    for name, member, parameters in members():
        found = inspect.getattr_static(CLASSES[name], member, None)
        of_others = (name, member) in MADE_BY_OTHERS
        if parameters is None or of_others or isinstance(found, Refusal):
            continue
        taken = inspect.signature(getattr(CLASSES[name], member)).parameters
        any_name = any(one.kind is one.VAR_KEYWORD for one in taken.values())
        wrong += [(name, member, p) for p in parameters if p not in taken and not any_name]
    assert not wrong


def test_nothing_is_refused_that_azure_ml_has_not() -> None:
    known = {name: {member for one, member, _ in members() if one == name} for name in CLASSES}
    known["Datastore"] |= known["AzureBlobDatastore"]
    known["ComputeTarget"] |= known["AmlCompute"] | {"attach_configuration"}
    known["TensorFlow"] |= known["Estimator"]
    for name, table in MEMBERS.items():
        assert expanded(table).keys() <= known[name], name


@pytest.mark.parametrize("module", SURFACE["modules"])
def test_every_name_of_every_module_can_be_imported(module: str) -> None:
    found = importlib.import_module(f"hpctf.{module}")
    for name in SURFACE["modules"][module]:
        value = getattr(found, name)
        if isinstance(value, Placeholder):
            with pytest.raises(NotHere, match=f"{module}.{name} has no counterpart"):
                value()
            with pytest.raises(NotHere):
                _ = value.anything


def test_scripts_and_notebooks_are_told_the_same_version() -> None:
    assert azureml.VERSION == startup.VERSION
    assert SURFACE["versions"]["azureml-core"].startswith(azureml.VERSION)


def test_sentences_are_sentences() -> None:
    sentences = {one for table in MEMBERS.values() for one in table}
    for sentence in sentences | set(OF_MODULE.values()) | set(OF_NAME.values()):
        assert re.match(r"^[A-Zh].*\.$", sentence) and sentence.count(". ") == 0, sentence


def test_other_modules_of_azure_ml_say_what_to_write_instead() -> None:
    with pytest.raises(NotThere, match=r"(?s)azureml.pipeline.*run.wait_for_completion"):
        importlib.import_module("hpctf.azureml.pipeline.core")
    with pytest.raises(ImportError, match="NoSuchName"):
        exec("from hpctf.azureml.core import NoSuchName")


def test_the_document_lists_every_name(answers: dict[tuple[str, str], str]) -> None:
    text = document(answers)
    if "HPCTF_UPDATE_GOLDEN" in os.environ:
        DOCUMENT.write_text(text)
    assert DOCUMENT.read_text() == text, "make it anew: HPCTF_UPDATE_GOLDEN=1 pytest " + __file__


def document(answers: dict[tuple[str, str], str]) -> str:
    versions = SURFACE["versions"]
    lines = [
        "# Azure ML's names, one by one",
        "",
        "tests/azureml/test_names.py makes this page from the wheels of "
        + ", ".join(f"`{name}` {version}" for name, version in versions.items())
        + ".",
        "A name beside a sentence raises an error with that sentence when it is used.",
        "",
    ]
    for name in SURFACE["classes"]:
        lines += [f"## {name}", "", "| name | |", "|---|---|"]
        of_class = {member: said for (one, member), said in answers.items() if one == name}
        for said in dict.fromkeys(of_class.values()):
            names = [f"`{member}`" for member, one in of_class.items() if one == said]
            shown = ", ".join(names).replace("`__init__`", f"`{name}()`")
            lines.append(f"| {shown} | {said} |")
        lines.append("")
    lines += ["## Modules", "", "| module | works | other names |", "|---|---|---|"]
    for module, names in SURFACE["modules"].items():
        found = importlib.import_module(f"hpctf.{module}")
        values = {name: getattr(found, name) for name in names}
        works = [f"`{name}`" for name, one in values.items() if not isinstance(one, Placeholder)]
        said = {hint_of(one): None for one in values.values() if isinstance(one, Placeholder)}
        lines.append(f"| `{module}` | {', '.join(works)} | {' '.join(said)} |")
    return "\n".join(lines) + "\n"


def hint_of(placeholder: Placeholder) -> str:
    with pytest.raises(NotHere) as refused:
        placeholder()
    return refused.value.hint or ""
