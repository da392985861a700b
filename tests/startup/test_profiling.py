"""Which steps are profiled, with a stand-in for TensorFlow that notes what it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpctf.startup.profiling import Profile


class Function:
    def __call__(self) -> str:
        return "called"


class Profiler:
    """What TensorFlow's profiler notes, with the number of calls by then."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.refuses = False

    def start(self, folder: str) -> None:
        if self.refuses:
            raise RuntimeError("Another profiler is running.")
        self.said.append("start")

    def stop(self) -> None:
        self.said.append("stop")


class Coordinator:
    def schedule(self, function: Any, args: Any = ()) -> str:
        return "scheduled"


class StandIn:
    """The parts of TensorFlow that are looked at."""

    def __init__(self) -> None:
        self.profiler = self.distribute = self
        self.experimental = Profiler()
        self.coordinator = type("coordinator", (), {"ClusterCoordinator": Coordinator})

    def function(self, _: Any) -> Function:
        return Function()


@pytest.fixture
def tensorflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    monkeypatch.setenv("HPCTF_OUTPUTS_DIR", str(tmp_path))
    monkeypatch.setattr("atexit.register", lambda _: None)
    for owner, name in ((Function, "__call__"), (Coordinator, "schedule")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # and put it back afterwards
    return StandIn()


def test_one_function_is_followed_from_its_first_step_to_its_last(tensorflow: StandIn) -> None:
    Profile(tensorflow, 3, 4).watch()
    said, train, other = tensorflow.experimental.said, Function(), Function()
    for number in range(1, 7):
        assert train() == "called"
        if number < 3:
            other()
        assert said == ["start"] * (number >= 3) + ["stop"] * (number >= 5), number
    assert not hasattr(Function.__call__, "__wrapped__"), "a step costs nothing more from then on"


def test_a_training_that_ends_earlier_is_profiled_to_its_end(
    tensorflow: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = Profile(tensorflow, 2, 9)
    profile.watch()
    train = Function()
    train(), train(), train()
    profile._end()
    assert tensorflow.experimental.said == ["start", "stop"]
    assert f"profile of steps 2-9: {profile.folder}" in capsys.readouterr().err


def test_a_training_without_so_many_steps_says_so(
    tensorflow: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = Profile(tensorflow, 10, 20)
    profile.watch()
    Function()()
    profile._end()
    assert tensorflow.experimental.said == []
    assert "no profile: no tf.function was called 10 times" in capsys.readouterr().err


def test_a_script_that_profiles_itself_goes_on(
    tensorflow: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    tensorflow.experimental.refuses = True
    profile = Profile(tensorflow, 1, 2)
    profile.watch()
    train = Function()
    assert [train() for _ in range(4)] == ["called"] * 4
    profile._end()
    assert tensorflow.experimental.said == []
    assert capsys.readouterr().err == "hpctf: no profile: Another profiler is running.\n"
