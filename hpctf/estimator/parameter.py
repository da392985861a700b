"""How an estimator's parameter is declared: one entry, from which all else follows.

An entry is a class attribute of `hpctf.estimator.parameters.Parameters`. The constructor with its
signature, types and docstring, the checks, the options of ``hpctf submit``, the keys of a job file,
what a run has on record and what a site may lock are made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, overload

from hpctf.errors import UsageError, did_you_mean, shown
from hpctf.estimator import words

if TYPE_CHECKING:
    from inspect import Signature

    from typing_extensions import Self, dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Callable[[Any], Any]:
        """Stand in for typing's, which Python 3.10 lacks; only type checkers read it."""
        return lambda decorator: decorator


Given = TypeVar("Given")
Checked = TypeVar("Checked")

TRAINING = "Training"
DISTRIBUTION = "Distribution"
RESOURCES = "Resources"
ENVIRONMENT = "Environment"
FAULT_TOLERANCE = "Fault tolerance"
SLURM = "Slurm"
OUTPUT = "Output"
GROUPS = (TRAINING, DISTRIBUTION, RESOURCES, ENVIRONMENT, FAULT_TOLERANCE, SLURM, OUTPUT)
"""What parameters are about, in the order in which ``--help`` lists them."""


@dataclass(eq=False, repr=False)
class Option:
    """How a parameter is written on the command line and in a job file.

    ``name`` is ``--nodes`` or ``--chief/--no-chief``; without dashes a job file alone has it, and
    ``aliases`` are more keys of a job file. ``kind`` is what it takes: `str`, `int`, `bool`,
    `list`, `dict`, or the values to choose from. ``metavar`` and ``help`` are those of ``--help``.
    ``read`` makes the parameter's value of the option's. ``path`` says when a job file's value is a
    path, relative to that file: always (``path``), if it looks like one (``or name``), or if it
    exists (``if there``). ``shown`` is how messages name it, if not by all of its flags. ``short``
    is ``-n`` for what is used often: ``--help`` lists it first.
    """

    name: str
    kind: type | tuple[str, ...] = str
    metavar: str | None = None
    read: Callable[[Any], Any] | None = None
    help: str = ""
    path: Literal["", "path", "or name", "if there"] = ""
    aliases: tuple[str, ...] = ()
    shown: str = ""
    short: str = ""

    @property
    def key(self) -> str:
        """The option's name in Python; a job file has it with ``-`` or ``_``."""
        return self.name.split("/")[0].lstrip("-").replace("-", "_")

    @property
    def flags(self) -> list[str]:
        """Its flags; none if the command line does not have it."""
        return self.name.split("/") if self.name.startswith("-") else []

    def value_of(self, value: Any) -> Any:
        """Return the parameter's value of what stands on the command line or in a job file."""
        if self.read is not None:
            return self.read(value)
        if self.kind is dict:
            return words.pairs(self.name, value)
        return list(value) if self.kind is list else value


@dataclass(eq=False, repr=False)
class Parameter(Generic[Given, Checked]):
    """One parameter of the estimator: takes `Given`, and is `Checked` on the estimator.

    ``group`` is one of `GROUPS`, ``doc`` what it means: its first sentence is the option's help
    where that has none. ``check`` gets the name, the value and the checked values of ``needs``, and
    returns the value in its one form or raises `UsageError`; None takes any value. ``option`` and
    ``other_option`` are its ways on the command line. ``overrides`` is the site's key that it
    overrides, which a site may lock (``target.mem``: a compute target's). Without ``kept`` the
    estimator has no attribute of this name, without ``recorded`` a run's record has none, and
    ``alias_of`` is the parameter that this one is an older name of.
    """

    group: str
    doc: str = ""
    check: Callable[..., Checked] | None = None
    option: Option | None = None
    other_option: Option | None = None
    default: Any = None
    needs: tuple[str, ...] = ()
    overrides: str = ""
    kept: bool = True
    recorded: bool = True
    alias_of: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        self.__doc__ = self.doc
        self.recorded = self.recorded and self.kept

    @property
    def options(self) -> list[Option]:
        """Its ways on the command line and in a job file."""
        return [option for option in (self.option, self.other_option) if option]

    @property
    def changeable(self) -> bool:
        """Whether it may differ when a run is submitted again: code and environment stay."""
        return self.recorded and self.group != ENVIRONMENT

    @property
    def label(self) -> str:
        """The parameter and its options, as a message names them."""
        shown = [one.shown or ", ".join(one.flags) for one in self.options if one.flags]
        return f"{self.name} ({', '.join(shown)})" if shown else self.name

    @property
    def flags(self) -> list[str]:
        """Its flags on the command line."""
        return [flag for option in self.options for flag in option.flags]

    def help_of(self, option: Option) -> str:
        """Return the line of ``--help``."""
        first, stop, _ = self.doc.replace("`", "").partition(". ")
        return option.help or first + stop.rstrip()

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Checked: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        try:
            return instance.__dict__[self.name]
        except KeyError:
            message = f"{owner.__name__!r} object has no attribute {self.name!r}"
            raise AttributeError(message) from None

    def __set__(self, instance: Any, value: Given) -> None:
        instance.__dict__[self.name] = value


def older_name_of(name: str, group: str) -> Parameter[Any, Any]:
    """Return a parameter that stands for another one."""
    return Parameter(group, f"Azure ML's older name of `{name}`.", kept=False, alias_of=name)


class Described:
    """What has parameters: its constructor takes those of its table, checked in their order."""

    parameters: ClassVar[dict[str, Parameter[Any, Any]]] = {}
    not_here: ClassVar[Mapping[str, str]] = {}
    """Names that other systems' estimators take, and what to use in their place."""

    def __init__(self, source_directory: Any = None, **given: Any) -> None:
        given["source_directory"] = source_directory
        for name in sorted(given.keys() - self.parameters.keys()):
            if name in self.not_here:
                raise UsageError(f"{name} means nothing on a cluster.", self.not_here[name])
            near = did_you_mean(name, list(self.parameters))
            raise UsageError(
                f"TensorFlow() has no parameter {name!r}.{near}",
                "help(hpctf.TensorFlow) lists them.",
            )
        _take_aliases(self.parameters, given)

        values: dict[str, Any] = {}

        def checked(name: str) -> Any:
            if name not in values:
                parameter = self.parameters[name]
                value = given.get(name, parameter.default)
                needed = [checked(other) for other in parameter.needs]
                if parameter.check is not None:
                    value = parameter.check(name, value, *needed)
                values[name] = value
            return values[name]

        for name, parameter in self.parameters.items():
            checked(name)
            if parameter.kept:
                self.__dict__[name] = values[name]
        self._settle(values)

    def _settle(self, values: dict[str, Any]) -> None:
        """Check what parameters say together, and make attributes of those that are not kept."""


Class = TypeVar("Class", bound=type[Described])


def _take_aliases(parameters: Mapping[str, Parameter[Any, Any]], given: dict[str, Any]) -> None:
    """Give the values of older names to the parameters that they stand for."""
    for alias in [name for name in given if parameters[name].alias_of]:
        name, value = parameters[alias].alias_of, given.pop(alias)
        if value is None:
            continue
        if given.get(name) not in (None, value):
            raise UsageError(
                f"{alias} is {shown(value)}, but {name} is {shown(given[name])}.",
                "Give one of them.",
            )
        given[name] = value


class _Docstring:
    """A docstring whose ``{parameters}`` are described by their entries, when it is read."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __get__(self, instance: object, owner: type[Described]) -> str:
        import textwrap

        lines: list[str] = []
        for name, parameter in owner.parameters.items():
            wrapped = textwrap.wrap(parameter.doc, 91)
            lines += [name, *(f"    {line}" for line in wrapped)]
        before = self.text.partition("{parameters}")[0]
        indent = before[before.rfind("\n") + 1 :]  # since Python 3.13 there is none
        return self.text.replace("{parameters}", f"\n{indent}".join(lines))


class _Signature:
    """The constructor's signature, made of the entries and their types when it is requested."""

    def __get__(self, instance: object, owner: type[Described]) -> Signature:
        from inspect import Parameter as Named
        from inspect import Signature, get_annotations

        types = {
            name: annotation.__args__[0]
            for cls in owner.__mro__
            for name, annotation in get_annotations(cls, eval_str=True).items()
            if name in owner.parameters
        }
        found: list[Named] = []
        for name, one in owner.parameters.items():
            kind = Named.KEYWORD_ONLY if found else Named.POSITIONAL_OR_KEYWORD
            found.append(Named(name, kind, default=one.default, annotation=types[name]))
        return Signature(found)


@dataclass_transform()
def described(cls: Class) -> Class:
    """Make the class's `Parameter` attributes its constructor's parameters.

    Type checkers and editors know the constructor by `dataclass_transform` (PEP 681).
    """
    found = {name: one for name, one in vars(cls).items() if isinstance(one, Parameter)}
    cls.parameters = {**cls.parameters, **found}
    cls.__signature__ = _Signature()  # type: ignore[attr-defined]
    return cls


def documented(cls: Class) -> Class:
    """Have the class's docstring name its parameters."""
    if cls.__doc__:
        cls.__doc__ = _Docstring(cls.__doc__)  # type: ignore[assignment]
    return cls
