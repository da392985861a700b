"""Many who follow runs on a real Slurm: together they ask seldom, and the end needs no question."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.support.buckets import BUCKET

pytestmark = pytest.mark.slurm

MOST = 4

ENDS = {
    "good.py": "import time\ntime.sleep(12)\n",
    "bad.py": "import time, sys\ntime.sleep(12)\nsys.exit(3)\n",
}


@pytest.fixture
def limited(person: Person) -> tuple[str, Path]:
    """A PATH on which Slurm's questions are limited, and what was asked."""
    log = person.write("asked.log", "")
    log.chmod(0o666)
    for name in ("squeue", "sacct", "scontrol"):
        real = shutil.which(name)
        made = person.write(f"limited/{name}", BUCKET.format(log=str(log), most=MOST, real=real))
        made.chmod(0o755)
    return f"{person.home}/limited:/usr/local/bin:/usr/bin:/bin", log


def test_any_number_of_followers_asks_seldom_and_knows_the_end_at_once(
    person: Person, limited: tuple[str, Path]
) -> None:
    path, log = limited
    runs = {}
    for name, text in ENDS.items():
        person.write(name, text)
        done = person.hpctf("submit", name, HPCTF_QUESTIONS_PER_MINUTE=str(MOST))
        runs[name] = done.stdout.strip()

    followers = [("wait", run) for run in runs.values() for _ in range(4)]
    followers += [("watch", run) for run in runs.values()]
    with ThreadPoolExecutor(len(followers)) as pool:
        ends = [*pool.map(lambda words: person.hpctf(*words, check=False, PATH=path), followers)]

    for (_, run), done in zip(followers, ends, strict=True):
        assert done.returncode == (run == runs["bad.py"]), done.stderr
        if run == runs["bad.py"]:
            assert "exit code 3" in done.stderr + done.stdout
    lines = [line.split() for line in log.read_text().splitlines()]
    assert 1 <= len(lines) <= MOST
    assert all(line[1] == "asked" for line in lines)
    assert max(float(line[0]) for line in lines) < min(
        map(ended, map(person.folder, runs.values()))
    )


def ended(folder: Path) -> float:
    """Return when a run's job has put its end on record."""
    records = [json.loads(line) for line in (folder / "state/job.jsonl").read_text().splitlines()]
    return float(next(record["time"] for record in records if record["event"] == "ended"))
