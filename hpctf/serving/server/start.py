"""What a server's job runs: ``python start.py FOLDER``, in hpctf's environment for serving."""

from __future__ import annotations

import os
import sys
import time

if __name__ == "__main__":
    # Last: what else lies beside hpctf is another Python's.
    sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3)))

from pathlib import Path

from hpctf.common.processes import start_time
from hpctf.serving.instance import ServerState, read_orders


def main(folder: Path) -> int:
    """Serve until asked to stop, and return the exit code."""
    from hpctf.errors import HpctfError
    from hpctf.serving.server.lifetime import serve

    orders = read_orders(folder)
    began = start_time(os.getpid())
    me = ServerState(
        host=os.uname().nodename,
        pid=os.getpid(),
        start_time=began,
        job_id=os.environ.get("SLURM_JOB_ID"),
        since=time.time() - _age_s(began),
        cluster=os.environ.get("SLURM_CLUSTER_NAME"),
    )
    try:
        return serve(orders, me)
    except HpctfError as error:
        from dataclasses import replace

        print(f"hpctf: error: {error}", file=sys.stderr, flush=True)
        replace(me, state="failed", error=str(error)).write(folder)
        return error.exit_code


def _age_s(began: str | None) -> float:
    """Return the seconds since a process began. A job's is the one that its script was."""
    if began is None:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(began) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
