"""Entry point on the nodes: ``python -I -S start.py ACTION RUN_FOLDER NUMBER``.

``agents`` starts all agents of one job, ``agent`` is one. The package is found from this file's own
place, as in `hpctf.node.start`.
"""

import os
import site
import sys

_ABOVE = 4
"""How many folders lie between this file and the one that holds the package."""

if __name__ == "__main__":
    folder = os.path.abspath(__file__)
    for _ in range(_ABOVE):
        folder = os.path.dirname(folder)
    sys.path.insert(0, folder)
    site.main()  # -S has kept site-packages away

    from hpctf.errors import HpctfError

    action, run, number = sys.argv[1:]
    try:
        if action == "agents":
            from hpctf.scoring.agent.agent import supervise_scoring

            sys.exit(supervise_scoring(run, int(number)))
        if action == "agent":
            from hpctf.scoring.agent.agent import run_agent

            sys.exit(run_agent(run, int(number)))
    except HpctfError as error:
        print(f"hpctf: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    sys.exit(f"hpctf: unknown action {action!r}")
