"""A training environment on a node's own disk: made one file, brought, mounted or unpacked, run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpctf import UsageError
from hpctf.environment import image as images
from hpctf.environment.build_folder import remove
from hpctf.environment.image import ensure_image, image_of
from hpctf.environment.store import Environment, Store
from hpctf.node.staging.area import Area
from hpctf.node.staging.held import Copies
from hpctf.node.staging.mounting import is_mounted, unmount
from tests.conftest import skip_or_fail
from tests.node.staging.nodes import Node, node
from tests.support.projects import planned, project, site_of

BUILD = "20300101-000000-0badcafe"
TOOL = "import os, sys, mine\nprint(*map(os.path.realpath, [sys.prefix, mine.__file__]))\n"
KINDS = ("squashfs", "tar")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one environment, which holds a module and scripts of every kind."""
    key = tmp_path_factory.mktemp("store") / "tf9-py3-0123456789"
    build = key / BUILD
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", build], check=True)
    lib = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    (build / lib / "mine.py").write_text("")
    scripts = {
        "tool": f"#!{build}/bin/python\n{TOOL}",
        "long": f"#!/bin/sh\n'''exec' {build}/bin/python \"$0\" \"$@\"\n' '''\n{TOOL}",
        "other": f"#!{build}/bin/perl\n",
        "shell": "#!/bin/sh\necho here\n",
    }
    for name, text in scripts.items():
        (build / "bin" / name).write_text(text)
        (build / "bin" / name).chmod(0o755)
    (build / "bin/data").write_bytes(bytes(100))
    (build / "environment.json").write_text(json.dumps({"size_bytes": 100_000}))
    (key / "current").symlink_to(BUILD)
    for kind in KINDS:
        if kind == "squashfs" and not shutil.which("mksquashfs"):
            skip_or_fail("squashfs-tools are not installed")
        ensure_image(Environment(key), kind, 0o077)
    return key


@pytest.fixture
def mounts() -> Iterator[list[Path]]:
    """Places that are unmounted at the end."""
    places: list[Path] = []
    yield places
    for place in places:
        unmount(str(place))


def staging(tmp_path: Path, key: Path, kind: str, **settings: Any) -> Node:
    """Return a node that gets the environment alone."""
    there = node(tmp_path, tmp_path / "disk", {"data": tmp_path / "x"}, **settings)
    file = there.folder / "plan.json"
    plan = json.loads(file.read_text())
    plan["staging"].update(inputs={}, environment=str(key), environment_kind=kind)
    python = str(key / "current/bin/python")
    plan["entry"].update(python=python, command=[python, "train.py"])
    file.write_text(json.dumps(plan))
    return there


def run_in(there: Node) -> list[str]:
    """Return what the environment's Python and its scripts say on the node, as a rank would."""
    plan = json.loads((there.folder / "plan.json").read_text())
    copies = Copies(str(there.folder), 0)
    moved = copies.moved(plan)["entry"]
    assert moved["command"] == [moved["python"], "train.py"]
    folder = os.path.dirname(moved["python"])
    words = [[moved["python"], "-c", TOOL], [f"{folder}/tool"], [f"{folder}/long"]]
    said = [subprocess.check_output(one, text=True).split() for one in words]
    assert said[0] == said[1] == said[2]
    assert said[0][1].startswith(said[0][0])
    copies._held.release()  # the rank has ended
    return [said[0][0], *subprocess.check_output([f"{folder}/shell"], text=True).split()]


@pytest.mark.parametrize("kind", KINDS)
def test_an_environment_runs_at_its_new_place(
    store: Path, tmp_path: Path, kind: str, mounts: list[Path]
) -> None:
    (tmp_path / "x").touch()
    there = staging(tmp_path, store, kind)
    assert there.stage() == 0, there.said
    assert "staged the environment" in there.said
    job = there.disk / f"hpctf-{os.geteuid()}/jobs/{there.job}.0"
    mounts.append(job / ".environment")
    place, said = run_in(there)
    assert place.startswith(str(job)) and said == "here"
    assert is_mounted(str(job / ".environment")) == (kind == "squashfs")
    assert run_in(there)[0] == place  # another rank of the node
    assert there.unstage() == 0
    assert not job.exists() and not is_mounted(str(job / ".environment"))


def test_scripts_of_the_shared_environment_stay_as_they_are(store: Path) -> None:
    assert (store / "current/bin/tool").read_text() == f"#!{store / BUILD}/bin/python\n{TOOL}"
    first = {kind: image_of(store, kind) for kind in KINDS}
    for kind in KINDS:
        assert str(ensure_image(Environment(store), kind, 0o077)) == first[kind]
    assert len({*first.values()}) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_image_is_not_used(store: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "x").touch()
    key = tmp_path / "damaged"
    shutil.copytree(store, key, symlinks=True)
    image = Path(image_of(key, kind) or "")
    text = bytearray(image.read_bytes())
    text[-2] ^= 255
    image.write_bytes(text)
    there = staging(tmp_path, key, kind)
    assert there.stage() == 0
    assert "runs the shared environment: " in there.state().notes[0]
    copies = Copies(str(there.folder), 0)
    plan = json.loads((there.folder / "plan.json").read_text())
    assert copies.moved(plan) == plan
    copies._held.release()
    assert there.unstage() == 0 and there.left() == []


def without(tmp_path: Path, *programs: str) -> str:
    """Return a PATH without some programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for path in Path(place).glob("*") if os.path.isdir(place) else ():
            if path.name not in programs and not (folder / path.name).exists():
                (folder / path.name).symlink_to(path)
    return str(folder)


@pytest.mark.parametrize(
    ("kind", "lacks", "words"),
    [
        ("squashfs", ("squashfuse", "squashfuse_ll"), ""),
        ("squashfs", ("squashfuse", "squashfuse_ll", "unsquashfs"), "there is no unsquashfs"),
        ("tar", ("zstd",), "there is no zstd on this node"),
    ],
)
def test_a_node_without_the_programs(
    store: Path, tmp_path: Path, kind: str, lacks: tuple[str, ...], words: str
) -> None:
    if kind == "tar" and not str(image_of(store, kind)).endswith(".zst"):
        skip_or_fail("zstd is not installed")
    (tmp_path / "x").touch()
    there = staging(tmp_path, store, kind)
    there.variables["PATH"] = without(tmp_path, *lacks)
    assert there.stage() == 0
    assert (words in there.said) and ("runs the shared environment" in there.said) == bool(words)
    assert run_in(there)[0].startswith(str(store if words else there.disk))
    there.unstage()
    assert there.left() == []


def test_an_environment_is_kept_for_later_jobs(
    store: Path, tmp_path: Path, mounts: list[Path]
) -> None:
    (tmp_path / "x").touch()
    first, second = (staging(tmp_path, store, "squashfs", keep="node") for _ in range(2))
    for there in (first, second):
        assert there.stage() == 0
        mounts.append(there.disk / f"hpctf-{os.geteuid()}/jobs/{there.job}.0/.environment")
        run_in(there)
        there.unstage()
        assert len(there.left()) == 1 and there.left()[0].startswith("kept/env-")


def test_a_node_without_room_runs_the_shared_environment(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").touch()
    monkeypatch.setattr(Area, "free", lambda area: (10, 10))
    there = staging(tmp_path, store, "tar")
    assert there.stage() == 0
    assert "has too little room for the environment" in there.state().notes[0]
    assert run_in(there)[0].startswith(str(store))
    nowhere = staging(tmp_path, store, "tar", folder="/nowhere")
    assert nowhere.stage() == 0 and run_in(nowhere)[0].startswith(str(store))


def test_an_image_is_tar_where_mksquashfs_cannot_read_one(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    shutil.copytree(store, key, symlinks=True)
    for kind in KINDS:
        Path(image_of(key, kind) or "").unlink()
    monkeypatch.setenv("PATH", without(tmp_path, "mksquashfs", "zstd"))
    said: list[str] = []
    made = ensure_image(Environment(key), "squashfs", 0o077, said.append)
    assert made is not None and made.suffix == ".tar" and "no mksquashfs" in said[0]
    assert image_of(key, "squashfs") == str(made)
    monkeypatch.setattr(images, "_checksum", lambda path: "0" * 64)
    site = site_of()
    remove(Environment(key), Store(site_of(environments=_at(site, tmp_path))))
    assert not key.exists()


def _at(site: Any, root: Path) -> Any:
    from dataclasses import replace

    return replace(site.environments, store=str(root))


def test_who_gets_a_copy_of_the_environment(tmp_path: Path) -> None:
    source = project(tmp_path / "proj")
    with pytest.raises(UsageError, match="for environments that hpctf builds"):
        planned(source, stage_environment=True)
    assert planned(source, stage_environment=False).plan.staging is None


@pytest.mark.tensorflow
def test_tensorflow_horovod_and_a_script_run_at_the_new_place(
    training_python: str, tmp_path: Path, mounts: list[Path]
) -> None:
    (tmp_path / "x").touch()
    key = Path(training_python).parents[2]
    ensure_image(Environment(key), "squashfs", 0o022)
    there = staging(tmp_path, key, "squashfs")
    assert there.stage() == 0, there.said
    mounts.append(there.disk / f"hpctf-{os.geteuid()}/jobs/{there.job}.0/.environment")
    plan = json.loads((there.folder / "plan.json").read_text())
    copies = Copies(str(there.folder), 0)
    python = copies.moved(plan)["entry"]["python"]
    code = (
        "import tensorflow, horovod.tensorflow as hvd; hvd.init(); print(tensorflow.__file__);"
        "print(*{line.split()[-1] for line in open('/proc/self/maps')})"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(there.disk)) and "libtensorflow_framework" in done.stdout
    assert str(key) not in done.stdout
    script = [os.path.join(os.path.dirname(python), "horovodrun"), "--version"]
    assert subprocess.run(script, capture_output=True, text=True, check=True).stdout
    copies._held.release()
    assert there.unstage() == 0
