"""What a rank's wrapper samples of its processes: CPU, memory and GPUs."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hpctf.common.files import read_records
from hpctf.node import memory, system, thinning
from hpctf.node.gpus import Gpus, are_there
from hpctf.node.identity import Identity
from hpctf.node.process_tree import Tree
from hpctf.node.rank import Rank
from hpctf.node.signals import Signals
from hpctf.node.system import Sampler
from hpctf.tracking.samples import Samples
from tests.conftest import ROOT, run_python
from tests.support.waiting import wait_until

BURN = """
import os, sys, time
def burn(seconds):
    while time.process_time() < seconds: pass
def word():
    os.read(0, 1)  # not by sys.stdin, which would take other processes' words, too
"""


@pytest.fixture
def start() -> Iterator[Any]:
    """Starts Python code in a session of its own, as a rank does."""
    started = []

    def starting(code: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-I", "-S", "-c", BURN + textwrap.dedent(code)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        child = subprocess.Popen(words, text=True, start_new_session=True, **pipes)
        started.append(child)
        return child

    yield starting
    for child in started:
        child.communicate()


def says(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def go_on(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def test_cpu_of_processes_that_come_and_go_is_counted_once(start: Any) -> None:
    child = start(
        """
        for _ in range(12):
            if os.fork() == 0:
                burn(0.1)
                os._exit(0)
            os.wait()
        print("done", flush=True)
        word()
        """
    )
    tree = Tree(child.pid)
    looks = []
    while not select.select([child.stdout], [], [], 0.03)[0]:
        looks.append(tree.look()[0])
    assert says(child) == "done"
    looks.append(tree.look()[0])
    assert min(looks) >= 0
    assert 0.9 < sum(looks) < 1.8  # each process's two times are cut to hundredths


def test_a_process_that_nobody_waits_for_takes_nothing_from_the_others(
    start: Any, tmp_path: Path
) -> None:
    child = start(
        """
        if os.fork() == 0:
            if os.fork():
                os._exit(0)
            burn(0.5)  # its parent has gone: it is init's child
            print("burnt", flush=True)
            while not os.path.exists(GONE): time.sleep(0.01)
            os._exit(0)
        os.wait()
        word()
        burn(0.5)
        print("burnt", flush=True)
        word()
        """.replace("GONE", repr(str(tmp_path / "gone")))
    )
    tree = Tree(child.pid)
    assert says(child) == "burnt"
    assert tree.look()[0] > 0.35
    (orphan,) = [pid for pid, _ in tree.processes if pid != str(child.pid)]
    (tmp_path / "gone").touch()
    wait_until(lambda: not os.path.exists(f"/proc/{orphan}"))
    go_on(child)
    assert says(child) == "burnt"
    assert tree.look()[0] > 0.35


def test_a_process_in_a_session_of_its_own_is_still_the_trainings(start: Any) -> None:
    child = start(
        """
        import subprocess
        code = "print(1, flush=True); import sys; sys.stdin.readline()"
        subprocess.run([sys.executable, "-I", "-S", "-c", code], start_new_session=True)
        """
    )
    assert says(child) == "1"
    assert Tree(child.pid).look()[1] == 2


def test_what_forked_processes_share_is_counted_once(start: Any) -> None:
    child = start(
        """
        content = b"x" * (60 << 20)
        for _ in range(3):
            if os.fork() == 0:
                word()
                os._exit(0)
        print("forked", flush=True)
        for _ in range(3):
            os.wait()
        """
    )
    assert says(child) == "forked"
    tree = Tree(child.pid)
    assert tree.look()[1] == 4
    used, count = tree.memory()
    assert count == "pss"
    assert 60 << 20 < used < 110 << 20
    assert tree.memory_peak() > 4 * (60 << 20)


def sampler_of(child: subprocess.Popen[str], path: Path, every_s: float = 0.1) -> Sampler:
    about = {"attempt": 0, "host": "n1"}
    return Sampler(str(path), child.pid, {}, every_s=every_s, about=about, alone=False)


def rows(path: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [record["row"] for record in records if "row" in record]


def test_samples_tell_cores_and_bytes(start: Any, tmp_path: Path) -> None:
    child = start("content = b'x' * (80 << 20)\nprint(1, flush=True)\nburn(60)")
    says(child)
    path = tmp_path / "system" / "worker-0.jsonl"
    sampler = sampler_of(child, path)
    sampler.start()
    wait_until(lambda: path.exists() and len(rows(path)) > 4)
    child.kill()
    child.wait()
    sampler.finish()
    opened = json.loads(path.read_text().splitlines()[0])["opened"]
    assert opened == {"attempt": 0, "host": "n1", "pid": child.pid, "every_s": 0.1}
    found = rows(path)
    cores = [row["cpu"] for row in found[1:-1]]
    assert 0.05 < max(cores) < 4  # this machine may have much else to do
    first = found[0]
    assert (first["memory_count"], first["processes"]) == ("rss", 1)
    assert 80 << 20 < first["memory"] <= first["memory_peak"] < 150 << 20
    assert found[-1]["memory_peak"] > 80 << 20  # the kernel's own, of the process that has ended


def test_a_process_that_is_over_before_the_first_sample_has_a_row(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "FIRST_S", 60.0)
    began = time.monotonic()
    child = start("burn(0.3)")
    path = tmp_path / "worker-0.jsonl"
    sampler = sampler_of(child, path, every_s=60)
    sampler.start()
    child.wait()
    sampler.finish()
    (row,) = rows(path)
    assert row["cpu"] * (time.monotonic() - began) > 0.29


def test_samples_that_cannot_be_written_are_told_of_once(
    start: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    child = start("word()")
    sampler = sampler_of(child, tmp_path / "file" / "worker-0.jsonl")
    sampler.start()
    sampler._thread.join()
    go_on(child)
    child.wait()
    sampler.finish()
    assert capsys.readouterr().err.count("no more samples") == 1


V1 = "cache 900000\nrss 1\ntotal_cache 900000\ntotal_rss 5000\ntotal_shmem 300\n"
V2 = "anon 7000\nfile 900000\nshmem 200\n"


@pytest.mark.parametrize(("stat", "bytes_"), [(V1, 5300), (V2, 7200)], ids=["v1", "v2"])
def test_a_cgroups_memory_is_without_what_was_only_read(
    stat: str, bytes_: int, tmp_path: Path
) -> None:
    (tmp_path / "memory.stat").write_text(stat)
    assert memory.in_use(str(tmp_path)) == bytes_
    assert memory.in_use(str(tmp_path / "none")) is None


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ("4:memory:/slurm_n1/uid_0/job_7/step_0/task_1", "task_1"),
        ("0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0", "task_0"),
        ("4:memory:/slurm_n1/uid_0/job_7/step_0", None),
        ("0::/user.slice/session-1.scope", None),
    ],
)
def test_a_cgroup_is_a_ranks_own_only_if_it_is_a_tasks(
    line: str, folder: str | None, tmp_path: Path
) -> None:
    (tmp_path / "cgroup").write_text(line + "\n")
    found = memory.own_folder(str(tmp_path / "cgroup"))
    assert (found and os.path.basename(found)) == folder


STAND_IN = """
from collections import namedtuple

class NVMLError(Exception): pass
def nvmlInit(): pass
def nvmlDeviceGetCount(): return 4
def nvmlDeviceGetHandleByIndex(index): return "GPU-%d" % index
def nvmlDeviceGetHandleByUUID(uuid): return uuid
def nvmlDeviceGetName(device): return b"A100" if "MIG" not in device else "A100 MIG 1g.5gb"
def nvmlDeviceGetUUID(device): return device
def nvmlDeviceGetUtilizationRates(device):
    if "MIG" in device:
        raise NVMLError("Not Supported")
    return namedtuple("Use", "gpu memory")(10 * int(device[-1]), 5)
def nvmlDeviceGetMemoryInfo(device):
    return namedtuple("Memory", "total free used")(80 << 30, 79 << 30, 1 << 30)
used = 7_000_000_000
def nvmlDeviceGetTotalEnergyConsumption(device):
    if "MIG" in device:
        raise NVMLError("Not Supported")
    global used
    used += 1_500_000
    return used
"""
"""Stands for NVIDIA's library, since no machine of the tests has a GPU: names and forms are those
of nvidia-ml-py 13."""


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("pynvml")
    exec(STAND_IN, module.__dict__)
    monkeypatch.setitem(sys.modules, "pynvml", module)


@pytest.mark.usefixtures("nvml")
@pytest.mark.parametrize(
    ("chosen", "uses"), [("2,3", [20, 30]), ("GPU-1", [10]), (None, [0, 10, 20, 30])]
)
def test_a_ranks_own_gpus_are_counted_from_zero(chosen: str | None, uses: list[int]) -> None:
    env = {"NVIDIA_VISIBLE_DEVICES": "all"}
    gpus = Gpus(env if chosen is None else {"CUDA_VISIBLE_DEVICES": chosen})
    row = gpus.row()
    assert [row[f"gpu{number}_use"] for number in range(len(uses))] == uses
    assert (row["gpu0_memory"], row["gpu0_memory_total"]) == (1 << 30, 80 << 30)
    assert gpus.about["gpus"][0] == f"A100 GPU-{uses[0] // 10}"


@pytest.mark.usefixtures("nvml")
def test_the_energy_counts_from_the_ranks_start() -> None:
    gpus = Gpus({"CUDA_VISIBLE_DEVICES": "0"})
    assert [gpus.row()["gpu0_energy"] for _ in range(3)] == [1500, 3000, 4500]


@pytest.mark.usefixtures("nvml")
def test_a_counter_that_begins_anew_tells_no_energy() -> None:
    gpus = Gpus({"CUDA_VISIBLE_DEVICES": "0"})
    sys.modules["pynvml"].used = 0  # type: ignore[attr-defined]
    assert "gpu0_energy" not in gpus.row()


@pytest.mark.usefixtures("nvml")
def test_a_part_of_a_gpu_tells_its_memory_alone() -> None:
    row = Gpus({"CUDA_VISIBLE_DEVICES": "MIG-5c"}).row()
    assert row == {"gpu0_memory": 1 << 30, "gpu0_memory_total": 80 << 30}


@pytest.mark.parametrize("chosen", ["", "-1", "NoDevFiles"])
def test_a_rank_without_gpus_asks_for_none(chosen: str) -> None:
    assert not are_there({"CUDA_VISIBLE_DEVICES": chosen, "NVIDIA_VISIBLE_DEVICES": "all"})


def test_without_a_gpu_nothing_is_imported_for_them() -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom hpctf.node.gpus import Gpus\n"
    code += "assert Gpus({'CUDA_VISIBLE_DEVICES': ''}).about == {}\n"
    done = run_python("-c", code + "print('pynvml' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr


def test_gpus_that_cannot_be_asked_are_noted_with_the_reason() -> None:
    gpus = Gpus({"CUDA_VISIBLE_DEVICES": "0"})  # nvidia-ml-py is here, NVIDIA's driver is not
    assert "NVML" in gpus.about["no_gpus"]
    assert gpus.row() == {}


def test_a_long_run_has_as_many_samples_as_a_short_one_evenly_over_its_time(
    tmp_path: Path,
) -> None:
    path = tmp_path / "worker-0.jsonl"
    records: list[dict[str, Any]] = []
    for n in range(7 * 8640):  # a week, one each 10 s, and a restart in the middle of it
        if n in (0, 30_000):
            records.append({"opened": {"attempt": int(n > 0)}, "time": 10.0 * n})
        row = {"cpu": n % 2, "memory": n, "memory_count": "pss", "gpu0_use": 50}
        records.append({"name": "system", "row": row, "time": 10.0 * (n + 1)})
        if len(records) >= thinning.MOST:
            path.write_text("".join(json.dumps(one) + "\n" for one in records))
            assert thinning.thin(str(path)) <= thinning.MOST / 2 + 2
            records = list(read_records(path))
    samples = Samples()
    for record in records:
        samples.take(record)
    assert len(samples.all) < thinning.MOST
    assert sum(one.seconds for one in samples.all) == pytest.approx(7 * 86_400)
    used_s = sum(one.row["cpu"] * one.seconds for one in samples.all)
    assert used_s == pytest.approx(7 * 86_400 / 2, rel=1e-2)
    assert samples.all[-1].row == {**row, "cpu": samples.all[-1].row["cpu"]}
    assert max(one.seconds for one in samples.all) < 7 * 86_400 / (thinning.MOST / 4) + 11
    assert [r["opened"]["attempt"] for r in records if "opened" in r] == [0, 1]


def test_a_rank_thins_its_samples(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "MOST", 12)
    monkeypatch.setattr(thinning, "MOST", 12)
    child = start("print(1, flush=True)\nword()")
    path = tmp_path / "system" / "worker-0.jsonl"
    sampler = sampler_of(child, path, every_s=0.01)
    sampler.start()
    wait_until(lambda: sampler._rows > 60)
    assert len(rows(path)) <= 13
    go_on(child)
    child.wait()
    sampler.finish()


def test_a_heartbeat_is_a_time_stamp_and_no_line(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    plan = {"roles": [{"name": "worker", "count": 1}]}
    me = Identity(0, 0, 1, "worker", 0, "n1")
    rank = Rank(plan, me, str(tmp_path), Signals.__new__(Signals))
    rank._record_start(4711)
    state = tmp_path / "state" / "worker-0.jsonl"
    size = state.stat().st_size
    os.utime(state, (1000.0, 1000.0))
    rank.beat()
    assert state.stat().st_size == size
    assert time.time() - state.stat().st_mtime < 60
    os.utime(state, (1000.0, 1000.0))
    rank._record_start(4712)
    assert [record["seen"] for record in read_records(state)] == [None, 1000.0]
