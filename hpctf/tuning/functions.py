"""Spaces that are functions: which parameters a trial has may depend on the values of others.

    def space(draw):
        if draw("optimizer", choice("adam", "sgd")) == "sgd":
            draw("momentum", uniform(0.5, 0.99))

Agents call the function for each trial, on hpctf's own Python. It is kept in the study's folder as
a pickle, with the modules of the person's own that it is from.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.common.files import PRIVATE_FILE, write_atomic
from hpctf.common.trusted_path import check
from hpctf.errors import UnreadableRun, UsageError, shown
from hpctf.tuning.distributions import Expression
from hpctf.tuning.draws import unit_of
from hpctf.tuning.sampling import FunctionSampling
from hpctf.tuning.spaces import space_of

if TYPE_CHECKING:
    from hpctf.tuning.study import Study
    from hpctf.tuning.trials import Define, Draw

SPACE = "space.pkl"
FUNCTION = "space"
"""What the function is called in a file that ``--space`` names."""


def function_of_file(path: Path) -> Define:
    """Return the function ``space`` of a Python file, which is run.

    Raises
    ------
    UsageError
        The file cannot be run, or has no such function.
    """
    names: dict[str, Any] = {"__name__": "__main__", "__file__": str(path)}
    try:
        exec(compile(path.read_text(), str(path), "exec"), names)
    except Exception as error:
        raise UsageError(
            f"--space {path} cannot be run: {type(error).__name__}: {error}."
        ) from error
    found = names.get(FUNCTION)
    if not callable(found):
        raise UsageError(
            f"--space {path} has no function {FUNCTION!r}.", "Write: def space(draw): ..."
        )
    define: Define = found
    return define


def tried(define: Define, seed: int) -> dict[str, Any]:
    """Return the parameters that a function draws at random.

    Raises
    ------
    UsageError
        It raises something, or draws nothing.
    """
    drawn: dict[str, Any] = {}

    def draw(name: str, expression: Expression) -> Any:
        drawn[name] = expression.at(unit_of(seed, 0, name))
        return drawn[name]

    try:
        with_texts(define)(draw)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"The space's function raises {type(error).__name__}: {error}.",
            "It is called with one argument: draw(name, expression) returns a value.",
        ) from error
    if not drawn:
        raise UsageError(
            "The space's function draws no parameter.", "Call draw('lr', uniform(0, 1))."
        )
    return drawn


def with_texts(define: Define) -> Define:
    """Return a function that takes texts of expressions, too: ``draw("lr", "uniform(0, 1)")``."""

    def defined(draw: Draw) -> None:
        def drawn(name: str, expression: Any) -> Any:
            return draw(name, space_of({name: expression})[name])

        define(drawn)

    return defined


def keep_function(folder: Path, define: Define) -> None:
    """Keep a function in a study's folder.

    Raises
    ------
    UsageError
        It cannot be pickled.
    """
    from hpctf.submission.payload import pickled

    try:
        data = pickled(define)
    except Exception as error:
        raise UsageError(
            f"The space's function {shown(define)} cannot be pickled for the nodes: {error}",
            "Open files, locks, connections and such inside the function instead.",
        ) from None
    write_atomic(folder / SPACE, data, PRIVATE_FILE)


def define_of(study: Study) -> Define:
    """Return the space of a study as a function.

    Raises
    ------
    UntrustedPath
        Others may write the function's pickle, which runs as whoever reads it.
    UnreadableRun
        It cannot be read.
    """
    sampling = study.definition.parameter_sampling
    if not isinstance(sampling, FunctionSampling):
        space = sampling.parameter_space

        def define(draw: Draw) -> None:
            for name, expression in space.items():
                draw(name, expression)

        return define

    path = study.folder.path / SPACE
    check(path, "The study's space")
    try:
        found: Define = pickle.loads(path.read_bytes())
    except Exception as error:
        why = f"the function cannot be loaded ({type(error).__name__}: {error})"
        raise UnreadableRun(str(study.folder.path), SPACE, why) from error
    return with_texts(found)
