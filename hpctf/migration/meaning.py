"""What a script does with Azure ML's names, as far as its text tells: what hpctf cannot do so.

Names are followed from their imports through assignments; what a call returns is read from the
annotations of hpctf.azureml's own classes. Training scripts run as they are, but for what no run of
hpctf has.
"""

from __future__ import annotations

import ast
import inspect
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from hpctf import azureml
from hpctf.azureml.datasets import is_address
from hpctf.azureml.environment import NAMES_NONE
from hpctf.azureml.estimators import too_old
from hpctf.azureml.modules import PREFIX, Placeholder
from hpctf.azureml.refusing import NotThere, Refusal
from hpctf.azureml.sentences import instead_of
from hpctf.errors import UsageError
from hpctf.estimator.software import NOT_HERE
from hpctf.migration.lines import is_azure
from hpctf.site.model import Site
from hpctf.startup.azureml import PROVIDED, REFUSED, REFUSED_MODULES


@dataclass(frozen=True)
class Remark:
    """A line that hpctf cannot do as it is, and what to write instead."""

    line: int
    what: str
    instead: str
    cell: int | None = None


@dataclass(frozen=True)
class _Object:
    of: type


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass
class Names:
    """What a script's names stand for; a notebook's cells share one.

    Compute targets that it names are compared with those of ``site``.
    """

    site: Site | None = None
    known: dict[str, Any] = field(default_factory=dict)
    literals: dict[str, ast.expr] = field(default_factory=dict)

    def remarks(self, tree: ast.Module) -> list[Remark]:
        """Return what hpctf cannot do of a file, or a cell, in the order of its lines."""
        found: dict[tuple[int, str], Remark] = {}
        for node in self._in_order(tree):
            for remark in self._of(node):
                found.setdefault((remark.line, remark.what), remark)
        return sorted(found.values(), key=lambda remark: remark.line)

    def _in_order(self, tree: ast.AST) -> Iterator[ast.AST]:
        """Yield nodes as they are run, and learn what names stand for on the way."""
        waiting: list[tuple[ast.AST, dict[str, Any] | None]] = [(tree, None)]
        while waiting:
            node, outside = waiting.pop()
            if outside is None:
                waiting.append((node, self.known))
                self._enter(node)
                children = list(ast.iter_child_nodes(node))
                waiting += [(child, None) for child in reversed(children)]
                continue
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self._import(node)
            elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)):
                self._assign(node)
            yield node
            if isinstance(node, _FUNCTIONS):
                self.known = outside

    def _enter(self, node: ast.AST) -> None:
        """Forget names that stand for something else within a function, or in a loop."""
        if isinstance(node, _FUNCTIONS):
            names = [one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)]
            self.known = {**self.known, **dict.fromkeys(names)}
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            names = [one.id for one in ast.walk(node.target) if isinstance(one, ast.Name)]
            self.known |= dict.fromkeys(names)

    def _of(self, node: ast.AST) -> Iterator[Remark]:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from self._of_import(node)
        elif isinstance(node, ast.Attribute):
            yield from self._of_attribute(node)
        elif isinstance(node, ast.Call):
            yield from self._of_call(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            if isinstance(node, ast.Import):
                whole = alias.name if alias.asname else name
                value = _module(whole) if is_azure(alias.name) else None
            else:
                value = _imported(node, alias.name)
            self.known[name] = value

    def _of_import(self, node: ast.Import | ast.ImportFrom) -> Iterator[Remark]:
        for alias in node.names:
            if isinstance(node, ast.Import):
                if is_azure(alias.name):
                    yield from _of_module(node.lineno, alias.name)
            elif not node.level and is_azure(node.module):
                assert node.module is not None
                yield from _of_module(node.lineno, node.module)
                value = _imported(node, alias.name)
                if isinstance(value, Placeholder):
                    what = f"{node.module}.{alias.name}"
                    yield Remark(alias.lineno, what, instead_of(node.module, alias.name))

    def _of_attribute(self, node: ast.Attribute) -> Iterator[Remark]:
        value = self._value(node.value)
        cls = value.of if isinstance(value, _Object) else value
        if isinstance(cls, type):
            there = inspect.getattr_static(cls, node.attr, None)
            if isinstance(there, Refusal):
                yield Remark(node.lineno, f"{there.owner}.{there.name}", there.sentence)
        elif inspect.ismodule(cls) and isinstance(getattr(cls, node.attr, None), Placeholder):
            module = cls.__name__.removeprefix(PREFIX)
            what = f"{module}.{node.attr}"
            yield Remark(node.lineno, what, instead_of(module, node.attr))

    def _of_call(self, node: ast.Call) -> Iterator[Remark]:
        called = self._value(node.func)
        if isinstance(called, type) and issubclass(called, azureml.TensorFlow):
            version = self._argument(node, len(node.args), "framework_version")
            if too_old(version):
                what = f"{called.__name__}(framework_version={version!r})"
                yield Remark(node.lineno, what, NAMES_NONE.format(f"TensorFlow {version}"))
            for keyword in node.keywords:
                if keyword.arg in NOT_HERE and keyword.arg not in azureml.NOTED:
                    what = f"{called.__name__}({keyword.arg}=...)"
                    yield Remark(keyword.value.lineno, what, NOT_HERE[keyword.arg])
        elif called is azureml.Dataset.File.from_files:
            yield from self._of_files(node)
        elif called is azureml.Environment.get:
            name = self._argument(node, 1, "name")
            if isinstance(name, str):
                yield from _of_environment(node.lineno, name)
        elif called is azureml.ComputeTarget or called is azureml.AmlCompute:
            name = self._argument(node, 1, "name")
            if self.site is not None and isinstance(name, str) and name not in self.site.targets:
                targets = ", ".join(sorted(self.site.targets))
                yield Remark(
                    node.lineno,
                    f"compute target {name!r}",
                    f"Site {self.site.name!r} has {targets}: write one of them, or give one that "
                    "name in the site file.",
                )

    def _of_files(self, node: ast.Call) -> Iterator[Remark]:
        paths = self._argument(node, 0, "path")
        addresses = [path for path in _flat(paths) if isinstance(path, str) and is_address(path)]
        if addresses:
            yield Remark(
                node.lineno,
                f"Dataset.File.from_files({addresses[0]!r})",
                "Download the files once to a folder that the nodes can read (wget -P DIR "
                "ADDRESS), and name it: Dataset.File.from_files('DIR').",
            )

    def _assign(self, node: ast.Assign | ast.AnnAssign | ast.NamedExpr) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and node.value is not None:
                self.known[target.id] = self._value(node.value)
                self.literals[target.id] = node.value

    def _argument(self, node: ast.Call, position: int, name: str) -> Any:
        """Return an argument that is a constant, or a name that was given one; else None."""
        given = next((one.value for one in node.keywords if one.arg == name), None)
        if given is None and len(node.args) > position:
            given = node.args[position]
        if isinstance(given, ast.Name):
            given = self.literals.get(given.id)
        try:
            return None if given is None else ast.literal_eval(given)
        except (ValueError, TypeError, SyntaxError, RecursionError):
            return None

    def _value(self, node: ast.expr | None) -> Any:
        chain: list[ast.Attribute | ast.Call] = []
        while isinstance(node, (ast.Attribute, ast.Call)):
            chain.append(node)
            node = node.value if isinstance(node, ast.Attribute) else node.func
        value = self.known.get(node.id) if isinstance(node, ast.Name) else None
        for part in reversed(chain):
            if isinstance(part, ast.Attribute):
                value = _attribute(value, part.attr)
            elif isinstance(value, type):
                value = _Object(value)
            else:
                value = _returned(value) if callable(value) else None
        return value


def _module(name: str) -> Any:
    try:
        return import_module(f"{PREFIX}{name}")
    except ImportError:
        return None


def _imported(node: ast.ImportFrom, name: str) -> Any:
    if node.level or not is_azure(node.module):
        return None
    assert node.module is not None
    return getattr(_module(node.module), name, None)


def _of_module(line: int, name: str) -> Iterator[Remark]:
    try:
        import_module(f"{PREFIX}{name}")
    except NotThere:
        yield Remark(line, name, instead_of(name))


def _attribute(value: Any, name: str) -> Any:
    if inspect.ismodule(value):
        return getattr(value, name, None)
    cls = value.of if isinstance(value, _Object) else value
    if not isinstance(cls, type):
        return None
    there = inspect.getattr_static(cls, name, None)
    if isinstance(there, property) and isinstance(value, _Object):
        return _returned(there.fget)
    return None if there is None or isinstance(there, Refusal) else getattr(cls, name)


def _returned(function: Any) -> Any:
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):
        return None
    cls = hints.get("return")
    return _Object(cls) if isinstance(cls, type) else None


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from _flat(inner)
    else:
        yield value


def _of_environment(line: int, name: str) -> Iterator[Remark]:
    what = f"Environment.get(name={name!r})"
    try:
        environment = azureml.Environment.get(typing.cast(Any, None), name)
    except UsageError as error:
        yield Remark(line, what, error.hint or error.message)
    else:
        yield from (Remark(line, what, note) for note in environment.notes)


def trains(tree: ast.Module) -> bool:
    """Whether a script is for a run: it asks for its own run, or knows Azure ML's Run alone; and
    it submits none."""
    nodes = list(ast.walk(tree))
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    if "submit" in read:
        return False
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and is_azure(node.module)]
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names = {alias.name for node in froms for alias in node.names}
    of_run = all(node.module in PROVIDED for node in froms) and not any(map(is_azure, modules))
    return "get_context" in read or (of_run and names == {"Run"})


def remarks_of_training(tree: ast.Module) -> Iterator[Remark]:
    """Yield what the script imports of Azure ML that no run has."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module or ""]
        else:
            continue
        for module in filter(is_azure, modules):
            instead = _refused(module)
            if instead is not None:
                yield Remark(node.lineno, module, instead)
        if isinstance(node, ast.ImportFrom) and node.module == "azureml.core":
            for alias in node.names:
                if alias.name in REFUSED:
                    what = f"azureml.core.{alias.name}"
                    yield Remark(node.lineno, what, _sentence(REFUSED[alias.name]))


def _refused(module: str) -> str | None:
    if module in PROVIDED:
        return None
    while module not in REFUSED_MODULES:
        module = module.rpartition(".")[0]
        if not module:
            return "A run has azureml.core with its Run alone: leave the line out."
    return _sentence(REFUSED_MODULES[module])


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."
