"""Models are registered, found, checked, named and removed."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpctf import Experiment, Model, Run, TensorFlow, UsageError
from hpctf.errors import (
    ModelNotFound,
    RunFolderError,
    SiteError,
    UnreadableModel,
    UntrustedPath,
)
from hpctf.models import files, sources
from hpctf.models.names import Reference, reference
from hpctf.models.onnx_model import onnx_file
from hpctf.models.registry import Registry, registry_of
from hpctf.site.loading import load_site
from tests.support.disks import mounted
from tests.support.projects import hpctf, project

TRAINS = """
import os, sys
from hpctf import Run

run = Run.get_context()
for accuracy in (0.5, 0.75):
    run.log("accuracy", accuracy)
run.log_row("sizes", layer=1, units=64)
run.tag("data", "digits")
os.makedirs("outputs/saved/variables")
open("outputs/saved/saved_model.pb", "w").write("graph")
open("outputs/saved/variables/variables.index", "w").write("w" * 300)
open("outputs/model.keras", "w").write("keras")
open("outputs/open.onnx", "w").write("onnx")
os.chmod("outputs/open.onnx", 0o644)
location = b"\\n\\x08location\\x12\\x0dparts/w 1.bin"  # as onnx.proto writes it
open("outputs/large.onnx", "wb").write(b"graph" + location + location)
os.makedirs("outputs/parts")
open("outputs/parts/w 1.bin", "w").write("weights")
open("written.h5", "w").write("h5")
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that is over, and whose parameters hold a secret; no test changes it."""
    folder = tmp_path_factory.mktemp("trained")
    source = project(folder / "proj", text=TRAINS)
    (source / "layers.py").write_text("units = 64")
    estimator = TensorFlow(
        source,
        entry_script="train.py",
        script_params={"--lr": 0.1, "--api-token": "hf_abcdefghijklmnopqrstuvwxyz0123456789"},
    )
    run = Experiment("test", site="local", runs_root=folder / "runs").submit(estimator)
    run.wait_for_completion()
    return run


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HPCTF_SITE", "local")
    monkeypatch.setenv("HPCTF_MODELS_ROOT", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_text("weights")
    return path


def test_a_runs_model_says_what_made_it_when_the_run_is_gone(tmp_path: Path, root: Path) -> None:
    source = project(tmp_path / "proj", text=TRAINS)
    run = Experiment("test", site="local", runs_root=tmp_path / "runs").submit(
        TensorFlow(source, entry_script="train.py", script_params={"--lr": 0.1})
    )
    run.wait_for_completion()
    metrics = run.get_metrics()
    model = run.register_model("digits", "outputs/saved", {"a": 1}, {"p": 2}, description="first")
    run.delete()

    found = Model("digits")
    assert found.path == root / "digits/1/files/saved" == model.path
    assert sorted(path.name for path in found.path.rglob("*") if path.is_file()) == [
        "saved_model.pb",
        "variables.index",
    ]
    assert (found.tags, found.properties, found.description) == ({"a": 1}, {"p": 2}, "first")
    assert (
        found.metrics
        == metrics
        == {
            "accuracy": [0.5, 0.75],
            "sizes": {"layer": 1, "units": 64},
        }
    )
    of = found.record.run
    assert of is not None and (of.id, of.state, of.parameters) == (run.id, "Completed", {"lr": 0.1})
    assert (of.metrics, of.tags) == ({"accuracy": 0.75}, {"data": "digits"})
    assert (found.record.kind, found.record.framework) == ("saved_model", "TensorFlow")
    said = hpctf("models", "show", "digits", cwd=tmp_path).stdout
    assert f"{run.id} (no longer there)" in said and "accuracy=0.75" in said


def test_code_plan_and_record_are_kept_without_secrets(trained: Run, tmp_path: Path) -> None:
    model = trained.register_model("digits", "outputs/model.keras", {"api_token": "x" * 40})
    kept = model.folder.run
    names = {path.name for path in kept.iterdir()}
    assert {"record.json", "plan.json", "final.json", "metrics.json", "code.tar.gz"} <= names
    with tarfile.open(kept / "code.tar.gz") as tar:
        tar.extractall(tmp_path / "code")
    assert (tmp_path / "code/train.py").read_text() == TRAINS
    assert (tmp_path / "code/layers.py").read_text() == "units = 64"
    assert not (tmp_path / "code/written.h5").exists()
    for path in model.folder.path.rglob("*"):
        assert not path.is_file() or b"hf_abcdef" not in path.read_bytes(), path
    assert model.tags == {"api_token": "(hidden)"}


def test_files_of_a_run_that_is_over_take_no_room_twice(trained: Run) -> None:
    model = trained.register_model("digits", "outputs/model.keras")
    assert model.path.samefile(trained.folder.outputs / "model.keras")


def test_what_others_could_change_later_is_copied(trained: Run, file: Path, tmp_path: Path) -> None:
    of_another_mode = trained.register_model("digits", "outputs/open.onnx")
    assert not of_another_mode.path.samefile(trained.folder.outputs / "open.onnx")
    assert stat.S_IMODE(of_another_mode.path.stat().st_mode) == 0o600
    assert not Model.register(file, "digits").path.samefile(file)
    going_on = sources.of_run(trained.folder, "outputs/model.keras", is_over=False)
    copied = registry_of().register("digits", going_on)
    assert copied.verified().stat().st_nlink == 1
    if os.geteuid() == 0:
        theirs = trained.folder.outputs / "theirs.keras"
        theirs.write_text("theirs")
        theirs.chmod(0o600)
        os.chown(theirs, 65534, -1)
        assert not trained.register_model("digits", "outputs/theirs.keras").path.samefile(theirs)
        theirs.unlink()


def test_what_a_script_wrote_beside_outputs_and_child_paths_are_models(
    trained: Run, tmp_path: Path
) -> None:
    assert trained.register_model("h5", "snapshot/written.h5").record.kind == "h5"
    some = Model.register(
        trained.folder.outputs, "some", child_paths=["saved/variables", "model.keras"]
    )
    assert set(some.record.files) == {
        "outputs/saved/variables/variables.index",
        "outputs/model.keras",
    }


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("outputs/modell.keras", "Did you mean 'outputs/model.keras'"),
        ("outputs/../../x", "has no file or folder"),
        ("", "has no file or folder 'digits'"),
        ("/", "has no file or folder '/'"),
    ],
)
def test_a_run_without_such_a_file_makes_no_version(
    trained: Run, root: Path, path: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        trained.register_model("digits", path)
    assert not root.exists()


def test_what_is_no_model_makes_no_version(root: Path, tmp_path: Path, file: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/folder").symlink_to(tmp_path / "empty")
    (tmp_path / "piped").mkdir()
    os.mkfifo(tmp_path / "piped/pipe")
    (tmp_path / "dead").symlink_to("elsewhere")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/weights").symlink_to("elsewhere")
    (tmp_path / "round").symlink_to("round")
    for path, said in {
        "nowhere": "does not exist",
        "empty": "holds no files",
        "linked": "a link to a folder",
        "piped": "piped/pipe' is a named pipe, not a file",
        "piped/pipe": "is a named pipe",
        "dead": "dead' is a link to 'elsewhere', which does not exist",
        "dead/model.keras": "dead' is a link to 'elsewhere', which does not exist",
        "inside": "inside/weights' is a link to 'elsewhere', which does not exist",
        "round": "links in its path lead round in a circle",
        "no\0where": "NUL",
    }.items():
        with pytest.raises(UsageError, match=said):
            Model.register(f"{tmp_path}/{path}", "digits")
    with pytest.raises(UsageError, match=r"has no .\.\./weights"):
        Model.register(tmp_path / "empty", "digits", child_paths=["../weights.bin"])
    with pytest.raises(UsageError, match="needs a folder"):
        Model.register(file, "digits", child_paths=["x"])
    assert not root.exists()


def test_a_file_that_is_written_meanwhile_makes_no_version(root: Path, file: Path) -> None:
    file.write_bytes(b"w" * (8 << 20))
    done = threading.Event()

    def write() -> None:
        with open(file, "ab", buffering=0) as stream:
            while not done.wait(0.001):
                stream.write(b"w")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(UsageError, match="was written while it was registered"):
            Model.register(file, "digits")
    finally:
        done.set()
        writer.join()
    assert list((root / "digits").iterdir()) == []


CHANGES: dict[str, Callable[[Path], object]] = {
    "has other content": lambda top: (top / "saved_model.pb").write_text("GRAPH"),
    "has 1 bytes, not 5": lambda top: (top / "saved_model.pb").write_text("g"),
    "is missing": lambda top: (top / "saved_model.pb").unlink(),
    "was put there": lambda top: (top / "more.pb").write_text(""),
    "cannot be read": lambda top: replace(top / "saved_model.pb", os.symlink, "/etc/hostname"),
    "is no longer a file": lambda top: replace(
        top / "saved_model.pb", lambda _, p: os.mkfifo(p), ""
    ),
}


def replace(path: Path, make: Callable[[str, Path], object], what: str) -> None:
    path.unlink()
    make(what, path)


@pytest.mark.parametrize("said", CHANGES)
def test_what_is_not_what_was_registered_is_never_loaded(
    tmp_path: Path, said: str, trained: Run
) -> None:
    model = Model.register(trained.folder.outputs / "saved", "digits")
    CHANGES[said](model.folder.path / "files/saved")
    with pytest.raises(UnreadableModel, match=f"(?s)digits:1 is not what was registered.*{said}"):
        _ = Model("digits").path
    with pytest.raises(UnreadableModel, match=said):
        model.download(tmp_path / "copy")
    assert not (tmp_path / "copy/saved").exists() and not list(tmp_path.glob("copy/.*"))


def test_a_model_that_has_changed_is_shown_as_such(tmp_path: Path, file: Path) -> None:
    (Model.register(file, "digits").path).write_text("WEIGHTS")
    shown = hpctf("models", "show", "digits", "--json", cwd=tmp_path)
    assert (shown.returncode, json.loads(shown.stdout)["verified"]) == (3, False)
    assert "has other content" in shown.stderr


def test_a_copy_is_whole_and_replaces_only_what_it_may(tmp_path: Path, trained: Run) -> None:
    model = Model.register(trained.folder.outputs / "saved", "digits")
    there = Path(model.download(tmp_path / "copy"))
    assert (there / "variables/variables.index").read_text() == "w" * 300
    with pytest.raises(UsageError, match="exists already"):
        model.download(tmp_path / "copy")
    (there / "saved_model.pb").write_text("older")
    (there / "mine.txt").write_text("mine")
    assert model.download(tmp_path / "copy", exist_ok=True) == str(there)
    assert (there / "saved_model.pb").read_text() == "graph"
    assert (there / "mine.txt").read_text() == "mine"
    assert os.listdir(tmp_path / "copy") == ["saved"]


def test_of_eight_who_give_a_property_different_values_one_does(file: Path) -> None:
    model = Model.register(file, "digits", properties={"first": 1})

    def give(number: int) -> bool:
        mine = Model("digits")
        mine.add_tags({f"tag-{number}": number})
        try:
            mine.add_properties({"owner": number})
        except UsageError as error:
            assert "properties never change" in str(error)
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(give, range(8)))
    assert given.count(True) == 1
    assert model.properties == {"first": 1, "owner": given.index(True)}
    assert model.tags == {f"tag-{number}": number for number in range(8)}


def test_tags_come_and_go_and_properties_stay(file: Path) -> None:
    model = Model.register(file, "digits", {"a": 1, "b": 2}, {"p": 1}, "first")
    model.add_tags({"a": 3, "c": None})
    model.remove_tags(["b", "never-there"])
    model.add_properties({"p": 1, "q": "x"})
    with pytest.raises(UsageError, match="a number, a string"):
        model.add_tags({"list": [1]})
    with pytest.raises(UsageError, match="'p' already"):
        model.add_properties({"r": 1, "p": 2})
    assert (model.tags, model.properties) == ({"a": 3, "c": None}, {"p": 1, "q": "x"})
    model.update(tags={"only": True}, description="second")
    again = Model("digits")
    assert (again.tags, again.description) == ({"only": True}, "second")
    assert Model.register(file, "digits").tags == {}


def test_an_alias_is_never_missing_while_it_is_moved(file: Path) -> None:
    models = [Model.register(file, "digits") for _ in range(2)]
    models[0].set_alias("champion")
    done = threading.Event()
    seen: set[int] = set()

    def look() -> None:
        while not done.is_set():
            seen.add(Model("digits@champion").version)

    with ThreadPoolExecutor(2) as pool:
        looking = pool.submit(look)
        for turn in range(60):
            models[turn % 2].set_alias("champion")
        done.set()
        looking.result()
    assert seen <= {1, 2}
    assert Model("digits", "@champion").version == 2 and models[1].aliases == ["champion"]


def test_an_alias_whose_rename_nfs_sends_twice_is_set(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for a lost answer: there is no NFS here."""
    model = Model.register(file, "digits")
    rename = os.rename

    def sent_twice(source: Path, target: Path) -> None:
        rename(source, target)
        rename(source, target)

    monkeypatch.setattr(os, "rename", sent_twice)
    model.set_alias("champion")
    assert Model("digits@champion").version == 1


def test_a_number_is_never_given_twice(file: Path, root: Path, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        assert Model.register(file, "digits").version == number
    Model("digits:2").set_alias("champion")
    with pytest.raises(UsageError, match=r"digits:2 must stay: it is @champion"):
        Model("digits:2").delete()
    Model("digits:3").delete()
    assert os.listdir(root / "digits/3") == ["removed.json"]
    assert [model.id for model in Model.list()] == ["digits:2", "digits:1"]
    assert Model("digits").version == 2
    with pytest.raises(ModelNotFound, match=r"digits:3 was removed by \w+ on 20"):
        Model("digits:3")
    assert Model.register(file, "digits").version == 4

    asked = hpctf("models", "rm", "digits:1", cwd=tmp_path)
    assert asked.returncode == 2 and "Pass --yes" in asked.stderr and Model("digits:1")
    for words, code, said in [
        (["digits", "--yes"], 2, "names no version to remove"),
        (["digits", "--all", "--yes"], 2, "must stay: it is @champion"),
    ]:
        done = hpctf("models", "rm", *words, cwd=tmp_path)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert len(Model.list()) == 3
    hpctf("models", "alias", "digits", "champion", "--remove", cwd=tmp_path)
    done = hpctf("models", "rm", "digits", "--all", "--yes", cwd=tmp_path)
    assert done.stdout.split() == ["digits:4", "digits:2", "digits:1"]
    with pytest.raises(ModelNotFound, match="There is no model 'digits'"):
        Model("digits")
    assert Model.register(file, "digits").version == 5


def test_a_removal_that_was_cut_short_goes_on(
    file: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.register(file, "digits")

    def fail(folder: Path) -> None:
        raise OSError(5, "Input/output error", str(folder / "files"))

    with monkeypatch.context() as patch:
        patch.setattr(files, "free", fail)
        with pytest.raises(RunFolderError, match=r"(?s)files': Input/output error.*rm digits:1"):
            model.delete()
    with pytest.raises(ModelNotFound, match="was removed"):
        Model("digits:1")
    done = hpctf("models", "rm", "digits:1", "--yes", cwd=tmp_path)
    assert done.stdout == "digits:1\n" and os.listdir(root / "digits/1") == ["removed.json"]
    assert hpctf("models", "rm", "digits:1", "--yes", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("digits",), Reference("digits")),
        (("digits:3",), Reference("digits", 3)),
        (("digits", 3), Reference("digits", 3)),
        (("digits", "3"), Reference("digits", 3)),
        (("di.gits-2_x@champion",), Reference("di.gits-2_x", alias="champion")),
        (("digits", "@champion"), Reference("digits", alias="champion")),
        (("digits@latest",), Reference("digits")),
    ],
)
def test_a_model_is_called_by_name_version_or_alias(
    words: tuple[str, int], meant: Reference
) -> None:
    assert reference(*words) == meant


@pytest.mark.parametrize(
    "words",
    [
        ("",),
        ("../x",),
        (".models",),
        ("a/b",),
        ("a b",),
        ("x" * 256,),
        (None,),
        ("a:0",),
        ("a:-1",),
        ("a:٣",),
        ("a:",),
        ("a@",),
        ("a@3",),
        ("a@b@c",),
        ("a:1", 2),
        ("a@b", 2),
        ("a", True),
        ("a", 1.5),
        ("a\n",),
    ],
)
def test_what_is_no_name_is_refused(words: tuple[str, int]) -> None:
    with pytest.raises(UsageError):
        reference(*words)


def test_an_alias_that_may_not_be_changed_is_one_sentence(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.register(file, "digits")
    model.set_alias("champion")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("hpctf.models.aliases.os.symlink", refuse)
    with pytest.raises(
        RunFolderError, match=r"Cannot change an alias of model 'digits': .* denied"
    ):
        model.set_alias("other")
    monkeypatch.setattr("hpctf.models.aliases.os.unlink", refuse)
    with pytest.raises(RunFolderError, match="Cannot change an alias of model 'digits'"):
        model.remove_alias("champion")


def test_a_version_that_a_service_serves_stays(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPCTF_RUNS_ROOT", str(tmp_path / "runs"))
    served = Model.register(file, "digits")
    server = tmp_path / "runs/.services/net/servers/1"
    server.mkdir(parents=True)
    (server / "service.json").write_text(
        json.dumps({"models": {"digits:1": str(served.folder.path)}})
    )
    (server.parents[1] / "tokens.json").write_text("{}")
    with pytest.raises(UsageError, match=r"digits:1 must stay: service net serves it"):
        served.delete()
    done = hpctf("models", "rm", "digits:1", "--yes", cwd=tmp_path)
    assert done.returncode == 2 and "hpctf services stop net" in done.stderr
    (server / "state.json").write_text(json.dumps({"state": "stopped"}))
    served.delete()


def test_what_cannot_be_read_hides_nothing_else(file: Path, root: Path, tmp_path: Path) -> None:
    for name in ("good", "bad", "new", "out", "text"):
        Model.register(file, name)
    (root / "bad/1/model.json").write_text("{")
    (root / "text/1/model.json").write_text('{"id": 3, "files": []}')
    newer = json.loads((root / "new/1/model.json").read_text())
    (root / "new/1/model.json").write_text(json.dumps({**newer, "format": 2}))
    (root / "out/1/model.json").write_text(json.dumps({**newer, "path": ".."}))
    (root / "not-a-model").write_text("x")
    (root / "good/notes").mkdir()
    (root / "good/@broken").symlink_to("7")
    done = hpctf("models", "list", "--json", cwd=tmp_path)
    assert [one["id"] for one in json.loads(done.stdout)] == ["good:1"], done.stderr
    for name in ("bad", "new", "out", "text"):
        assert f"Cannot read model {name}:1: model.json" in done.stderr
    for name, said in {"bad:1": "Cannot read model", "new:1": "has format 2", "text": "id"}.items():
        shown = hpctf("models", "show", name, cwd=tmp_path)
        assert shown.returncode == 3 and said in shown.stderr
    assert hpctf("models", "show", "good@broken", cwd=tmp_path).returncode == 2


def test_models_lie_where_the_site_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.delenv("HPCTF_MODELS_ROOT")
    monkeypatch.setenv("HPCTF_RUNS_ROOT", str(tmp_path / "runs"))
    assert registry_of("local").root == tmp_path / "runs/.models"
    site = tmp_path / "big.yaml"
    site.write_text(f"name: big\nextends: local\nmodels_root: {tmp_path}/project\numask: '0027'\n")
    made = Model.register(file, "digits", site=str(site))
    assert made.path == tmp_path / "project/digits/1/files/weights.bin"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "project").rglob("*")}
    assert modes == {0o750, 0o640}
    monkeypatch.setenv("HPCTF_MODELS_ROOT", str(tmp_path / "other"))
    assert registry_of(str(site)).root == tmp_path / "other"
    assert registry_of(load_site("local"), tmp_path / "third").root == tmp_path / "third"
    monkeypatch.setenv("HPCTF_MODELS_ROOT", "$NOWHERE_AT_ALL/models")
    with pytest.raises(UsageError, match=r"The models root .*NOWHERE_AT_ALL is not set"):
        registry_of("local")


def test_a_locked_models_root_refuses_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HPCTF_MODELS_ROOT")
    (tmp_path / "admin/sites").mkdir(parents=True)
    (tmp_path / "admin/sites/big.yaml").write_text(
        f"name: big\nextends: local\nmodels_root: {tmp_path}/project\nlocked: [models_root]\n"
    )
    assert registry_of("big").root == tmp_path / "project"
    with pytest.raises(SiteError, match="models_root=: site 'big' has locked models_root"):
        registry_of("big", tmp_path)
    monkeypatch.setenv("HPCTF_MODELS_ROOT", "/mine")
    with pytest.raises(SiteError, match="locked"):
        registry_of("big")


def test_a_model_that_everybody_may_exchange_is_not_loaded(file: Path, root: Path) -> None:
    model = Model.register(file, "digits")
    (root / "digits").chmod(0o777)
    with pytest.raises(UntrustedPath, match=r"Model digits:1 .* can be written by everybody"):
        _ = model.path
    with pytest.raises(UntrustedPath, match="The folder of models"):
        Model.register(file, "digits")


def test_a_full_disk_takes_no_number(tmp_path: Path, file: Path) -> None:
    file.write_bytes(b"w" * (3 << 20))
    with mounted(tmp_path / "small", "size=2m") as place:
        registry = Registry(place / "models", 0o077)
        with pytest.raises(RunFolderError, match=r"(?s)file system is full.*another models root"):
            registry.register("digits", sources.of_path(file))
        assert registry.names() == [] and list((place / "models/digits").iterdir()) == []


@pytest.fixture
def listed(trained: Run, file: Path) -> Iterator[None]:
    trained.register_model("digits", "outputs/model.keras", {"stage": "final", "n": 1}, {"p": 1})
    trained.register_model("digits", "outputs/saved", {"stage": "try"})
    Model.register(file, "other", {"stage": "final"}, model_framework="Custom")
    yield


@pytest.mark.usefixtures("listed")
def test_models_are_found_by_what_they_are(trained: Run) -> None:
    def ids(**what: object) -> list[str]:
        return [model.id for model in Model.list(**what)]  # type: ignore[arg-type]

    assert ids() == ["digits:2", "digits:1", "other:1"]
    assert ids(name="digits") == ["digits:2", "digits:1"]
    assert ids(latest=True) == ["digits:2", "other:1"]
    assert ids(tags={"stage": "final"}) == ["digits:1", "other:1"]
    assert ids(tags=["n", ["stage", "final"]]) == ["digits:1"]
    assert ids(tags=[["n", "1"]]) == ["digits:1"]
    assert ids(properties={"p": 1}) == ["digits:1"]
    assert ids(run_id=trained.id) == ["digits:2", "digits:1"]
    assert ids(model_framework="Custom") == ["other:1"]
    assert ids(name="nothing") == []


def location(name: str) -> bytes:
    """Return an entry of TensorProto.external_data, as onnx.proto writes it."""
    size = len(name.encode())
    varint = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return b"\n\x08location\x12" + varint + name.encode()


def test_weights_beside_an_onnx_model_belong_to_it(trained: Run, tmp_path: Path) -> None:
    of_run = trained.register_model("large", "outputs/large.onnx")
    assert (of_run.record.path, of_run.record.kind) == ("large", "onnx")
    assert sorted(of_run.record.files) == ["large/large.onnx", "large/parts/w 1.bin"]
    got = Path(of_run.download(tmp_path / "got"))
    assert (got / "parts/w 1.bin").read_text() == "weights"

    far = "w" * 200 + ".bin"
    names = ["m.onnx.data", far]
    (tmp_path / "m.onnx").write_bytes(b"".join(b"graph" + location(name) for name in names))
    for name in names:
        (tmp_path / name).write_text(name)
    of_path = Model.register(tmp_path / "m.onnx", "m")
    assert sorted(of_path.record.files) == sorted(f"m/{name}" for name in ["m.onnx", *names])
    assert onnx_file(of_path.folder).read_bytes() == (tmp_path / "m.onnx").read_bytes()
    folder = Model.register(got, "folder")
    assert (folder.record.kind, onnx_file(folder.folder).name) == ("onnx", "large.onnx")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("lost.data", "has weights in 'lost.data', which is not beside it"),
        ("../up.data", "has weights in '../up.data', outside of its folder"),
        ("a/../../up.data", "outside of its folder"),
        ("/etc/passwd", "has weights in '/etc/passwd', outside of its folder"),
    ],
)
def test_an_onnx_model_without_its_weights_is_refused(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "up.data").touch()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/m.onnx").write_bytes(location(name))
    with pytest.raises(UsageError, match=re.escape(why)):
        Model.register(tmp_path / "in/m.onnx", "m")
    with pytest.raises(UsageError, match=r"has weights in|outside of its folder"):
        Model.register(tmp_path / "in", "m")  # whole, as a folder
    assert Model.list() == []


def test_an_empty_onnx_file_has_no_weights_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()
    assert sorted(Model.register(tmp_path / "m.onnx", "m").record.files) == ["m.onnx"]
