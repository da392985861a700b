"""What the doctor's jobs tell of a site: whether jobs run, what nodes see, het jobs, GPUs."""

from __future__ import annotations

import re
from typing import Any

from hpctf.admin.doctor.jobs import Outcome, Request
from hpctf.admin.doctor.report import Check, Report, failed, ok, skipped
from hpctf.runs.root import runs_root_of
from hpctf.site.loading import find_target

CLOCK_S = 5.0
"""Seconds that clocks may differ: more, and times of files and heartbeats mislead."""

NOT_RUN = "no job has run"
_UNREADABLE = re.compile(r"hpctf: (\S+) cannot read the run folder: (.*)")
_SHARED = (
    "Choose a runs root that login and compute nodes share: HPCTF_RUNS_ROOT, or runs_root in the "
    "site file."
)
_OF_REFUSALS = (
    ("account", "targets.{target}.account: 'sacctmgr show associations user=$USER' lists yours"),
    ("qos", "targets.{target}.qos: 'sacctmgr show qos' lists them"),
    ("partition", "targets.{target}.partition: 'sinfo --summarize' lists them"),
    ("time limit", "--time, or targets.{target}.time_limit: ask for less"),
    ("memory", "targets.{target}.mem, or drop: [mem] where a site forbids it"),
    ("node configuration", "--nodes, or the target's gpus, constraint and mem: ask for less"),
    ("gres", "targets.{target}.gpus and gpu_type: 'sinfo --format \"%P %G\"' lists them"),
)


def judge_job(report: Report, request: Request, outcome: Outcome) -> bool:
    """Say whether the job ran, where, and what its nodes saw; return whether any rank began."""
    target = find_target(request.site, request.target)[0]
    report.replace(_ran(request, outcome, target))
    if not outcome.facts:
        for check in _nothing_begun(request, outcome):
            report.replace(check)
        return False
    hosts = [str(one["host"]) for one in outcome.facts]
    report.add(_own_python(request, outcome, hosts))
    if all("met" in one for one in outcome.facts):
        report.replace(_shared(request, outcome))
    report.add(_clocks(outcome), _training_python(outcome))
    if request.site.modules:
        names = " ".join(request.site.modules)
        report.replace(ok("modules", f"module load {names} works in the job"))
    if request.tensorflow:
        report.add(_tensorflow(outcome))
    check, found = judge_gpus(request, outcome, target)
    report.add(check)
    if found is not None:
        report.proposals[f"targets.{target}.gpus"] = found
    return True


def _ran(request: Request, outcome: Outcome, target: str) -> Check:
    if outcome.refused:
        words = outcome.refused.lower()
        remedy = next((text for key, text in _OF_REFUSALS if key in words), "")
        remedy = remedy.format(target=target) or "Change what the target asks for: its directives."
        return failed("job", outcome.refused, remedy)
    if outcome.gave_up:
        what = f"job {outcome.job_id} had not begun after {outcome.waited_s:.0f} s"
        remedy = "Wait longer (--wait-at-most), or take a target with free nodes (--target)."
        return failed("job", f"{what}: {outcome.gave_up}; it was cancelled", remedy)
    if not outcome.facts:
        what = f"job {outcome.job_id} ended at once: {_reason(outcome)}"
        return failed("job", what, _first_words(outcome))
    # Of a rank that did not live to tell what it saw of the others, "login" is not there.
    early = ", ".join(str(one["host"]) for one in outcome.facts if "login" not in one)
    if early:
        what = f"job {outcome.job_id} ended early on {early}: {_reason(outcome)}"
        return failed("job", what, _first_words(outcome))
    hosts = ", ".join(str(one["host"]) for one in outcome.facts)
    return ok("job", f"job {outcome.job_id} of target {target} ran on {hosts}")


def _reason(outcome: Outcome) -> str:
    status = outcome.status
    return outcome.record.reason or (status.reason if status else "") or "no reason is on record"


def _first_words(outcome: Outcome) -> str:
    """Return the log's last lines that are no story of hpctf's own, as what there is to go by."""
    lines = [line for line in outcome.log if line and not line.startswith("hpctf: start ")]
    return "Its log: " + " | ".join(lines[-3:]) if lines else "Its log is empty."


def _nothing_begun(request: Request, outcome: Outcome) -> list[Check]:
    """Return the checks of a job none of whose ranks wrote anything, by what it left."""
    if outcome.refused or outcome.gave_up:
        return [skipped(name, NOT_RUN) for name in ("hpctf on nodes", "training python")]
    root = runs_root_of(request.site)
    if outcome.sight == "none":
        detail = f"the job's nodes do not see {root}, where this machine has the run folders"
        return [failed("runs root shared", detail, _SHARED)]
    unread = [found for line in outcome.log if (found := _UNREADABLE.search(line))]
    if unread:
        detail = "; ".join(f"{one[1]} cannot read {root}: {one[2]}" for one in unread)
        return [failed("runs root shared", detail, _SHARED)]
    reason = outcome.record.reason
    if "module load" in reason:
        return [failed("modules", reason, "modules: in the site file; 'module avail' on a node.")]
    if "hpctf's Python" in reason:
        return [_no_own_python(reason)]
    return [skipped(name, NOT_RUN) for name in ("hpctf on nodes", "training python")]


def _no_own_python(detail: str) -> Check:
    remedy = (
        "Install hpctf into an environment on a file system that login and compute nodes share, "
        "made with a Python that nodes have too."
    )
    return failed("hpctf on nodes", detail, remedy)


def _own_python(request: Request, outcome: Outcome, hosts: list[str]) -> Check:
    if len(set(hosts)) == request.nodes:
        return ok("hpctf on nodes", f"its Python runs on {', '.join(hosts)}")
    lines = [line for line in outcome.log if "execve" in line or "No such file" in line]
    detail = f"of {request.nodes} nodes only {', '.join(hosts)} began"
    return _no_own_python(f"{detail}: {lines[-1]}" if lines else detail)


def _shared(request: Request, outcome: Outcome) -> Check:
    """Return whether each host saw what the others wrote, and after how long."""
    root, blind = runs_root_of(request.site), []
    ages = []
    for one in outcome.facts:
        unmet = request.nodes - 1 - len(one.get("met", ()))
        if unmet:
            blind.append(f"{one['host']} does not see the files of {unmet} other node(s)")
        if "login" not in one:
            continue  # it ended before it knew
        if one["login"] is None:
            blind.append(f"{one['host']} saw no answer of the login node to its file")
        else:
            ages.append(one["login"]["here"] - one["login"]["sent"])
    if blind:
        return failed("runs root shared", f"{root}: {'; '.join(blind)}", _SHARED)
    took = f"a file to the login node and its answer took {max(ages, default=0.0):.2f} s"
    detail = f"{root}: login node and {request.nodes} nodes see each other's files; {took}"
    return ok("runs root shared", detail)


def _clocks(outcome: Outcome) -> Check:
    """Compare each node's clock with the login node's, and with the others'."""
    name, wrong, worst = "node clocks", [], 0.0
    for one in outcome.facts:
        if one.get("login"):
            sent, here = one["login"]["sent"], one["login"]["here"]
            ahead, unsure = (sent + here) / 2 - one["login"]["seen"], (here - sent) / 2
            worst = max(worst, abs(ahead) + unsure)
            if abs(ahead) - unsure > CLOCK_S:
                wrong.append(f"{one['host']} is {_ahead(ahead)} the login node")
        for link in one.get("links", ()):
            if link["offset"] and abs(link["offset"][0]) - link["offset"][1] > CLOCK_S:
                wrong.append(f"{link['to']} is {_ahead(link['offset'][0])} {one['host']}")
    if wrong:
        remedy = (
            "Let the admin set the clocks by NTP (chronyc tracking on each host): Slurm refuses "
            "credentials that are minutes off."
        )
        return failed(name, "; ".join(wrong), remedy)
    return ok(name, f"within {worst:.2f} s of the login node's")


def _ahead(seconds: float) -> str:
    return f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'}"


def _training_python(outcome: Outcome) -> Check:
    versions = {(one["python"], one["executable"]) for one in outcome.facts}
    words = "; ".join(f"{path} (Python {version})" for version, path in sorted(versions))
    return ok("training python", f"{words} starts on every node")


def _tensorflow(outcome: Outcome) -> Check:
    bad = []
    for one in outcome.facts:
        done = one.get("tensorflow") or {}
        if "version" not in done:
            last = [line for line in str(done.get("err", "")).splitlines() if line.strip()]
            why = "not within its time" if done.get("late") else (last or ["no word"])[-1]
            bad.append(f"{one['host']}: {why}")
    if bad:
        remedy = "--python names an environment that has TensorFlow; 'hpctf env build' makes one."
        return failed("tensorflow", "; ".join(bad), remedy)
    slowest = max(one["tensorflow"]["seconds"] for one in outcome.facts)
    version = outcome.facts[0]["tensorflow"]["version"]
    return ok("tensorflow", f"TensorFlow {version} is imported on every node, in {slowest:.1f} s")


def judge_gpus(request: Request, outcome: Outcome, target_name: str) -> tuple[Check, int | None]:
    """Return whether nodes show the GPUs that the target has, and how many they have instead."""
    asked = find_target(request.site, request.target)[1].gpus
    seen = {str(one["host"]): visible(one["gpus"]) for one in outcome.facts}
    words = ", ".join(f"{host}: {count}" for host, count in seen.items())
    if not asked:
        why = "has no GPUs" if asked == 0 else "does not say the number of GPUs per node"
        return skipped("GPUs", f"target {target_name} {why} (gpus)"), None
    if set(seen.values()) == {asked}:
        smi = outcome.facts[0]["gpus"]["smi"]
        more = f"; {smi[0]}" if smi else "; there is no nvidia-smi on the nodes"
        return ok("GPUs", f"{asked} a node are visible ({words}){more}"), None
    found = next(iter(seen.values())) if len(set(seen.values())) == 1 else 0
    detail = f"target {target_name} has gpus: {asked}, but visible are {words}"
    remedy = f"targets.{target_name}.gpus: {found}"
    if not found:
        remedy = (
            f"targets.{target_name}.gpu_request (gpus-per-node, gres or none) is how jobs "
            "request them; nvidia-smi on a node tells whether the driver works."
        )
    return failed("GPUs", detail, remedy), found or None


def visible(gpus: dict[str, Any]) -> int:
    """Return how many GPUs a process sees: by its variables, else by nvidia-smi or the devices."""
    for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        if name in gpus:
            devices = [one for one in str(gpus[name]).split(",") if one.strip()]
            listed = gpus.get("smi")
            return len(devices) if listed is None else min(len(devices), len(listed))
    return len(gpus["smi"]) if gpus.get("smi") is not None else int(gpus["devices"])


def judge_hetjob(
    report: Report, request: Request, outcome: Outcome | None, job_starts: bool
) -> None:
    """Say whether heterogeneous jobs start; `job_starts` tells whether the other job did."""
    name = "het jobs"
    if outcome is None:
        report.add(skipped(name, "ps.placement is shared: no het job is needed"))
        return
    remedy = "ps.placement: shared in the site file: parameter servers beside the workers."
    if not job_starts and not outcome.facts:
        report.add(skipped(name, "no other job has run either"))
    elif outcome.refused or outcome.gave_up:
        why = f"a het job was taken, but had not begun after {outcome.waited_s:.0f} s"
        report.add(failed(name, outcome.refused or f"{why}: {outcome.gave_up}", remedy))
        report.proposals["ps.placement"] = "shared"
    elif len(outcome.facts) < 2:
        words = _first_words(outcome)
        report.add(failed(name, f"one began and failed: {_reason(outcome)}. {words}", remedy))
    else:
        hosts = " and ".join(str(one["host"]) for one in outcome.facts)
        report.add(ok(name, f"job {outcome.job_id} ran its components on {hosts}"))
