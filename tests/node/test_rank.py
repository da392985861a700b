"""A rank reads its plan without looking closely: on a wrong one it ends with one sentence."""

from __future__ import annotations

import itertools
import json
import os
import sys
import traceback
from pathlib import Path

import pytest

from hpctf.node.rank import run_rank
from tests.run_folder.test_documents import good, made, mutations, root  # noqa: F401  (fixtures)

pytestmark = pytest.mark.slow


def as_rank(folder: Path, said: Path) -> int:
    """Run the rank of a run in a process of its own; return its exit status."""
    child = os.fork()
    if not child:
        with said.open("w") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        sys.stdout = sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        try:
            code = run_rank(str(folder))
        except BaseException:
            traceback.print_exc()
            code = 99
        sys.stderr.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_rank_ends_with_one_sentence_on_whatever_plan_it_finds(
    root: Path,  # noqa: F811
    good: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, said = root / "test" / good, tmp_path / "said"
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    for name, value in {"GLOBALID": "0", "LOCALID": "0", "NTASKS": "1", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SUBMITIT_LOCAL_{name}", value)
    monkeypatch.setenv("SUBMITIT_LOCAL_JOB_ID", "1")
    monkeypatch.setenv("SUBMITIT_JOB_ID", "1")
    plan = json.loads((folder / "plan.json").read_text())
    plan["entry"]["command"] = ["true"]
    plan["system_metrics_s"] = 0
    (folder / "plan.json").write_text(json.dumps(plan))
    assert as_rank(folder, said) == 0, said.read_text()
    texts = itertools.chain([("cut off", json.dumps(plan)[:40]), ("newer", "")], mutations(plan))
    refused = 0
    for what, text in texts:
        (folder / "plan.json").write_text(text or json.dumps({**plan, "format": 2, "roles": 5}))
        code = as_rank(folder, said)
        words = said.read_text()
        assert "Traceback" not in words, (what, words)
        assert code in (0, 1, 2, 3, 126, 127), (what, code, words)
        refused += "plan.json" in words
    assert refused > 50
