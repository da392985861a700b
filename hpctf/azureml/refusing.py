"""How names of Azure ML's that have no counterpart answer: with one sentence on what to write.

A class names them by `refuses`; on the class and on its objects they raise `NotHere` when they are
used. Modules (`hpctf.azureml.modules`) raise `NotThere` when such a name is imported.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, Protocol, TypeVar

from hpctf.azureml.sentences import MEMBERS, expanded
from hpctf.errors import UsageError
from hpctf.site.model import Site

_Class = TypeVar("_Class", bound=type)


class OfSite(Protocol):
    """What knows its site: the workspace."""

    site: Site


class NotHere(UsageError, AttributeError):
    """An attribute or method of Azure ML's that has no counterpart."""


class NotThere(UsageError, ModuleNotFoundError):
    """A module of Azure ML's that has no counterpart."""

    def __init__(self, message: str, hint: str, name: str) -> None:
        super().__init__(message, hint)
        self.name = name


class Refusal:
    """A descriptor that raises `NotHere` with its sentence, on a class and on its objects."""

    def __init__(self, owner: str, name: str, sentence: str) -> None:
        self.owner, self.name, self.sentence = owner, name, sentence

    def __get__(self, instance: object, owner: type | None = None) -> NoReturn:
        raise NotHere(f"{self.owner}.{self.name} has no counterpart in hpctf.", self.sentence)

    def __set__(self, instance: object, value: object) -> NoReturn:
        self.__get__(instance)


def refuses(name: str) -> Callable[[_Class], _Class]:
    """Give a class the names that `hpctf.azureml.sentences` has for Azure ML's class `name`, and
    a sentence for any other name that it does not have."""

    def refusing(cls: _Class) -> _Class:
        for member, sentence in expanded(MEMBERS[name]).items():
            setattr(cls, member, Refusal(name, member, sentence))
        cls.__getattr__ = _missing  # type: ignore[attr-defined]
        return cls

    return refusing


def sealed(cls: _Class) -> _Class:
    """Let a class of settings refuse the assignment of a name that it does not have, which would
    set nothing."""
    own = cls.__init__  # type: ignore[misc]

    @wraps(own)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        own(self, *args, **kwargs)
        self.__dict__["_sealed"] = True

    def __setattr__(self: Any, name: str, value: object) -> None:
        known = name in self.__dict__ or _of_class(cls, name) is not None
        if "_sealed" in self.__dict__ and not known:
            _missing(self, name)
        object.__setattr__(self, name, value)

    cls.__init__ = __init__  # type: ignore[misc]
    cls.__setattr__ = __setattr__  # type: ignore[assignment, method-assign]
    return cls


def _missing(instance: Any, member: str) -> Any:
    """Say what a class has instead of a name that neither it nor SDK v1's last version has."""
    cls = type(instance)
    there = _of_class(cls, member)  # after a property or a `Refusal` that raised AttributeError
    if hasattr(there, "__get__"):
        return there.__get__(instance, cls)
    if member.startswith("_"):
        raise AttributeError(f"{cls.__name__!r} object has no attribute {member!r}")
    public = [name for name in {*dir(cls), *vars(instance)} if not name.startswith("_")]
    like = difflib.get_close_matches(member, public, 1)
    raise NotHere(
        f"{cls.__name__} has no {member} in hpctf.",
        (f"Did you mean {like[0]}? " if like else "") + "docs/azureml-names.md lists what it has.",
    )


def _of_class(cls: type, member: str) -> Any:
    """Return what a class has by a name, without an object; None if it has nothing."""
    return next((vars(base)[member] for base in cls.__mro__ if member in vars(base)), None)
