"""Entry point on the nodes: ``python -I -S start.py ACTION STUDY NUMBER``.

``agents`` starts all agents of one job, or the study's driver; ``agent`` and ``driver`` are these.
The package is found from this file's own place, as in `hpctf.node.start`.
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
    site.main()  # -S has kept site-packages away: the search needs Optuna

    from hpctf.errors import HpctfError

    action, study, number = sys.argv[1:]
    try:
        if action == "agents":
            from hpctf.tuning.agent.study_process import supervise_study

            sys.exit(supervise_study(study, int(number)))
        if action == "agent":
            from hpctf.tuning.agent.agent import run_agent

            sys.exit(run_agent(study, int(number)))
        if action == "driver":
            from hpctf.tuning.agent.driver import run_driver

            sys.exit(run_driver(study))
    except HpctfError as error:
        print(f"hpctf: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    sys.exit(f"hpctf: unknown action {action!r}")
