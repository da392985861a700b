"""An mpi run whose ranks each believe to be alone is found out, whatever the reason."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from hpctf import worlds
from hpctf.resources import CLIENT, STARTUP
from hpctf.verdict import RankState

from .ranks import of_two
from .test_client import pythons, say

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
    "dist-packages/wandb.py": "try:\n    import mpi4py, horovod\nexcept ImportError:\n    pass\n",
}
"""Stand-ins that have what is looked at; tests/slurm has the real ones."""

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


@pytest.mark.parametrize(
    "script",
    [
        "import tensorflow, os\nmine = os.environ['HPCTF_RANK']",
        "import tensorflow, os\nmine = os.environ.get('SLURM_PROCID')",
        "import tensorflow, os\nmine = 'OMPI_COMM_WORLD_LOCAL_RANK'",
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
    assert two.run("import horovod.tensorflow as hvd\nhvd.init(comm=[0])\n", **ALONE) == ""


def test_a_refusal_that_a_program_passes_over_is_what_the_run_fails_with(two: TwoRanks) -> None:
    """As ``python train.py || true`` in a shell script does."""
    code = HOROVOD + "print('trains')\n"
    for rank in (0, 1):
        status, said = two.start(rank, code, HPCTF_PREFLIGHT="program", **ALONE)
        assert status == 78 and "is alone in its MPI world" in said
    assert two.verdict().startswith("worker-0 on n0: preflight: worker-0 on ")


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
