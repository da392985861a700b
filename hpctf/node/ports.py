"""The ports of a run: agreed on by all ranks, and claimed on every host, before any training.

Each rank claims its own port of the block that the group tries, and answers in its state file; the
first rank reads the answers and writes the group's decision to ``state/ports.jsonl``. If every
port was free, all start with them; otherwise all let theirs go and try the next block.
"""

from __future__ import annotations

import os
import time
from itertools import count

from hpctf import cluster_spec
from hpctf.common.files import append_record, read_records
from hpctf.errors import ClusterSpecError, HpctfError
from hpctf.node.completion import attempt_of
from hpctf.node.identity import role_counts
from hpctf.node.port_claims import Claim, Taken, claim, own_addresses
from hpctf.placement.job_environment import job_id_from_environment, number_of

TYPE_CHECKING = False  # not typing's: importing it costs each rank 8 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeVar

    from hpctf.cluster_spec import Task
    from hpctf.node.identity import Identity

    T = TypeVar("T")

DECISIONS = "ports.jsonl"
RESERVED = "SLURM_STEP_RESV_PORTS"
MOST_TRIES = 50
PATIENCE_S = 600.0
"""Seconds that the first rank waits for the others; srun ends all of them if one fails."""

_LONGER = 1.1
"""The others wait so much longer: the first rank can say who is missing, they cannot."""

_SHORTEST_S, _LONGEST_S = 0.002, 0.1
"""Pauses between two looks: a tenth of the time waited so far, within these."""

_held: list[Claim] = []
"""The claims of this process: they last as long as it does."""


def settle(plan: dict[str, Any], me: Identity, env: Mapping[str, str], run_folder: str) -> str:
    """Return this rank's TF_CONFIG, once every rank's port in it is free and claimed. Raises
    `HpctfError` if no block was free on all hosts, or a rank never answered."""
    roles = role_counts(plan)
    tasks = cluster_spec.tasks_from_environment(env)
    offers = Offers(plan, tasks, env)
    group = Group(plan, me, env, run_folder, offers.number)
    suffix = plan["host_suffix"]
    addresses = own_addresses(tasks[me.rank].host + suffix) if suffix else []
    for turn in count():
        cluster = cluster_spec.cluster(roles, tasks, offers.ports(turn), suffix)
        port = int(cluster[me.role][me.index].rpartition(":")[2])
        mine: Claim | None = None
        taken: Taken | None = None
        try:
            mine = claim(port, offers.job_id, addresses)
            _held.append(mine)
        except Taken as error:
            taken = error
        if group.agrees(turn, port, taken):
            break
        if mine is not None:
            _held.remove(mine)
            mine.let_go()
    return cluster_spec.task_config(cluster, me.role, me.index)


class Offers:
    """What a group tries: the ports that Slurm reserved, if any, then the site's, block by block.

    `tasks` are the job's, in rank order, `env` the environment of one.
    """

    def __init__(self, plan: dict[str, Any], tasks: Sequence[Task], env: Mapping[str, str]) -> None:
        self.job_id = job_id_from_environment(env)
        self._range = cluster_spec.Ports(*plan["ports"])
        self._size = cluster_spec.most_on_a_host(tasks)
        self._reserved = reserved_ports(plan, tasks, env) if plan["reserved_ports"] else None
        self.number = self._range.blocks(self._size) + (self._reserved is not None)

    def ports(self, turn: int) -> int | list[int]:
        """Return the first port of a block, or every rank's port."""
        if self._reserved is not None:
            if turn == 0:
                return self._reserved
            turn -= 1
        return self._range.block(self.job_id, self._size, turn)


def reserved_ports(
    plan: dict[str, Any], tasks: Sequence[Task], env: Mapping[str, str]
) -> list[int]:
    """Return every rank's port, by rank, of those that Slurm reserved for this step.

    Slurm reserves a component's ports on its nodes alone, and then tells all ranks the ports of
    all components in one sorted list (22.05: ``_create_job_step`` in srun_job.c); it deals them
    out in rising order, component by component.
    """
    if RESERVED not in env:
        raise ClusterSpecError(
            f"the site says ports: {{reserved: true}}, but Slurm reserved none: {RESERVED} is not "
            "set",
            "Reserving needs MpiParams=ports=FIRST-LAST in slurm.conf and srun --resv-ports; do "
            "without otherwise (ports: {reserved: false}).",
        )
    found = _listed_ports(env[RESERVED])
    ports: list[int] = []
    first = 0
    for component in plan["components"]:
        most = -(-component["tasks"] // component["nodes"])
        share = found[first : first + most]
        first += most
        for task in tasks[len(ports) : len(ports) + component["tasks"]]:
            if task.local_rank >= len(share):
                raise ClusterSpecError(
                    f"Slurm reserved ports {env[RESERVED]}, which leaves {len(share)} for "
                    f"{task.host}, but it has {task.local_rank + 1} tasks or more",
                    "Let --resv-ports be the most tasks on a node, in each component (launch "
                    "block of the site's template), or do without (ports: {reserved: false}).",
                )
            ports.append(share[task.local_rank])
    return ports


def _listed_ports(text: str) -> list[int]:
    """Return the ports of a list such as ``14001-14002,14005``."""
    ports: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        ports += range(number_of(RESERVED, first), number_of(RESERVED, last or first) + 1)
    return ports


class Group:
    """All ranks of one start of the step, as the run folder lets them talk; `offers` is how many
    different blocks there are to try."""

    def __init__(
        self,
        plan: dict[str, Any],
        me: Identity,
        env: Mapping[str, str],
        run_folder: str,
        offers: int,
    ) -> None:
        folder = os.path.join(run_folder, "state")
        self._names = [
            f"{name}-{index}" for name, size in role_counts(plan) for index in range(size)
        ]
        self._states = [os.path.join(folder, f"{name}.jsonl") for name in self._names]
        self._decisions = os.path.join(folder, DECISIONS)
        self._me = me
        self._host = me.host + plan["host_suffix"]
        self._range = "{}-{}".format(*plan["ports"])
        self._offers = offers
        # Records of an earlier start lie in the same files: one before a requeue, or a step before.
        self._start = {"attempt": attempt_of(env), "step": env.get("SLURM_STEP_ID", "")}
        self._rivals = False

    def agrees(self, turn: int, port: int, taken: Taken | None) -> bool:
        """Answer for this rank, and return whether the group starts with what it tries. Raises
        `HpctfError` if there is nothing left to try, or somebody never answered."""
        answer = {"port": port, "host": self._host, "free": taken is None}
        if taken is not None:
            answer.update(holder=taken.holder, by_hpctf=taken.by_hpctf)
        self._append(self._states[self._me.rank], turn, answer)
        if self._me.rank == 0:
            decision = self._decide(turn)
            self._append(self._decisions, turn, decision)
        else:
            decision = self._decision(turn)
        if decision["over"]:
            raise self._nothing_left(turn, decision)
        return bool(decision["go"])

    def _decide(self, turn: int) -> dict[str, Any]:
        answers = self._answers(turn)
        taken = [
            {**answer, "name": name}
            for name, answer in zip(self._names, answers)  # noqa: B905  (Python 3.8)
            if not answer["free"]
        ]
        self._rivals = self._rivals or any(answer["by_hpctf"] for answer in taken)
        # Jobs that start together may each lose a port to the other: both let go, so what is
        # taken now may be free on the next round. Other programs do not let go.
        most = MOST_TRIES if self._rivals else min(self._offers, MOST_TRIES)
        return {"go": not taken, "over": bool(taken) and turn + 1 >= most, "taken": taken[:3]}

    def _answers(self, turn: int) -> list[dict[str, Any]]:
        """Wait for every rank's answer; a look reads on from the first that has not answered."""
        answers: list[dict[str, Any]] = []

        def look() -> list[dict[str, Any]] | None:
            for state in self._states[len(answers) :]:
                found = self._record(state, turn)
                if found is None:
                    return None
                answers.append(found)
            return answers

        def silent() -> str:
            return f"{self._names[len(answers)]} has not said whether its port is free"

        return _wait(look, PATIENCE_S, silent)

    def _decision(self, turn: int) -> dict[str, Any]:
        return _wait(
            lambda: self._record(self._decisions, turn),
            PATIENCE_S * _LONGER,
            lambda: f"{self._names[0]} has not said which ports the group takes",
        )

    def _append(self, path: str, turn: int, said: dict[str, Any]) -> None:
        record = {"event": "ports", "time": time.time(), **self._start, "try": turn}
        append_record(path, {**record, **said})

    def _record(self, path: str, turn: int) -> dict[str, Any] | None:
        wanted = {"event": "ports", **self._start, "try": turn}.items()
        return next((record for record in read_records(path) if wanted <= record.items()), None)

    def _nothing_left(self, turn: int, decision: dict[str, Any]) -> HpctfError:
        holders = "; ".join(
            "port {port} of {host}, {name}'s, is held by {holder}".format(**taken)
            for taken in decision["taken"]
        )
        return HpctfError(
            f"no block of ports in {self._range} is free on every host (tries: {turn + 1}): "
            f"{holders}",
            "Submit again once they are free, or give the site another range (ports:).",
        )


def _wait(look: Callable[[], T | None], seconds: float, silent: Callable[[], str]) -> T:
    """Return what `look` finds, as soon as it does."""
    began = time.monotonic()
    while (found := look()) is None:
        waited = time.monotonic() - began
        if waited >= seconds:
            raise HpctfError(
                f"after {seconds:.0f} s {silent()}",
                "Its node may hang, or not see the run folder yet: see its log and the job's.",
            )
        time.sleep(min(max(waited / 10, _SHORTEST_S), _LONGEST_S))
    return found
