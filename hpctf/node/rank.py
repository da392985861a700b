"""One rank, from start to record.

It takes its role from its rank, starts the person's process (or TensorFlow's standard server)
with the environment that follows, passes signals on, ends once the deciding roles have ended if
its own does not decide, and records how it went. submitit, which keeps the result, is imported
while the training is already on its way.
"""

from __future__ import annotations

import os
import sys
import time

from hpctf.errors import HpctfError
from hpctf.files import append_record, read_json
from hpctf.node import identity, process
from hpctf.node.ends import Ends, attempt_of
from hpctf.resources import NODE_SERVER

TYPE_CHECKING = False  # not typing's: importing it costs each rank 8 ms
if TYPE_CHECKING:
    from typing import Any

    from hpctf.node.result import ResultKeeper

HEARTBEAT_S = 30.0
FOLLOW_S = 0.2
"""How often a rank that does not decide looks whether the deciding ones have ended."""


def run_rank(run_folder: str) -> int:
    """Run this rank's part of a run and return its exit status."""
    plan = read_json(os.path.join(run_folder, "plan.json"))
    try:
        me = identity.identify(plan, os.environ)
        state = os.path.join(run_folder, "state", f"{me.name}.jsonl")
        try:
            child = _start(plan, me, state, run_folder)
        except (HpctfError, OSError) as error:
            return _cannot_start(error, me, state, run_folder)
    except HpctfError as error:
        print(f"hpctf: {error}", file=sys.stderr)
        return error.exit_code
    keeper = _result_keeper(run_folder, me)
    return _finish(child.wait(_poll(plan, me, child, state, run_folder)), state, keeper)


def _finish(ended: process.Ended, state: str, keeper: ResultKeeper | None) -> int:
    """Put a rank's end on record, keep its result, and return its exit status."""
    append_record(state, {"event": "ended", "time": time.time(), **ended._asdict()})
    if keeper is not None:
        keeper.keep(ended)
    return ended.status


def _start(
    plan: dict[str, Any], me: identity.Identity, state: str, run_folder: str
) -> process.Process:
    env = identity.environment(plan, me, os.environ, run_folder)
    if plan["tf_config"]:
        from hpctf.node.ports import settle

        env["TF_CONFIG"] = settle(plan, me, os.environ, run_folder)
    command = plan["entry"]["command"]
    if identity.role_named(plan, me.role)["runs"] == "server":
        command = [plan["entry"]["python"], NODE_SERVER]
        # Workers must notice a lost chief, rather than fail at its first absence (TensorFlow's
        # guide to parameter server training).
        env["GRPC_FAIL_FAST"] = "use_caller"
    log = os.path.join(run_folder, "logs", f"{me.name}.log")
    child = process.Process(command, os.path.join(run_folder, "snapshot"), env, log)
    _record_start(state, me, child.pid)
    return child


def _record_start(state: str, me: identity.Identity, pid: int | None) -> None:
    append_record(
        state,
        {
            "event": "started",
            "time": time.time(),
            "host": me.host,
            "rank": me.rank,
            "pid": pid,
            "attempt": attempt_of(os.environ),
        },
    )


def _cannot_start(error: Exception, me: identity.Identity, state: str, run_folder: str) -> int:
    """Say in the rank's own log, and on record, why nothing could be started."""
    code = process.NOT_FOUND if isinstance(error, FileNotFoundError) else process.NOT_EXECUTABLE
    if isinstance(error, HpctfError):
        code = error.exit_code
    message = f"hpctf: {me.name} on {me.host} could not start: {error}\n"
    with open(os.path.join(run_folder, "logs", f"{me.name}.log"), "a", encoding="utf-8") as log:
        log.write(message)
    _record_start(state, me, None)
    return _finish(process.Ended(code, None, None), state, _result_keeper(run_folder, me))


def _poll(
    plan: dict[str, Any],
    me: identity.Identity,
    child: process.Process,
    state: str,
    run_folder: str,
) -> Any:
    """Return what the rank does while its process runs: heartbeats, and following the deciders."""
    role = identity.role_named(plan, me.role)
    follows = not role["decides"]
    deciders = [one for one in plan["roles"] if one["decides"]]
    ends = Ends(run_folder, deciders, attempt_of(os.environ))
    beat_at = time.monotonic() + HEARTBEAT_S
    end_at: float | None = None

    def poll() -> float:
        nonlocal beat_at, end_at
        now = time.monotonic()
        if now >= beat_at:
            append_record(state, {"event": "heartbeat", "time": time.time()})
            beat_at = now + HEARTBEAT_S
        if follows and ends.all():
            if end_at is None:
                end_at = now + role["grace_s"]
            if now >= end_at:
                child.ask_to_end()
                end_at = float("inf")
        waiting = FOLLOW_S if follows and end_at != float("inf") else HEARTBEAT_S
        return min(waiting, beat_at - now)

    return poll


def _result_keeper(run_folder: str, me: identity.Identity) -> ResultKeeper | None:
    """Return submitit's side of the rank, or None where submitit cannot be imported."""
    try:
        import site

        site.main()  # -S kept site-packages away until now
        from hpctf.node.result import ResultKeeper
    except ImportError as error:
        print(f"hpctf: {me.name}: no result will be kept: {error}", file=sys.stderr)
        return None
    return ResultKeeper(run_folder, me)
