"""Asking sbatch whether it would take a job on each target, without submitting one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from hpctf.admin.site_init.partitions import TargetDraft
from hpctf.errors import SchedulerError
from hpctf.scheduler import commands

_ANSWER_S = 20.0
_AT_ONCE = 4
_MOST = 60
"""Targets that are tried: each costs slurmctld a try at scheduling."""


def try_targets(
    targets: Sequence[TargetDraft], accounts: Sequence[str]
) -> tuple[tuple[TargetDraft, ...], dict[str, str]]:
    """Return the targets, changed where sbatch takes a job of another form, and its words where
    it takes none, by target.

    A job that asks for GPUs is tried with ``--gpus-per-node`` and ``--gres``, one that has no
    account with each of the person's.
    """
    tried, rest = targets[:_MOST], targets[_MOST:]
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        answers = list(pool.map(lambda one: _try(one, accounts), tried))
    refused = {one.name: words for one, words in answers if words}
    refused |= {one.name: "it was not tried" for one in rest}
    return (*(one for one, _ in answers), *rest), refused


def _try(target: TargetDraft, accounts: Sequence[str]) -> tuple[TargetDraft, str]:
    words = _refusal(target)
    if not words:
        return target, ""
    for other in _others(target, accounts):
        if not _refusal(other):
            return other, ""
    return target, words


def _others(target: TargetDraft, accounts: Sequence[str]) -> list[TargetDraft]:
    """Return other forms of a target, the likeliest first."""
    found = [target]
    if target.has_gpus:
        other = "gres" if target.get("gpu_request") == "gpus-per-node" else "gpus-per-node"
        found.append(target.having("gpu_request", other, "the other form is refused by sbatch"))
    if target.get("account") is None:
        source = "sbatch --test-only refuses a job without one"
        found += [one.having("account", name, source) for one in found for name in accounts]
    return found[1:]


def _refusal(target: TargetDraft) -> str:
    """Return why sbatch takes no job of one process on the target; empty if it takes one."""
    options = {key: target.get(key) for key in ("partition", "account", "qos", "clusters")}
    options["time"] = target.get("time_limit")
    asked = [f"--{key}={value}" for key, value in options.items() if value is not None]
    if target.has_gpus:
        kind = f"{target.get('gpu_type')}:" if target.get("gpu_type") else ""
        request = {"gres": f"--gres=gpu:{kind}1", "gpus-per-node": f"--gpus-per-node={kind}1"}
        asked.append(request[str(target.get("gpu_request"))])
    command = ["sbatch", "--test-only", "--nodes=1", "--ntasks-per-node=1", "--chdir=/", *asked]
    try:
        commands.run([*command, "--wrap=true"], _ANSWER_S)
    except SchedulerError as error:
        return " ".join(error.message.split())
    return ""
