"""Jobs that wait for other jobs: sbatch's ``--dependency``, joined with a person's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from hpctf.errors import SiteError
from hpctf.plan import Plan


def waiting_for(plan: Plan, conditions: Sequence[str], whom: str, hint: str) -> Plan:
    """Return a plan whose job begins once all conditions hold, and goes once one never can.

    Parameters
    ----------
    conditions
        As sbatch writes them: ``afterok:12``.
    whom, hint
        What the job waits for, in words, and what to do where the person's own dependency cannot be
        joined with it.

    Raises
    ------
    SiteError
        The person waits for any of several jobs, which cannot be joined with one that must be
        (sbatch(1)).
    """
    # Every component of a heterogeneous job waits as its first one does (measured, Slurm 22.05).
    first, *others = plan.components
    own = dict(first.directives)
    given = own.get("dependency", "")
    if "?" in given:
        raise SiteError(
            f"--sbatch dependency={given} waits for any of several jobs, which cannot be joined "
            f"with {whom}.",
            hint,
        )
    more = [one for one in conditions if not re.search(rf"\b{one}\b", given)]
    dependency = ",".join(filter(None, (given, *more)))
    # Without this, a job whose condition can no longer hold would stay in the queue for ever.
    wanted = {**own, "dependency": dependency, "kill-on-invalid-dep": "yes"}
    waiting = replace(first, directives=tuple(wanted.items()))
    return replace(plan, components=(waiting, *others))
