"""Why Slurm lets a job wait: what each of its reasons means, and what can be done.

Sources: squeue(1), JOB REASON CODES; Slurm's page "Job Reason Codes"; the reasons of Slurm 22.05
and newer. A reason that is not here is told in Slurm's own words.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hpctf.runs.explain import limits


class Reason(NamedTuple):
    """What a reason means, as the end of a sentence "it waits: ...", and what can be done.

    ``never`` says that the job does not start unless somebody changes it or the site: nobody need
    wait. Neither a hold, which is there to be released, nor a partition, node or limit that frees
    itself is such a reason. ``page`` is the one of docs/troubleshooting about it.
    """

    meaning: str
    advice: str = ""
    never: bool = False
    page: str = "waiting"


_ADMIN = "Ask the cluster's administrators."
_WAIT = "Wait: it starts by itself."
_RESUBMIT = "It will not start as it is: cancel it and submit it again"


def _never(meaning: str, again: str) -> Reason:
    """Return a reason that goes away only if the job is submitted `again`, otherwise."""
    return Reason(meaning, f"{_RESUBMIT} {again}", never=True)


REASONS = {
    "Resources": Reason(
        "the resources that it requests are in use", "Request less to start sooner."
    ),
    "Priority": Reason(
        "other jobs are ahead of it", "With a shorter --time it may fit into a gap between them."
    ),
    "None": Reason("Slurm has not looked at it yet", _WAIT),
    "Dependency": Reason("it depends on other jobs that have not ended", _WAIT),
    "DependencyNeverSatisfied": Reason(
        "it depends on a job that did not end as it should have, so it will never start",
        "Cancel it, correct the other job, and submit both again.",
        never=True,
    ),
    "BeginTime": Reason("its begin time has not come", _WAIT),
    "JobHeldUser": Reason("it is held by its user", "Release it: scontrol release {job}"),
    "JobHeldAdmin": Reason(
        "it is held by an administrator", "Ask them: only an administrator can release it."
    ),
    "JobHoldMaxRequeue": Reason(
        "it was requeued so often that Slurm holds it now",
        "Find out why it kept failing, then: scontrol release {job}",
    ),
    "launch failed requeued held": Reason(
        "it could not be started on its nodes, and Slurm holds it now",
        "Once the nodes work again: scontrol release {job}",
    ),
    "job requeued in held state": Reason(
        "it was requeued and is held", "Release it: scontrol release {job}"
    ),
    "RequeueExitHold": Reason(
        "its exit code made Slurm requeue and hold it", "Release it: scontrol release {job}"
    ),
    "RequeueExit": Reason("its exit code made Slurm requeue it", _WAIT),
    "PartitionDown": Reason(
        "its partition starts no jobs at the moment (state DOWN)",
        "Wait until it is up, or choose another partition.",
    ),
    "PartitionInactive": Reason(
        "its partition is switched off (state INACTIVE)", "Choose another partition."
    ),
    "PartitionNodeLimit": Reason(
        "it requests more or fewer nodes than its partition allows or has up",
        f"{_RESUBMIT} with fewer nodes (--nodes), or in another partition.",
    ),
    "PartitionTimeLimit": _never(
        "it requests more time than its partition allows",
        "with a shorter --time, or in another partition.",
    ),
    "PartitionConfig": Reason(
        "it requests something that its partition does not allow",
        f"{_RESUBMIT} in another partition, or with less.",
    ),
    "AccountNotAllowed": _never(
        "its account may not use its partition", "with another account or partition."
    ),
    "ReqNodeNotAvail": Reason(
        "a node that it needs is not available", "Wait for the node, or do without it."
    ),
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": (
        Reason(
            "nodes that it needs are down, drained, or kept for partitions of higher priority",
            "Wait for them, or choose another partition.",
        )
    ),
    "NodeDown": Reason("a node that it needs is down", "Wait for the node, or do without it."),
    "FrontEndDown": Reason("no front end node is up", _ADMIN),
    "Reservation": Reason("its reservation has not begun", _WAIT),
    "ReservationDeleted": _never("its reservation no longer exists", "without it."),
    "ReservationInvalid": _never(
        "its reservation is no longer valid for it: over, or without access",
        "without it, or in another one.",
    ),
    "Licenses": Reason("the licenses that it requests are in use", _WAIT),
    "JobArrayTaskLimit": Reason(
        "the maximum number of tasks of its job array is running",
        "To allow more: scontrol update jobid={job} arraytaskthrottle=N",
    ),
    "BadConstraints": Reason(
        "no node can ever provide what it requests", f"{_RESUBMIT} with smaller requests.", True
    ),
    "Constraints": Reason(
        "no node can provide what it requests at the moment", "See: sinfo -o %N,%f"
    ),
    "DeadLine": _never("it can no longer end before its deadline", "with a later deadline."),
    "InvalidAccount": _never("its account is not valid", "with another account."),
    "InvalidQOS": _never("its QOS is not valid", "with another QOS."),
    "QOSNotAllowed": _never("its account or partition may not use its QOS", "with another QOS."),
    "QOSUsageThreshold": Reason("its QOS has reached its usage threshold", _ADMIN),
    "QOSJobLimit": Reason("its QOS runs as many jobs as it may", _WAIT),
    "QOSResourceLimit": Reason("its QOS has reached a limit", _WAIT),
    "QOSTimeLimit": Reason("its QOS has used up its time", _ADMIN),
    "AssociationJobLimit": Reason("its account runs as many jobs as it may", _WAIT),
    "AssociationResourceLimit": Reason("its account has reached a limit", _WAIT),
    "AssociationTimeLimit": Reason("its account has used up its time", _ADMIN),
    "AccountingPolicy": Reason("a limit of its account or QOS has been reached", _WAIT),
    "MaxMemPerLimit": _never(
        "it requests more memory than a node or a CPU may provide", "with less --mem."
    ),
    "BurstBufferResources": Reason("the burst buffer has no room for it", _WAIT),
    "BurstBufferStageIn": Reason("its data are being copied to the burst buffer", _WAIT),
    "BurstBufferOperation": Reason("the burst buffer failed", _ADMIN),
    "MaxPoweredUpNodes": Reason("the cluster has as many nodes powered up as it may", _WAIT),
    "PowerNotAvail": Reason("the cluster has no power left for it", _WAIT),
    "PowerReserved": Reason("power is reserved for other jobs", _WAIT),
    "MpiPortsBusy": Reason("the ports that srun reserves for MPI are in use on its nodes", _WAIT),
    "NvidiaImexChannels": Reason("the NVIDIA IMEX channels of its nodes are in use", _WAIT),
    "BlockMaxError": Reason("its block of nodes has failed too often", _ADMIN),
    "BlockFreeAction": Reason("its block of nodes is being freed", _WAIT),
    "Cleaning": Reason("Slurm is still cleaning up after its last start", _WAIT),
    "Prolog": Reason("its nodes are being prepared", _WAIT),
    "SchedDefer": Reason("Slurm does not start jobs immediately here", _WAIT),
    "FedJobLock": Reason("the clusters of the federation are agreeing on who takes it", _WAIT),
    "InactiveLimit": Reason("it was idle longer than Slurm allows", _ADMIN),
    "SystemFailure": Reason("Slurm, a file system or the network failed", _ADMIN),
    "JobLaunchFailure": Reason("it could not be launched", _ADMIN),
    "NonZeroExitCode": Reason("its last start ended with a failure", _WAIT),
    "RaisedSignal": Reason("its last start was ended by a signal", _WAIT),
    "TimeLimit": Reason("its last start reached its time limit", _WAIT),
    "OutOfMemory": Reason("its last start ran out of memory", _WAIT),
    "InvalidReason": Reason("Slurm gives no valid reason", _ADMIN),
    "InvaildReason": Reason("Slurm gives no valid reason", _ADMIN),
}


_PAGES = {
    "held": (
        "JobHeldUser",
        "JobHeldAdmin",
        "JobHoldMaxRequeue",
        "launch failed requeued held",
        "job requeued in held state",
        "RequeueExitHold",
    ),
    "dependency": ("Dependency", "DependencyNeverSatisfied"),
    "nodes-not-available": (
        "PartitionDown",
        "PartitionInactive",
        "ReqNodeNotAvail",
        "Nodes required for job are DOWN",
        "NodeDown",
        "FrontEndDown",
        "Constraints",
    ),
}
"""Which reasons have a page of their own in docs/troubleshooting."""
_LIMITS = ("QOS", "Association", "Accounting")


def page_of(name: str, never: bool) -> str:
    """Return the page of docs/troubleshooting about a reason, by its name up to a comma."""
    for page, names in _PAGES.items():
        if name in names:
            return page
    if never:
        return "never-starts"
    return "limits" if limits.parse(name) or name.startswith(_LIMITS) else "waiting"


_RESERVATION = re.compile(r"Reservation .+ (?:was (deleted)|is (invalid))")
"""What squeue says in the place of a reason once a reservation has gone (reservation.c)."""


def explain(reason: str, job_id: str, where: str = "") -> Reason:
    """Return what a reason means, as squeue or scontrol writes it.

    `where` is what scontrol needs to reach the job's cluster, such as ``--clusters=far``.

    Details after a comma, such as the nodes of ``ReqNodeNotAvail, UnavailableNodes:n4``, are the
    caller's.
    """
    words = bare(reason)
    gone = _RESERVATION.fullmatch(words)
    if gone:
        words = "ReservationDeleted" if gone[1] else "ReservationInvalid"
    found = REASONS.get(words) or REASONS.get(words.partition(",")[0]) or _other(words)
    advice = found.advice.replace("scontrol ", f"scontrol {where} ") if where else found.advice
    page = page_of(words.partition(",")[0], found.never)
    return found._replace(advice=advice.format(job=job_id), page=page)


def bare(reason: str) -> str:
    """Return a reason with blanks, as squeue writes it; scontrol writes ``_`` for them.

    No reason is ``None``, as Slurm writes it.
    """
    return reason.replace("_", " ").strip(" ()") or "None"


def _other(words: str) -> Reason:
    limit = limits.parse(words)
    if limit is None:
        return Reason(f"Slurm says {words}")
    meaning = f"{limit.subject} has a limit on {limit.words}"
    if limit.of_one_job:
        advice = f"{_RESUBMIT} within the limit, or under another QOS or account."
        return Reason(meaning, advice, never=True)
    return Reason(meaning, "It starts once others of these jobs have ended, or under another QOS.")
