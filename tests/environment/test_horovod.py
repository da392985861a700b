"""Real TensorFlow with a real Horovod, built for it and this machine's MPI."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from hpctf.environment.build_commands import Commands
from hpctf.environment.horovod import horovod_wheel
from hpctf.environment.indexes import indexes_of
from hpctf.environment.pip import Pip
from hpctf.environment.requirements import Sources
from hpctf.environment.spec import spec_from
from hpctf.environment.store import Environment
from hpctf.errors import BuildError
from hpctf.site.model import EnvironmentSettings
from tests.conftest import skip_or_fail
from tests.support.built import CACHE, OLDER_TENSORFLOW, build_environment
from tests.support.stand_in_wheels import hpctf_env, make_site, make_wheel
from tests.support.waiting import HANGS_S

pytestmark = pytest.mark.tensorflow

TRAIN = """
import tensorflow as tf, horovod.tensorflow as hvd
hvd.init()
weight = tf.Variable([float(hvd.rank())])
hvd.broadcast_variables([weight], root_rank=0)
with tf.GradientTape() as tape:
    loss = tf.reduce_sum(weight * (hvd.rank() + 1.0))
tape = hvd.DistributedGradientTape(tape)
gradient = tape.gradient(loss, [weight])[0].numpy().tolist()
with open(f"rank-{hvd.rank()}.txt", "w") as stream:  # on stdout, mpirun may mix the ranks' lines
    print(f"rank {hvd.rank()} of {hvd.size()}: {weight.numpy().tolist()} {gradient}", file=stream)
"""


def environment_with(tensorflow: str) -> Environment:
    """Return the environment that the tests keep for that TensorFlow."""
    made = build_environment(tensorflow)
    if made.returncode:
        skip_or_fail(f"the environment cannot be built: {made.stderr[-2000:]}")
    return Environment(Path(made.stdout.strip()).parents[2])


def train(python: Path, folder: Path) -> list[str]:
    script = folder / "train.py"
    script.write_text(TRAIN)
    as_root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(
        ["mpirun", "-np", "2", "--oversubscribe", "--bind-to", "none", python, script],
        env={**os.environ, **as_root, "OMPI_MCA_mpi_yield_when_idle": "1"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=HANGS_S,
    )
    assert done.returncode == 0, done.stderr
    return [path.read_text().strip() for path in sorted(folder.glob("rank-*.txt"))]


@pytest.mark.parametrize("version", ["2.21", OLDER_TENSORFLOW])
def test_horovod_is_built_for_its_tensorflow_and_checked(version: str) -> None:
    one = environment_with(version)
    record = one.record()
    assert one.key.startswith(f"tf{version}-py3")
    checked = record["checked"]
    assert checked["tensorflow"].startswith(f"{version}.")
    assert (checked["ranks"], checked["allreduce"]) == (2, [3.0, 30.0])
    assert "Open MPI" in checked["mpi_library"]
    packages = record["packages"]
    assert any(line.startswith(f"tf-keras=={version}.") for line in packages)
    assert not any(line.startswith("tensorflow==") for line in packages)


def test_ranks_have_the_weight_of_the_first_and_the_mean_of_their_gradients(tmp_path: Path) -> None:
    """1.5 of 1 and 2. An older TensorFlow's ranks: tests/client/keras/test_keras.py."""
    python = environment_with("2.21").python
    assert train(python, tmp_path) == [f"rank {rank} of 2: [0.0] [1.5]" for rank in (0, 1)]


def test_a_wheel_of_horovod_is_kept_for_what_it_fits_alone(tmp_path: Path) -> None:
    one = environment_with("2.21")
    spec = spec_from(one.record()["spec"])
    tensorflow = one.record()["checked"]["tensorflow"]
    wheels = CACHE / "environments/wheels"
    commands = Commands(tmp_path / "build.log", {"PATH": "/nonexistent"})
    indexes = indexes_of(Sources(no_index=True), EnvironmentSettings(pip="pip"), os.environ)
    pip = Pip("pip", commands, indexes, tmp_path / "cache", tmp_path)
    said: list[str] = []

    def wheel(version: str) -> Path:
        # Nothing can be built with this PATH and without an index: only what is kept is had.
        return horovod_wheel(spec, one.python, version, wheels, pip, said.append)

    assert wheel(tensorflow).parent.parent == wheels
    assert "which is kept for TensorFlow" in said[-1]
    with pytest.raises(BuildError, match=r"Building Horovod 0\.28\.1 failed"):
        wheel("2.21.99")


def test_uv_works_with_what_pip_is_configured_to_use(tmp_path: Path) -> None:
    """As for somebody new, whose home is empty: the index and certificate are the machine's."""
    home = tmp_path / "home"
    home.mkdir()
    newest = tmp_path / "newest"  # than the index's TensorFlow, which takes long to install
    make_wheel(newest, "tensorflow_cpu", "2.21.99", module="tensorflow")
    make_wheel(newest, "tf_keras", "2.21.99")
    site = make_site(tmp_path, newest, offline=False)
    variables = {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)}
    done = hpctf_env("build", "--pip", "six", "--json", site=site, **variables)
    answer = json.loads(done.stdout)
    said = subprocess.check_output([answer["python"], "-c", "import six; print('there')"])
    assert said == b"there\n"
    assert list(home.rglob("*.whl")) == []  # uv's cache lies in the store
