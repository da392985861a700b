"""Which trials stop early, compared with an independent oracle, and said in words."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from hpctf.errors import UsageError
from hpctf.tuning.goals import PrimaryMetricGoal
from hpctf.tuning.histories import Histories
from hpctf.tuning.judging import Verdict, judge
from hpctf.tuning.policies import (
    BanditPolicy,
    EarlyTerminationPolicy,
    MedianStoppingPolicy,
    NoTerminationPolicy,
    TruncationSelectionPolicy,
    parse_policy,
    policy_from_json,
)
from tests.tuning.policy_oracle import Log, Rule, verdict

MAXIMIZE, MINIMIZE = PrimaryMetricGoal.MAXIMIZE, PrimaryMetricGoal.MINIMIZE
SETS = 1000


def policy_of(rule: Rule) -> EarlyTerminationPolicy:
    when = {
        "evaluation_interval": rule.evaluation_interval,
        "delay_evaluation": rule.delay_evaluation,
    }
    if rule.kind == "bandit":
        return BanditPolicy(slack_factor=rule.slack_factor, slack_amount=rule.slack_amount, **when)
    if rule.kind == "median":
        return MedianStoppingPolicy(**when)
    if rule.kind == "truncation":
        assert rule.percentage is not None
        return TruncationSelectionPolicy(rule.percentage, **when)
    return NoTerminationPolicy()


def any_rule(generator: random.Random) -> Rule:
    when = (generator.choice([1, 1, 2, 3]), generator.choice([0, 0, 2, 5]))
    kind = generator.choice(["factor", "amount", "median", "truncation", "truncation", "none"])
    if kind == "factor":
        return Rule("bandit", generator.choice([0.1, 0.2, 0.25, 1.5]), None, None, *when)
    if kind == "amount":
        return Rule("bandit", None, generator.choice([0, 0.1, 0.2, 0.3, 1]), None, *when)
    if kind == "truncation":
        return Rule("truncation", None, None, generator.choice([1, 20, 33, 50, 99]), *when)
    return Rule(kind, None, None, None, *when)


def any_logs(generator: random.Random) -> list[Log]:
    """Logs of several trials in the order in which they came."""
    digits = generator.choice([1, 1, 2, 6])
    low, high = generator.choice([(0.1, 1), (0, 1), (-1, 1), (-2, -1), (0.1, 500)])
    spoiled = generator.choice([0, 0, 0.1, 0.5])
    with_steps = generator.random() < 0.8

    waiting: dict[int, list[Log]] = {}
    for trial in range(generator.randint(1, 9)):
        level = generator.uniform(low, high)
        logs: list[Log] = []
        step = 0
        for _ in range(generator.randint(0, 9)):
            value = round(0.5 * (level + generator.uniform(low, high)), digits)
            if generator.random() < spoiled:
                value = generator.choice([math.nan, math.inf, -math.inf])
            logs.append(Log(trial, step if with_steps else None, value))
            step += 1
            if with_steps and generator.random() < 0.1:  # requeued: it repeats some steps
                step = max(0, step - generator.randint(1, 4))
        waiting[trial] = logs

    order: list[Log] = []
    started = [trial for trial in waiting if generator.random() < 0.6] or list(waiting)[:1]
    while any(waiting.values()):
        ready = [trial for trial in started if waiting[trial]]
        late = [trial for trial in waiting if trial not in started]
        if late and (not ready or generator.random() < 0.1):
            started.append(late[0])
        elif ready:
            order.append(waiting[generator.choice(ready)].pop(0))
    return order


def said(found: Verdict) -> str:
    return "refused" if found.refused else "stop" if found.stop else "go on"


def test_policies_equal_the_oracle_on_a_thousand_sets_of_curves() -> None:
    outcomes: Counter[tuple[str, str]] = Counter()
    for number in range(SETS):
        generator = random.Random(number)
        rule, minimize = any_rule(generator), generator.random() < 0.5
        logs = any_logs(generator)
        policy, histories = policy_of(rule), Histories(MINIMIZE if minimize else MAXIMIZE)
        for position, log in enumerate(logs):
            interval = histories.add(log.trial, log.value, log.step)
            expected = verdict(rule, minimize, logs[: position + 1], log.trial)
            found = said(judge(policy, histories, log.trial))
            assert found == expected, (number, rule, minimize, logs[: position + 1])
            if interval is not None:
                outcomes[rule.kind, found] += 1

    assert len(outcomes) == 8, outcomes  # each rule has said all that it can say, often
    assert min(outcomes.values()) > 100, outcomes


def histories_of(*curves: list[float], goal: PrimaryMetricGoal = MAXIMIZE) -> Histories:
    histories = Histories(goal)
    for trial, curve in enumerate(curves):
        for step, value in enumerate(curve):
            histories.add(trial, value, step)
    return histories


def test_the_documented_example_of_the_slack_factor() -> None:
    """Best of all 0.8, slack 0.2: a run stops if Y + Y * 0.2 < 0.8, that is below 0.66."""
    policy = BanditPolicy(slack_factor=0.2)
    assert judge(policy, histories_of([0.8], [0.66]), 1).stop
    assert not judge(policy, histories_of([0.8], [0.67]), 1).stop


def test_a_trial_exactly_on_the_limit_stays() -> None:
    """0.8 - 0.2 is 0.6000000000000001 in binary, and 0.1 + 0.1 + 0.1 more than 0.3."""
    assert not judge(BanditPolicy(slack_amount=0.2), histories_of([0.8], [0.6]), 1).stop
    assert judge(BanditPolicy(slack_amount=0.2), histories_of([0.8], [0.59]), 1).stop
    same = histories_of([0.1] * 3, [0.1] * 3)
    assert not judge(MedianStoppingPolicy(), same, 1).stop
    thirds = histories_of([0.1, 0.2, 0.7], [1 / 3, 0.3, 0.2], goal=MINIMIZE)
    assert not judge(MedianStoppingPolicy(), thirds, 0).stop


def test_a_late_starter_is_compared_with_early_values() -> None:
    histories = histories_of([0.1, 0.5, 0.9], [0.1])
    for policy in (
        BanditPolicy(slack_amount=0),
        MedianStoppingPolicy(),
        TruncationSelectionPolicy(50),
    ):
        assert not judge(policy, histories, 1).stop


def test_several_values_read_at_once_are_judged_one_by_one() -> None:
    histories = histories_of([0.9, 0.9], [0.1, 0.95])
    policy = BanditPolicy(slack_amount=0.1)
    assert judge(policy, histories, 1, interval=1).stop
    assert not judge(policy, histories, 1, interval=2).stop
    assert not judge(policy, histories, 1, interval=3).stop


def test_a_repeated_step_keeps_its_first_value_and_is_counted_once() -> None:
    histories = Histories(MAXIMIZE)
    intervals = [
        histories.add("a", value, step) for value, step in [(1, 0), (2, 1), (9, 1), (3, 2)]
    ]
    assert intervals == [1, 2, None, 3]
    assert histories.best("a", 3) == 3


@pytest.mark.parametrize(
    "policy, histories, reason",
    [
        (
            BanditPolicy(slack_factor=0.2),
            histories_of([0.9], [0.61]),
            "stopped early at value 1: bandit: best 0.61 < 0.75 = 0.9 / (1 + 0.2), where trial 0 "
            "is the best of all",
        ),
        (
            BanditPolicy(slack_amount=0.1),
            histories_of([0.5], [0.75], goal=MINIMIZE),
            "stopped early at value 1: bandit: best 0.75 > 0.6 = 0.5 + 0.1, where trial 0 is the "
            "best of all",
        ),
        (
            BanditPolicy(slack_factor=0.1),
            histories_of([0.5], [-0.1]),
            "bandit: slack_factor is a ratio and needs a metric above 0, but trial 1 logged -0.1; "
            "no trial is stopped. Use slack_amount (amount=) instead",
        ),
        (
            MedianStoppingPolicy(),
            histories_of([0.5, 0.7], [0.2, 0.45], [0.4, 0.4]),
            "",
        ),
        (
            MedianStoppingPolicy(),
            histories_of([0.5, 0.7], [0.3, 0.2], [0.4, 0.4]),
            "stopped early at value 2: median: best 0.3 < 0.4, the median of the running averages "
            "of 3 trials",
        ),
        (
            TruncationSelectionPolicy(50),
            histories_of([0.5], [0.4]),
            "stopped early at value 1: truncation: best 0.4 is number 2 of 2 trials, among the "
            "worst 1 (50 % of 2 is 1)",
        ),
        (
            MedianStoppingPolicy(),
            histories_of([0.5, 1], [math.nan, math.nan]),
            "stopped early at value 2: median: none of its 2 values is a finite number, but trial "
            "0 has 1",
        ),
        (
            BanditPolicy(slack_amount=0),
            histories_of([0.12345678], [0.12345677]),
            "stopped early at value 1: bandit: best 0.12345677 < 0.12345678 = 0.123457 - 0, where "
            "trial 0 is the best of all",
        ),
    ],
)
def test_the_verdict_says_the_rule_and_the_numbers(
    policy: EarlyTerminationPolicy, histories: Histories, reason: str
) -> None:
    found = judge(policy, histories, 1)
    if reason:
        assert found.reason == reason
    assert found.stop == reason.startswith("stopped early")


def test_a_whole_number_beyond_every_float_is_no_number() -> None:
    histories = Histories(MAXIMIZE)
    assert histories.add(0, 10**400) == 1
    assert histories.best(0, 1) is None


def test_a_trial_without_values_is_not_judged() -> None:
    assert not judge(MedianStoppingPolicy(), histories_of([0.5]), "unknown").stop


@pytest.mark.parametrize(
    "text, policy",
    [
        ("none", NoTerminationPolicy()),
        ("bandit:slack=0.1", BanditPolicy(slack_factor=0.1)),
        ("bandit:slack=0.1,interval=2,delay=5", BanditPolicy(2, 0.1, None, 5)),
        ("bandit:amount=0", BanditPolicy(slack_amount=0)),
        ("median", MedianStoppingPolicy()),
        ("median:interval=2,delay=5", MedianStoppingPolicy(2, 5)),
        ("truncation:20", TruncationSelectionPolicy(20)),
        ("truncation:20,interval=2,delay=5", TruncationSelectionPolicy(20, 2, 5)),
    ],
)
def test_the_words_of_the_command_line(text: str, policy: EarlyTerminationPolicy) -> None:
    assert parse_policy(text) == policy
    assert str(policy) == text
    assert policy_from_json(policy.to_json()) == policy


def test_azure_mls_names_of_arguments_are_taken() -> None:
    text = "Bandit: slack_amount=0.5, evaluation_interval=2, delay_evaluation=1"
    assert parse_policy(text) == BanditPolicy(2, None, 0.5, 1)
    assert parse_policy("truncation:truncation_percentage=5") == TruncationSelectionPolicy(5)


@pytest.mark.parametrize(
    "text, words",
    [
        ("bandid:slack=0.1", "Did you mean 'bandit'?"),
        ("", "Use bandit:slack=0.1"),
        ("bandit", "slack_factor=0.1"),
        ("bandit:0.1", "takes slack, amount, interval, delay"),
        ("bandit:slack=x", "must be a number"),
        ("bandit:slack=0.1,slack_factor=0.2", "twice"),
        ("bandit:slack=0.1,amount=0.2", "takes one"),
        ("median:slack=0.1", "takes interval, delay"),
        ("truncation", "truncation:20"),
        ("truncation:0", "from 1 to 99"),
        ("truncation:20.5", "from 1 to 99"),
        ("none:delay=1", "It takes none"),
    ],
)
def test_other_words_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_policy(text)
    assert words in str(refused.value)


def test_azure_mls_checks_of_arguments() -> None:
    """The slack that is 0 beside the other counts as absent there."""
    assert BanditPolicy(slack_factor=0, slack_amount=0.1) == BanditPolicy(slack_amount=0.1)
    assert BanditPolicy(slack_factor=0.1, slack_amount=0) == BanditPolicy(slack_factor=0.1)
    assert BanditPolicy(1, 0.1).to_json() == {
        "name": "Bandit",
        "properties": {"evaluation_interval": 1, "delay_evaluation": 0, "slack_factor": 0.1},
    }
    assert TruncationSelectionPolicy(20).to_json()["properties"]["exclude_finished_jobs"] is False
    for make in (
        lambda: BanditPolicy(),
        lambda: BanditPolicy(slack_factor=0),
        lambda: BanditPolicy(slack_factor=-0.1),
        lambda: BanditPolicy(slack_amount=math.nan),
        lambda: BanditPolicy(0, 0.1),
        lambda: BanditPolicy(1.0, 0.1),  # type: ignore[arg-type]
        lambda: MedianStoppingPolicy(delay_evaluation=-1),
        lambda: MedianStoppingPolicy(True),
        lambda: TruncationSelectionPolicy(100),
    ):
        with pytest.raises(UsageError):
            make()


@pytest.mark.parametrize("word", ["maximize", "MAXIMIZE", "Maximize"])
def test_goals_are_words_too(word: str) -> None:
    assert PrimaryMetricGoal.from_str(word) is MAXIMIZE
    with pytest.raises(UsageError, match="maximize or minimize"):
        PrimaryMetricGoal.from_str("max")
