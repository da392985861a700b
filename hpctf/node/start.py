"""Entry point on the nodes: ``python -I -S start.py ACTION RUN_FOLDER ...``.

Python 3.8 and up: srun starts it inside a container by Pyxis, with the container's own.
``-I -S`` keeps PYTHONPATH, PYTHONHOME and other traces of the training environment's modules
away from hpctf's own interpreter, and saves the search for site-packages; so the package is found
from this file's own place.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

if __name__ == "__main__":
    if sys.version_info < (3, 8):
        sys.exit(
            "hpctf: a rank needs Python 3.8 or later to start, but the python3 of this container "
            "is {}.{}: use another image.".format(*sys.version_info)
        )
    from hpctf.errors import HpctfError

    action, run_folder, *rest = sys.argv[1:]
    try:
        if action == "rank":
            from hpctf.node.rank import run_rank

            sys.exit(run_rank(run_folder))
        if action == "conclude":
            from hpctf.node.conclude import conclude

            sys.exit(conclude(run_folder, int(rest[0])))
        if action == "shell":
            from hpctf.node.shell import enter

            enter(run_folder, rest[0], rest[1:])
        if action == "clear":
            from hpctf.node.leftovers import end_earlier_steps

            end_earlier_steps()
            sys.exit()
        if action == "attend":
            from hpctf.node.srun_watch import attend

            sys.exit(attend(run_folder, int(rest[0])))
        if action == "stage":
            from hpctf.node.staging.step import stage

            sys.exit(stage(run_folder))
        if action == "unstage":
            from hpctf.node.staging.step import unstage

            sys.exit(unstage(run_folder))
        if action == "local":
            from hpctf.node.local import run_local

            sys.exit(run_local(run_folder))
    except HpctfError as error:
        sys.exit(f"hpctf: {error}")
    sys.exit(f"hpctf: unknown action {action!r}")
