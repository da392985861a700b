"""What stands in for a journal outside of any run: it prints, and remembers for `get_metrics`."""

import time
from typing import Any, Dict, List, Optional

from .journal_reader import KINDS, Journal
from .run_metrics import Child, Tracked
from .values import restored


class Printer(Tracked):
    """Prints each record, as Azure ML's offline runs do."""

    def __init__(self) -> None:
        super().__init__("")
        self._remembered = Journal()

    def scalar(self, name: str, value: Any, step: Optional[int] = None) -> bool:
        """Leave it to `append`."""
        return False

    def append(self, record: Dict[str, Any]) -> None:
        """Print a record."""
        self._remembered.take({**record, "time": time.time()})
        print(_words(record), flush=True)

    def flush(self) -> None:
        """Do nothing: nothing is kept back."""

    def journals(self, rank: Optional[str] = None) -> Dict[str, Journal]:
        return {"offline": self._remembered}

    def children(self) -> List[Child]:
        return []

    def _ends(self, rank: Optional[str]) -> List[Journal]:
        return [self._remembered]


def _words(record: Dict[str, Any]) -> str:
    if "name" in record:
        content = next(restored(record[kind]) for kind in KINDS if kind in record)
        at = f" (step {record['step']})" if "step" in record else ""
        return f"{record['name']}: {content}{at}"
    what = next(iter(record))
    content = f": {record['value']}" if record.get("value", "") != "" else ""
    return f"{what} {record[what]}{content}"
