"""What hpctf stands on of submitit that is no part of its public interface, and CONTRIBUTING names.

Each is there with the signature that hpctf expects; and hpctf uses nothing else of the kind.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from submitit.core import core, utils
from submitit.local import local
from submitit.slurm import slurm

from tests.conftest import ROOT

PACKAGE = ROOT / "hpctf"

OVERRIDDEN = {
    "Executor._internal_process_submissions": "(self, delayed_submissions)",
    "InfoWatcher.update": "(self)",
    "InfoWatcher.get_state": "(self, job_id, mode='standard')",
    "InfoWatcher.is_done": "(self, job_id, mode='standard')",
    "Controller.wait": "(self, freq=24)",
    "Controller.kill_tasks": "(self)",
}
"""Methods of submitit's classes that hpctf's take the place of: submitit calls them."""

USED = {
    "InfoWatcher": {
        "get_info",
        "_finished",
        "_info_dict",
        "_last_status_check",
        "_num_calls",
        "_registered",
    },
    "Controller": {"_forward_signal", "tasks", "timeout_s"},
    "Executor": {"folder"},
    "Job": {"_results_timeout_s", "watcher"},
}
"""Attributes of submitit's objects that hpctf reads or sets."""


def subclasses() -> Iterator[type]:
    """Yield each class of hpctf's that extends one of submitit's."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if "import" in (text := path.read_text()) and "submitit" in text:
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            if "client" in path.parts or "startup" in path.parts:
                continue
            for value in vars(import_module(module)).values():
                if isinstance(value, type) and value.__module__ == module and bases_of(value):
                    yield value


def bases_of(kind: type) -> list[type]:
    return [base for base in kind.__mro__ if base.__module__.startswith("submitit.")]


def set_by(kinds: list[type]) -> set[str]:
    """Return what classes define, and what their methods set on ``self``."""
    found = {name for kind in kinds for name in vars(kind)}
    for kind in kinds:
        found |= {node.attr for node in on_self(kind) if isinstance(node.ctx, ast.Store)}
    return found


def on_self(kind: type) -> Iterator[ast.Attribute]:
    """Yield ``self.NAME`` wherever a class says it."""
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(kind)))):
        match node:
            case ast.Attribute(value=ast.Name(id="self")):
                yield node


def signature(method: Any) -> str:
    """Return a method's parameters with their defaults, without annotations."""
    found = inspect.signature(method)
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in found.parameters.values()]
    return str(inspect.Signature(bare))


def submitits(name: str) -> Any:
    """Return a class of submitit's by its name."""
    return next(getattr(home, name) for home in (core, local, slurm) if hasattr(home, name))


SUBCLASSES = list(subclasses())


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_submitit_has_what_is_overridden(name: str) -> None:
    kind, _, method = name.partition(".")
    assert signature(getattr(submitits(kind), method)) == OVERRIDDEN[name]


def test_hpctf_has_the_subclasses_that_this_is_about() -> None:
    names = {kind.__name__ for kind in SUBCLASSES}
    assert names == {
        "DetachedExecutor",
        "QueueWatcher",
        "RunController",
        "TemplateExecutor",
        "TemplateJob",
    }


@pytest.mark.parametrize("kind", SUBCLASSES, ids=lambda kind: kind.__name__)
def test_hpctf_overrides_and_uses_nothing_else(kind: type) -> None:
    own = {name for name in vars(kind) if not name.startswith(("__", "_abc_"))}
    touched = (own | {node.attr for node in on_self(kind)}) & set_by(bases_of(kind))
    overridden = {name.partition(".")[2] for name in OVERRIDDEN}
    used = {name for base in bases_of(kind) for name in USED.get(base.__name__, ())}
    assert touched - overridden <= used, "name it here, and in CONTRIBUTING.md"
    for name in overridden & own:
        (expected,) = (what for whose, what in OVERRIDDEN.items() if whose.endswith(f".{name}"))
        assert signature(getattr(kind, name)) == expected


@pytest.mark.parametrize("name", USED)
def test_submitit_has_the_attributes_that_are_used(name: str) -> None:
    assert USED[name] <= set_by([submitits(name)])


def test_files_lie_where_a_run_folder_expects_them(tmp_path: Path) -> None:
    paths = utils.JobPaths(tmp_path, "12_3", 4)
    assert paths.submitted_pickle == tmp_path / "12_3_submitted.pkl"
    assert paths.result_pickle == tmp_path / "12_3_4_result.pkl"


def test_a_pickled_submission_holds_a_function_and_its_arguments() -> None:
    made = utils.DelayedSubmission(max, 1, key=None)
    assert (made.function, made.args, made.kwargs) == (max, (1,), {"key": None})
    assert type(made).__module__ == "submitit.core.utils"  # function_call.py has a stand-in there
    assert utils.CommandFunction(["a", "b"]).command == ["a", "b"]


def test_contributing_names_all_of_it() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    names = {one.partition(".")[2] for one in OVERRIDDEN}
    names |= {name for attributes in USED.values() for name in attributes}
    assert not {name for name in names if f"`{name}`" not in text}
