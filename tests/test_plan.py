"""A plan is plain data: it goes to JSON and back unchanged, whatever words it carries."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hpctf.common.files import read_json, write_atomic
from hpctf.plan import Component, Entry, Launch, Plan, Role

ANY_TEXT = st.text(
    st.characters(exclude_categories=["Cs"])
    | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF),
    max_size=40,
)
"""All of Unicode, and the surrogates that stand for bytes which are not UTF-8 (PEP 383)."""

WORDS = st.lists(ANY_TEXT, max_size=4).map(tuple)

ROLES = st.builds(
    Role,
    name=st.sampled_from(["chief", "worker", "ps"]),
    count=st.integers(1, 500),
    component=st.integers(0, 2),
    runs=st.sampled_from(["script", "server"]),
    decides=st.booleans(),
    grace_s=st.floats(0, 100),
    uses_gpu=st.booleans(),
)
COMPONENTS = st.builds(
    Component,
    nodes=st.integers(1, 99),
    tasks=st.integers(1, 999),
    cpus_per_task=st.none() | st.integers(1, 64),
    gpus_per_node=st.integers(0, 8),
    directives=st.lists(st.tuples(ANY_TEXT, ANY_TEXT), max_size=4).map(tuple),
)
PLANS = st.builds(
    Plan,
    run_id=ANY_TEXT,
    experiment=ANY_TEXT,
    run_folder=ANY_TEXT,
    site=ANY_TEXT,
    target=ANY_TEXT,
    backend=ANY_TEXT,
    scheduler=st.sampled_from(["slurm", "local"]),
    roles=st.lists(ROLES, max_size=3).map(tuple),
    components=st.lists(COMPONENTS, max_size=3).map(tuple),
    launch=st.builds(
        Launch,
        method=st.sampled_from(["srun", "mpirun", "local"]),
        hpctf_python=ANY_TEXT,
        start=ANY_TEXT,
        options=WORDS,
        modules=WORDS,
        prologue=WORDS,
        epilogue=WORDS,
    ),
    entry=st.builds(
        Entry,
        kind=st.sampled_from(["script", "function"]),
        command=WORDS,
        python=ANY_TEXT,
        environment=st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=4),
    ),
    tf_config=st.booleans(),
    ports=st.tuples(st.integers(1, 65535), st.integers(1, 65535)),
    pin_gpus=st.booleans(),
    azureml=st.booleans(),
    time_limit_s=st.none() | st.integers(1),
    template_folder=st.none() | ANY_TEXT,
)

PS_PLAN = Plan(
    run_id="mnist_1_abc",
    experiment="mnist",
    run_folder="/shared/runs/mnist/mnist_1_abc",
    site="slurm",
    target="default",
    backend="ps",
    scheduler="slurm",
    roles=(Role("chief", 1), Role("worker", 2), Role("ps", 2, component=1, decides=False)),
    components=(Component(2, 3), Component(1, 2, directives=(("nodes", "1"), ("exclusive", "")))),
    launch=Launch("srun", "/opt/hpctf/bin/python", "/opt/hpctf/start.py"),
    entry=Entry("script", ("python", "train.py"), "python"),
    tf_config=True,
)


@given(PLANS)
@example(replace(PS_PLAN, run_folder='/runs/o\'neill "x"\nnew line\\'))
@example(replace(PS_PLAN, entry=Entry("script", ("python", "caf\udce9.py", ""), "p")))
def test_a_plan_comes_back_from_json_unchanged(plan: Plan) -> None:
    assert Plan.from_json(plan.to_json()) == plan


@given(PLANS)
def test_a_plans_json_is_ascii_so_that_every_locale_can_read_it(plan: Plan) -> None:
    text = plan.to_json()
    assert text.isascii()
    assert text.endswith("}\n")


def test_a_plan_survives_its_file(tmp_path) -> None:
    plan = replace(PS_PLAN, entry=Entry("script", ("caf\udce9", "'\"\n\t"), "p", {"ß": "\u2028"}))
    write_atomic(tmp_path / "plan.json", plan.to_json())
    assert Plan.from_json((tmp_path / "plan.json").read_text()) == plan


def test_the_nodes_read_the_same_words_without_the_plan_module(tmp_path) -> None:
    command = ("python", "train.py", "--path", "caf\udce9", "a\nb")
    plan = replace(PS_PLAN, entry=Entry("script", command, "python"))
    write_atomic(tmp_path / "plan.json", plan.to_json())
    raw = read_json(tmp_path / "plan.json")
    assert tuple(raw["entry"]["command"]) == command
    assert [role["name"] for role in raw["roles"]] == ["chief", "worker", "ps"]


def test_ranks_follow_the_roles_order() -> None:
    assert PS_PLAN.ranks() == [
        ("chief", 0),
        ("worker", 0),
        ("worker", 1),
        ("ps", 0),
        ("ps", 1),
    ]


@given(PLANS)
def test_there_are_as_many_ranks_as_tasks(plan: Plan) -> None:
    assert len(plan.ranks()) == plan.tasks == sum(role.count for role in plan.roles)


def test_a_plan_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        PS_PLAN.run_id = "another"  # type: ignore[misc]


def test_json_with_a_field_nobody_knows_is_refused_rather_than_half_read() -> None:
    raw = json.loads(PS_PLAN.to_json())
    with pytest.raises(TypeError):
        Plan.from_json(json.dumps({**raw, "colour": "red"}))
