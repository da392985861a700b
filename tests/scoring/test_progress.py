"""Who does what next, as the ledger of a scoring run tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpctf.agents.ledger import SharedLedger
from hpctf.scoring.progress import PLAN, Progress


@pytest.fixture
def ledger(tmp_path: Path) -> SharedLedger[Progress]:
    made = SharedLedger(tmp_path / "ledger.jsonl", Progress())
    made.append("planned", parts=2, rows=20)
    return made


def claim(ledger: SharedLedger[Progress], agent: int, lost: frozenset[int] = frozenset()) -> Any:
    """Claim what is next for an agent, and return it as (number, start)."""
    progress = ledger.refresh()
    number = progress.next_task(agent, lost.__contains__)
    if number is None:
        return None
    before = progress.task(number)
    attempt = 0 if before is None else before.attempt + 1
    ledger.append("claimed", task=number, attempt=attempt, agent=agent)
    return number, attempt


def end(ledger: SharedLedger[Progress], task: int, attempt: int = 0, state: str = "done") -> None:
    ledger.append("ended", task=task, attempt=attempt, state=state, reason="bad")


def test_one_agent_cuts_the_files_and_the_others_wait(tmp_path: Path) -> None:
    ledger = SharedLedger(tmp_path / "ledger.jsonl", Progress())
    assert claim(ledger, 0) == (PLAN, 0)
    assert claim(ledger, 1) is None
    ledger.append("planned", parts=1, rows=5)
    assert claim(ledger, 1) == (0, 0)


def test_the_output_is_joined_by_one_agent_once_all_parts_are_over(
    ledger: SharedLedger[Progress],
) -> None:
    assert [claim(ledger, 0), claim(ledger, 1)] == [(0, 0), (1, 0)]
    end(ledger, 0)
    assert claim(ledger, 0) is None
    end(ledger, 1, state="failed")
    assert claim(ledger, 0) == (2, 0)
    assert claim(ledger, 1) is None and not ledger.progress.is_complete
    end(ledger, 2)
    assert ledger.progress.is_complete and ledger.progress.failed == {1: "bad"}


def test_without_a_part_that_was_scored_there_is_nothing_to_join(
    ledger: SharedLedger[Progress],
) -> None:
    for number in (0, 1):
        claim(ledger, 0)
        end(ledger, number, state="failed")
    assert claim(ledger, 0) is None and ledger.progress.is_complete


def test_a_part_of_a_lost_agent_is_done_again_and_its_late_end_does_not_count(
    ledger: SharedLedger[Progress],
) -> None:
    claim(ledger, 0), claim(ledger, 1)
    end(ledger, 1)
    assert claim(ledger, 1, lost=frozenset({0})) == (0, 1)
    end(ledger, 0, attempt=0)
    assert 0 in ledger.progress.running and ledger.progress.running[0].losses == 1
    end(ledger, 0, attempt=1)
    assert ledger.progress.all_ended and ledger.progress.done == 2


def test_an_agent_that_comes_back_goes_on_with_its_own_part(ledger: SharedLedger[Progress]) -> None:
    claim(ledger, 0)
    assert claim(ledger, 0) == (0, 1)
    ledger.append("returned", task=0, attempt=1, reason="time", lost=False)
    assert claim(ledger, 1) == (0, 2), "what was handed back comes before what is new"
    assert ledger.progress.running[0].losses == 1
    assert ledger.progress.summary() == "20 rows in 2 parts: 1 running, 1 left"
