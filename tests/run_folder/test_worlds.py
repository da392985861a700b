"""An mpi run whose ranks each believe to be alone is found out, whatever the reason."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from hpctf.common.paths import CLIENT, STARTUP
from hpctf.run_folder import worlds
from hpctf.run_folder.rank_states import RankState
from tests.client.test_run_context import pythons, say
from tests.support.mpi_ranks import of_two

pytestmark = pytest.mark.slow

FAKE = {
    "tensorflow/__init__.py": "",
    "horovod/__init__.py": "",
    "horovod/tensorflow/__init__.py": (
        "from horovod.common.basics import HorovodBasics\n"
        "_basics = HorovodBasics()\ninit, size, rank = _basics.init, _basics.size, _basics.rank\n"
    ),
    "horovod/common/__init__.py": "",
    "horovod/common/basics.py": (
        "import os\nclass HorovodBasics:\n"
        "    def init(self, comm=None): pass\n"
        "    def size(self): return int(os.environ['FAKE_SIZE'])\n"
        "    def rank(self): return int(os.environ['FAKE_RANK'])\n"
        "    def mpi_enabled(self): return os.environ.get('FAKE_MPI') != '0'\n"
    ),
    "mpi4py/__init__.py": "",
    "mpi4py/MPI.py": (
        "import os\nstarted = os.environ.get('FAKE_LATER') != '1'\n"
        "def Is_initialized(): return started\n"
        "def Init(): pass\n"
        "def Init_thread(required=3): return required\n"
        "class COMM_WORLD:\n"
        "    Get_size = staticmethod(lambda: int(os.environ['FAKE_SIZE']))\n"
        "    Get_rank = staticmethod(lambda: int(os.environ['FAKE_RANK']))\n"
    ),
    "keras/__init__.py": "",
    "dist-packages/wandb.py": (
        "try:\n    import mpi4py, horovod\nexcept ImportError:\n    pass\n"
        "def of_keras(): import keras\n"
    ),
    "dist-packages/h5py/__init__.py": "from mpi4py import MPI\n",
}
"""Stand-ins that have what is looked at; real ones: tests/startup/test_preflight_on_slurm.py."""

TOGETHER = {"FAKE_SIZE": "2"}
ALONE = {"FAKE_SIZE": "1", "FAKE_RANK": "0"}
HOROVOD = "import horovod.tensorflow as hvd\nhvd.init()\n"
FALLBACK = "try:\n    import horovod.tensorflow as hvd\nexcept Exception:\n    hvd = None\n"


class TwoRanks:
    """Two ranks of an mpi run, each started as its wrapper does, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "run"
        self.site = folder / "site"
        self.plan: dict[str, Any] = {
            "backend": "mpi",
            "entry": {"kind": "script", "command": ["py"], "python": "py", "environment": {}},
        }
        for name in ("state", "snapshot"):
            (self.folder / name).mkdir(parents=True)
        for name, text in FAKE.items():
            (self.site / name).parent.mkdir(parents=True, exist_ok=True)
            (self.site / name).write_text(text)
        self.ranks = [RankState("worker", index, "Completed", f"n{index}") for index in (0, 1)]
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        for rank in self.ranks:
            (self.folder / f"state/{rank.name}.jsonl").write_text('{"event":"started"}\n')

    def run(self, code: str, python: str = sys.executable, **env: str) -> str:
        """Run a script where nothing ends a rank at once, and return why its ranks were apart."""
        (self.folder / "snapshot/train.py").write_text(code)
        for rank in (0, 1):
            done = self.start(rank, code, python, **env)
            assert done == (0, ""), done
        return self.verdict()

    def start(self, rank: int, code: str, python: str = sys.executable, **env: str) -> Any:
        variables = {**of_two(self.folder, rank), "FAKE_RANK": str(rank), **env}
        path: list[str | Path] = [STARTUP, self.site, self.site / "dist-packages", CLIENT]
        done = say(python, path=path, code=code, **variables)
        return done.returncode, done.stderr

    def verdict(self) -> str:
        return worlds.judge(str(self.folder), self.plan, self.ranks, 0)[0]

    def note(self) -> str:
        return worlds.judge(str(self.folder), self.plan, self.ranks, 0)[1]


@pytest.fixture
def two(tmp_path: Path) -> TwoRanks:
    return TwoRanks(tmp_path)


JOINED = {
    "Horovod": HOROVOD,
    "Horovod behind a try": FALLBACK + "hvd.init()\n",
    "Horovod, the environment cleared": (
        "import os\nkept = {k: v for k, v in os.environ.items() if 'FAKE' in k}\n"
        f"os.environ.clear()\nos.environ.update(kept)\n{HOROVOD}"
    ),
    "mpi4py": "from mpi4py import MPI\n",
    "both": "from mpi4py import MPI\n" + HOROVOD,
    "Horovod in a child": (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {HOROVOD!r}], check=True)\n"
    ),
    "a child alone besides": (
        HOROVOD + "import os, subprocess, sys\nos.environ.update(FAKE_SIZE='1', FAKE_RANK='0')\n"
        f"subprocess.run([sys.executable, '-c', {HOROVOD!r}], check=True)\n"
    ),
}


@pytest.mark.parametrize("way", JOINED)
@pytest.mark.parametrize("python", pythons())
def test_ranks_that_found_each_other_trained_together(two: TwoRanks, way: str, python: str) -> None:
    assert two.run("import tensorflow\n" + JOINED[way], python, **TOGETHER) == ""
    assert two.note() == ""


OTHER_WORLDS = {
    "Horovod": HOROVOD,
    "mpi4py": "from mpi4py import MPI\n",
    "Horovod alone beside mpi4py": (
        "from mpi4py import MPI\nimport os\nos.environ.update(FAKE_SIZE='1', FAKE_RANK='0')\n"
        + HOROVOD
    ),
    "a cleared environment": (
        "import os\nkept = {k: v for k, v in os.environ.items() if 'FAKE' in k}\n"
        f"os.environ.clear()\nos.environ.update(kept)\n{HOROVOD}"
    ),
    "a child": (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {HOROVOD!r}], check=True)\n"
    ),
}


@pytest.mark.parametrize("way", OTHER_WORLDS)
def test_worlds_of_one_are_told_with_who_saw_what(two: TwoRanks, way: str) -> None:
    size = TOGETHER if "beside" in way else ALONE
    said = two.run("import tensorflow\n" + OTHER_WORLDS[way], **size)
    assert "worker-0 on n0 was alone, worker-1 on n1 was alone" in said
    assert f"not in one world of {'mpi4py' if way == 'mpi4py' else 'Horovod'}" in said


def test_worlds_of_the_right_size_that_are_not_one_are_told(two: TwoRanks) -> None:
    said = two.run(HOROVOD, FAKE_SIZE="2", FAKE_RANK="0")
    assert "worker-0 on n0 was rank 0 of 2, worker-1 on n1 was rank 0 of 2" in said


@pytest.mark.parametrize("start", ["MPI.Init()", "MPI.Init_thread(3)"])
def test_a_world_that_the_script_starts_later_counts(two: TwoRanks, start: str) -> None:
    code = f"import mpi4py.MPI as MPI\n{start}\n"
    assert "was alone" in two.run(code, FAKE_LATER="1", **ALONE)
    assert two.run(code, FAKE_LATER="1", **TOGETHER) == ""


WANTED = {
    "never initialised": "import horovod.tensorflow\n",
    "not there": "import sys\nsys.path[:] = [p for p in sys.path if 'site' not in p]\n" + FALLBACK,
    "fails as it loads": (
        "import sys\nsys.modules['horovod.common'] = None\n" + FALLBACK + "assert hvd is None\n"
    ),
    "looked for": (
        "from importlib.util import find_spec\nif find_spec('horovod') and False:\n    pass\n"
    ),
    "mpi4py": "try:\n    import mpi4py.what_is_not_there\nexcept ImportError:\n    pass\n",
    "hpctf's own client": (
        "import sys\nsys.modules['horovod.common'] = None\nfrom hpctf.distribution import mpi\n"
        "try:\n    mpi.begin(None)\nexcept ImportError:\n    pass\n"
    ),
}


@pytest.mark.parametrize("way", WANTED)
def test_ranks_that_went_on_without_the_others_are_told(two: TwoRanks, way: str) -> None:
    said = two.run("import tensorflow\nrank = 0\n" + WANTED[way], **TOGETHER)
    library = "mpi4py" if way == "mpi4py" else "Horovod"
    assert f"its 2 ranks each trained alone: the script looks for {library}" in said
    assert "HPCTF_SKIP_PREFLIGHT=1" in said


def test_a_script_that_knows_nothing_of_ranks_trains_one_model_on_each(two: TwoRanks) -> None:
    said = two.run("import tensorflow\nimport wandb\n")
    assert "each trained alone: the script uses TensorFlow, but neither Horovod nor mpi4py" in said


NOT_OF_RANKS = {
    "a rank of tensors": "x = tf.rank(tf.linalg.matrix_rank(y)); low_rank = 4",
    "an absent Horovod": "first = hvd.rank() == 0 if hvd else True",
    "a comment": "# LOCAL_RANK is what horovodrun sets",
    "a shard of data": "data = data.shard(size, 0)",
}


@pytest.mark.parametrize("way", NOT_OF_RANKS)
def test_other_words_do_not_tell_ranks_apart(two: TwoRanks, way: str) -> None:
    said = two.run(f"import tensorflow\ndef train(tf, hvd, y):\n    0\n    {NOT_OF_RANKS[way]}\n")
    assert "each trained alone: the script uses TensorFlow, but neither Horovod nor mpi4py" in said


@pytest.mark.parametrize("library", ["horovod.tensorflow as hvd", "mpi4py.MPI as MPI"])
def test_an_option_that_was_left_out_leaves_each_alone(two: TwoRanks, library: str) -> None:
    code = (
        "import sys, tensorflow\nhvd = None\nif '--distributed' in sys.argv:\n"
        f"    import {library}\nrank = hvd.rank() if hvd else 0\n"
    )
    label = "Horovod" if "horovod" in library else "mpi4py"
    assert f"can train with {label}, but no rank has imported it" in two.run(code)
    assert two.run(code + "import os\nmine = os.environ.get('SLURM_PROCID')\n") == ""


def test_keras_without_tensorflow_is_a_training(two: TwoRanks) -> None:
    assert "each trained alone" in two.run("import keras\n")
    two.forget()
    assert two.run("import wandb\nwandb.of_keras()\n") == ""


def test_a_world_that_a_package_starts_for_its_files_is_not_the_scripts(two: TwoRanks) -> None:
    """As an h5py that was built with MPI does, which Keras imports."""
    files = "import tensorflow, h5py\n"
    assert "each trained alone" in two.run(files, **TOGETHER)
    assert "the script looks for Horovod" in two.run(
        files + FALLBACK.replace("horovod", "horovod.none"), **TOGETHER
    )
    two.forget()
    assert two.run(files + "from mpi4py import MPI\n", **TOGETHER) == ""


FUNCTIONS = {
    "alone": ("def train():\n    import tensorflow\n", "each trained alone"),
    "an option": (
        "def train(horovod=False):\n    import tensorflow\n    if horovod:\n"
        "        import horovod.tensorflow as hvd\n",
        "can train with Horovod",
    ),
    "apart": (
        "def train():\n    import os, tensorflow\n    return os.environ.get('SLURM_PROCID')\n",
        "",
    ),
}


@pytest.mark.parametrize("way", FUNCTIONS)
def test_a_function_is_judged_by_the_names_in_its_code(two: TwoRanks, way: str) -> None:
    import cloudpickle

    text, says = FUNCTIONS[way]
    made: dict[str, Any] = {"__name__": "__main__"}
    exec(text, made)
    two.plan["entry"]["kind"] = "function"
    (two.folder / "submitit").mkdir()
    (two.folder / "submitit/payload.pkl").write_bytes(cloudpickle.dumps(made["train"]))
    for rank in (0, 1):
        assert two.start(rank, "import tensorflow\n") == (0, "")
    assert (says in two.verdict()) and bool(says) == bool(two.verdict())


def test_a_function_of_an_installed_module_is_not_known(two: TwoRanks) -> None:
    assert two.run("import tensorflow\n")
    two.plan["entry"]["kind"] = "function"
    (two.folder / "snapshot/train.py").unlink()
    assert two.verdict() == ""


@pytest.mark.parametrize(
    "script",
    [
        "import tensorflow, os\nmine = os.environ['HPCTF_RANK']",
        "import tensorflow, os\nmine = os.environ.get('SLURM_PROCID')",
        "import tensorflow, os\nmine = 'OMPI_COMM_WORLD_LOCAL_RANK'",
        "import tensorflow, hpctf\nmine = hpctf.Run.get_context().rank",
        "import tensorflow\nresolver = 'SlurmClusterResolver'",
        "import tensorflow, wandb\nfrom hpctf import shard",
    ],
)
def test_ranks_that_each_do_a_part_complete_with_a_note(two: TwoRanks, script: str) -> None:
    assert two.run(script) == ""
    assert two.note() == "its 2 ranks did not exchange anything: each worked by itself"


def test_what_is_no_training_is_let_be(two: TwoRanks) -> None:
    assert two.run("print('prepares data')") == two.note() == ""
    two.plan["entry"]["command"] = ["./run.sh"]
    assert "is not known" in two.note()
    two.plan["entry"]["environment"] = {"HPCTF_SKIP_PREFLIGHT": "1"}
    assert two.note() == ""


def test_a_child_that_is_alone_with_another_library_does_not_matter(two: TwoRanks) -> None:
    """As a process that loads data by an h5py that was built with MPI."""
    child = "subprocess.run([sys.executable, '-c', 'from mpi4py import MPI'], check=True)\n"
    code = HOROVOD + "import os, subprocess, sys\nos.environ.update(FAKE_SIZE='1')\n" + child
    assert two.run(code, HPCTF_PREFLIGHT="script", **TOGETHER) == ""


def test_a_part_of_the_world_is_the_scripts_choice(two: TwoRanks) -> None:
    part = "import horovod.tensorflow as hvd\nhvd.init(comm=[0, 1])\n"
    assert two.run(part, FAKE_SIZE="2") == ""
    alone = part.replace("[0, 1]", "[int(os.environ['FAKE_RANK'])]")
    assert (
        two.run(
            "import os\nfrom mpi4py import MPI\nos.environ['FAKE_SIZE'] = '1'\n" + alone, **TOGETHER
        )
        == ""
    )
    two.forget()
    assert "gave each a world of Horovod of its own" in two.run("import os\n" + alone, **ALONE)


def test_a_refusal_that_a_program_passes_over_is_what_the_run_fails_with(two: TwoRanks) -> None:
    """As ``python train.py || true`` in a shell script does."""
    code = HOROVOD + "print('trains')\n"
    for rank in (0, 1):
        status, said = two.start(rank, code, HPCTF_PREFLIGHT="program", **ALONE)
        assert status == 78 and "is alone in its MPI world" in said
    assert two.verdict().startswith("worker-0 on n0: preflight: worker-0 on ")


def test_a_refused_child_of_ranks_that_know_each_other_fails_the_run(two: TwoRanks) -> None:
    """Unless it was tried again, and then had its world."""
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {HOROVOD!r}])\n"
    alone = "from mpi4py import MPI\nimport os\nos.environ['FAKE_SIZE'] = '1'\n" + child
    for rank in (0, 1):
        two.start(rank, alone, HPCTF_PREFLIGHT="program", **TOGETHER)
    assert two.verdict().startswith("worker-0 on n0: preflight: worker-0 on ")
    for rank in (0, 1):
        two.start(rank, HOROVOD, HPCTF_PREFLIGHT="program", **TOGETHER)
    assert two.verdict() == ""


def test_a_horovod_without_mpi_says_so(two: TwoRanks) -> None:
    where = {"HPCTF_PREFLIGHT": "script", "HPCTF_LAUNCHER": "srun --mpi=pmix", "FAKE_MPI": "0"}
    status, said = two.start(0, HOROVOD, **where, **ALONE)
    assert status == 78
    assert "its Horovod was built without MPI, and Gloo does not know what srun --mpi=pmix" in said


def test_who_insists_leaves_nothing(two: TwoRanks) -> None:
    assert two.run(HOROVOD, HPCTF_SKIP_PREFLIGHT="1", **ALONE) == ""


def test_an_earlier_start_of_the_job_does_not_count(two: TwoRanks) -> None:
    assert two.run(HOROVOD, **ALONE)
    assert worlds.judge(str(two.folder), two.plan, two.ranks, 1)[0] == ""


def test_the_state_file_does_not_grow_with_the_number_of_processes(two: TwoRanks) -> None:
    path = two.folder / "state/worker-0.jsonl"
    for _ in range(3):
        assert two.start(0, "import tensorflow\n" + HOROVOD, **TOGETHER)[0] == 0
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert events == ["started", "imports", "imports", "world"]
    path.write_text('{"event":"sta')  # cut short by a crash
    assert two.start(0, HOROVOD, **TOGETHER)[0] == 0
    assert path.read_text().splitlines()[1:]
    os.unlink(path)
    assert two.start(0, HOROVOD, **TOGETHER) == (0, "")
    assert not path.exists(), "the file is the wrapper's"
