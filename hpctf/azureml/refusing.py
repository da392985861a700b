"""How names of Azure ML's that have no counterpart answer: with one sentence on what to write.

A class names them by `refuses`; on the class and on its objects they raise `NotHere` when they are
used. Modules (`hpctf.azureml.modules`) raise `NotThere` when such a name is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn, Protocol, TypeVar

from hpctf.azureml.sentences import MEMBERS
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
    """Give a class the names that `hpctf.azureml.sentences` has for Azure ML's class `name`."""

    def refusing(cls: _Class) -> _Class:
        for member, sentence in expanded(MEMBERS[name]).items():
            setattr(cls, member, Refusal(name, member, sentence))
        return cls

    return refusing


def expanded(table: Mapping[str, str]) -> dict[str, str]:
    """Return name → sentence for a table of sentence → names."""
    return {name: sentence for sentence, names in table.items() for name in names.split()}
