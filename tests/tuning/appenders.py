"""Processes that tell a study their trials, and are killed while they do: run by test_journal.

    python -m tests.tuning.appenders JOURNAL ACKNOWLEDGED KILLS SEED

One process imports Optuna and forks the appenders. Each notes a trial in its own file in the folder
ACKNOWLEDGED once the study has taken it. After each kill the journal's end is torn at times, as a
node's crash leaves it. It prints how many died with the lock.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from pathlib import Path

import optuna

from hpctf.tuning.optuna_store import storage_of


def append_for_ever(journal: str, acknowledged: Path) -> None:
    study = optuna.create_study(
        study_name="study", storage=storage_of(journal), load_if_exists=True
    )
    with open(acknowledged / str(os.getpid()), "a", buffering=1) as told:
        while True:
            trial = study.ask()
            x = trial.suggest_float("x", 0, 1)
            study.tell(trial, x)
            told.write(f"{trial.number} {x!r}\n")


def start(journal: str, acknowledged: Path) -> int:
    child = os.fork()
    if child:
        return child
    try:
        append_for_ever(journal, acknowledged)
    except BaseException as error:
        (acknowledged / f"error-{os.getpid()}").write_text(repr(error))
    finally:
        os._exit(1)


def main() -> None:
    journal, acknowledged, kills = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    generator = random.Random(int(sys.argv[4]))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna.create_study(study_name="study", storage=storage_of(journal))
    children = [start(journal, acknowledged) for _ in range(4)]
    holders = 0
    for number in range(kills):
        wait_for_more(acknowledged)
        time.sleep(generator.uniform(0.01, 0.12))
        victim = children.pop(generator.randrange(len(children)))
        os.kill(victim, signal.SIGSTOP)  # so that what it holds stays in sight
        holders += holds_lock(victim, journal)
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        if number % 3 == 0:
            tear(journal, generator)
        children.append(start(journal, acknowledged))
    time.sleep(0.3)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    print(holders)


def wait_for_more(acknowledged: Path) -> None:
    """Wait until the study has taken one trial more: on a busy machine the appenders take turns."""
    before = told_bytes(acknowledged)
    while told_bytes(acknowledged) == before and not list(acknowledged.glob("error-*")):
        time.sleep(0.005)


def told_bytes(acknowledged: Path) -> int:
    return sum(path.stat().st_size for path in acknowledged.iterdir())


def holds_lock(pid: int, journal: str) -> bool:
    """Whether a process holds the lock."""
    for name in os.listdir(journal + ".locks"):
        with contextlib.suppress(OSError):
            if f" {pid} " in os.readlink(os.path.join(journal + ".locks", name)):
                return True
    return False


def tear(journal: str, generator: random.Random) -> None:
    """Leave a part of a line at the journal's end, as somebody who holds the lock and dies."""
    from hpctf.common.link_locks import link_locked

    child = os.fork()
    if not child:
        with link_locked(journal + ".locks"):
            part = b'{"op_code":5,"worker_id":"' + b"x" * generator.randrange(100_000)
            with open(journal, "ab", buffering=0) as stream:
                stream.write(part)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()
