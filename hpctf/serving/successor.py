"""What a server runs before its time limit: ``python successor.py SERVICE_FOLDER``."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    sys.path[0] = os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))

from pathlib import Path

from hpctf.errors import HpctfError
from hpctf.serving.launch import start_server
from hpctf.serving.record import ServiceFolder


def main(folder: Path) -> int:
    """Start the next server, and return the exit code."""
    try:
        service = ServiceFolder(folder)
        start_server(service, service.new_server(), service.definition())
    except HpctfError as error:
        print(f"hpctf: error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
