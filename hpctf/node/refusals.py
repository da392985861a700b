"""What a script was refused, and passed over: its run has not completed.

`hpctf.startup` and `hpctf.client` put on record what they refuse a script by an exception. One that
ends the script is told as any other; one that the script catches, nothing else tells of.
"""

from __future__ import annotations

import os

from hpctf.common.files import read_records
from hpctf.run_folder.worlds import SKIP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpctf.run_folder.rank_states import RankState


def passed_over(run_folder: str, ranks: Iterable[RankState], attempt: int) -> str:
    """Return what a rank that has ended well was refused first; nothing if no rank was."""
    for rank in ranks:
        for record in read_records(os.path.join(run_folder, "state", f"{rank.name}.jsonl")):
            if record.get("event") == "refusal" and record.get("attempt") == attempt:
                reason = " ".join(str(record.get("reason")).split()).rstrip(".")
                return (
                    f"{rank.name} on {rank.host}: {reason}. The script caught this, "
                    f"and went on; --env {SKIP}=1 lets such a run complete"
                )
    return ""
