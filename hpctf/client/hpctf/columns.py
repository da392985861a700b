"""Columns of values: numbers of one kind take eight bytes each, not forty."""

from array import array
from typing import Any, Iterable, List, Union

_CODES = {float: "d", int: "q"}


class Numbers(array):  # type: ignore[type-arg]
    """Floats, or whole numbers of 64 bits: it compares as a list does, and its slices are lists."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (list, array)) and list(self) == list(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return list(found) if isinstance(place, slice) else found

    def __repr__(self) -> str:
        return repr(list(self))

    @property
    def kind(self) -> type:
        """The class of its elements."""
        return float if self.typecode == "d" else int


Column = Union[Numbers, List[Any]]


def appended(column: Column, value: Any) -> Column:
    """Return a column with one more value at its end: itself, unless that is of another kind."""
    if isinstance(column, Numbers):
        code = _CODES.get(value.__class__)
        if not column and code is not None and code != column.typecode:
            column = Numbers(code)
        if code != column.typecode or not _fits(value):
            column = list(column)
    column.append(value)
    return column


def picked(column: Column, places: Iterable[int]) -> Column:
    """Return a column of some of the values of another one."""
    values = [column[n] for n in places]
    return Numbers(column.typecode, values) if isinstance(column, Numbers) else values


def fit(numbers: List[Any]) -> bool:
    """Whether whole numbers have 64 bits at most."""
    return not numbers or (_fits(min(numbers)) and _fits(max(numbers)))


def _fits(value: Any) -> bool:
    return value.__class__ is float or -(1 << 63) <= value < 1 << 63
