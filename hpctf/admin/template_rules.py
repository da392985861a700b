"""The rules that a site's templates keep, checked in their syntax tree without rendering them.

A value that reaches the script unquoted, a block that nothing renders, a name that nobody defines:
rendering shows these only with the plan that meets them, or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

import jinja2
from jinja2 import nodes
from jinja2.meta import find_referenced_templates, find_undeclared_variables

from hpctf.errors import did_you_mean
from hpctf.estimator.tensorflow import BACKENDS
from hpctf.plan import Plan
from hpctf.site.templates import template_environment

SUFFIX = ".sbatch.j2"
ENTRIES = (*(f"{backend}{SUFFIX}" for backend in (*BACKENDS, "environment")), "local.sh.j2")
"""The templates that hpctf renders."""

_GIVEN = {"plan", "array"}
"""What `hpctf.submission.script.render` gives a template."""

_UNQUOTED = {"raw", "safe", "e", "escape", "forceescape", "tojson", "xmlattr", "urlize"}
"""Filters whose result goes into the script as it is: HTML's escaping is no quoting for a shell."""

_SHELL_LINES = ("launch.prologue", "launch.epilogue")
"""What of a plan is shell by itself."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a template, and where."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


def check_templates(folder: str) -> dict[str, list[Problem]]:
    """Return the problems of every template of a site's folder, by its file."""
    environment = template_environment(folder)
    files = sorted(Path(folder).rglob("*.j2"))
    templates = {file: _Template(environment, file, folder) for file in files}
    used = {name for one in templates.values() for name in find_referenced_templates(one.tree)}
    return {
        str(file): sorted(one.problems(used), key=lambda problem: problem.line)
        for file, one in templates.items()
    }


class _Template:
    """One template, with those that it extends."""

    def __init__(self, environment: jinja2.Environment, file: Path, folder: str) -> None:
        self.environment = environment
        self.file = file
        self.name = str(file.relative_to(folder))
        self.broken: list[Problem] = []
        self.tree = nodes.Template([], lineno=1)
        try:
            text = file.read_text(encoding="utf-8-sig")
            tree = environment.parse(text, self.name, str(file))
            environment.compile(text, self.name, str(file))
            self.tree = tree
        except jinja2.TemplateSyntaxError as error:
            self.broken.append(self._at(error.lineno, f"{error.message}."))
        except (OSError, ValueError) as error:
            self.broken.append(self._at(1, f"it cannot be read: {error}."))

    def problems(self, used: set[str | None]) -> list[Problem]:
        """Return all that is wrong; `used` are the templates that others name."""
        if self.broken:
            return self.broken
        found = [*self._missing(), *self._blocks(), *self._names(), *self._attributes()]
        found += [*self._unquoted(), *self._in_quotes()]
        if self.name not in ENTRIES and self.name not in used:
            near = did_you_mean(self.name, list(ENTRIES))
            found.append(self._at(1, f"no template extends or includes this one.{near}"))
        return list(dict.fromkeys(found))

    def _at(self, line: int, message: str) -> Problem:
        return Problem(str(self.file), line, message)

    @cached_property
    def _family(self) -> list[nodes.Template]:
        """The templates that it extends, the nearest first."""
        loader = self.environment.loader
        assert loader is not None
        family: list[nodes.Template] = []
        tree, seen = self.tree, {str(self.file)}
        while (extends := tree.find(nodes.Extends)) and isinstance(extends.template, nodes.Const):
            try:
                text, file, _ = loader.get_source(self.environment, extends.template.value)
                tree = self.environment.parse(text, extends.template.value, file)
            except (jinja2.TemplateNotFound, jinja2.TemplateSyntaxError):
                break
            if str(file) in seen:
                break
            seen.add(str(file))
            family.append(tree)
        return family

    def _missing(self) -> Iterator[Problem]:
        """Yield templates that are named but not there, and one that extends itself."""
        known = self.environment.list_templates()
        for node in self.tree.find_all((nodes.Extends, nodes.Include)):
            name = getattr(cast(Any, node).template, "value", None)
            if name == self.name:
                hint = f' Say "hpctf/{name}" for ours.' if name in ENTRIES else ""
                yield self._at(node.lineno, f"the template extends itself.{hint}")
            elif name and name not in known and not getattr(node, "ignore_missing", False):
                near = did_you_mean(name, known)
                yield self._at(node.lineno, f"there is no template {name!r}.{near}")

    def _blocks(self) -> Iterator[Problem]:
        """Yield blocks that nothing renders, and required ones that are not there."""
        if not self._family:
            return
        blocks = [list(tree.find_all(nodes.Block)) for tree in reversed(self._family)]
        above = {block.name: block for each in blocks for block in each}
        for node in self.tree.body:
            if isinstance(node, nodes.Block) and node.name not in above:
                known = sorted(above)
                yield self._at(
                    node.lineno,
                    f"there is no block {node.name!r} in what this template extends, so it would "
                    f"never be rendered.{did_you_mean(node.name, known)} Known blocks: "
                    f"{', '.join(known)}.",
                )
        own = {block.name for block in self.tree.find_all(nodes.Block)}
        line = next(self.tree.find_all(nodes.Extends)).lineno
        for name in sorted(set(above) - own) if self.name in ENTRIES else ():
            if above[name].required:
                message = f"block {name!r} is missing: what this template extends requires it."
                yield self._at(line, message)

    def _names(self) -> Iterator[Problem]:
        """Yield names that neither the template nor those it extends define."""
        inherited = {name for tree in (self.tree, *self._family) for name in _exported(tree)}
        known = {*_GIVEN, *inherited, *self.environment.globals}
        unknown = find_undeclared_variables(self.tree) - known
        for node in self.tree.find_all(nodes.Name):
            if node.ctx == "load" and node.name in unknown:
                near = did_you_mean(node.name, sorted(known))
                yield self._at(node.lineno, f"the name {node.name!r} is not defined.{near}")

    def _attributes(self) -> Iterator[Problem]:
        """Yield attributes that a plan does not have."""
        for node in self.tree.find_all(nodes.Getattr):
            path = _plan_path(node)
            kind = None if path is None else _kind_at(path[:-1])
            if path is None or kind is None or path[-1] in _members(kind):
                continue
            where = ".".join(("plan", *path[:-1]))
            near = did_you_mean(path[-1], sorted(_members(kind)))
            yield self._at(node.lineno, f"{where} has no attribute {path[-1]!r}.{near}")

    def _unquoted(self) -> Iterator[Problem]:
        """Yield filters and blocks by which a value reaches the script unquoted."""
        lines = _shell_line_names(self.tree)
        for modifier in self.tree.find_all(nodes.ScopedEvalContextModifier):
            if any(option.key == "autoescape" for option in modifier.options):
                yield self._at(
                    modifier.lineno,
                    "autoescape must stay on: it keeps values quoted. Leave it out.",
                )
        for node in self.tree.find_all(nodes.Filter):
            if node.name in _UNQUOTED and node.node is not None and not _is_shell(node.node, lines):
                yield self._at(
                    node.lineno,
                    f"'| {node.name}' leaves a value unquoted. Only the site's own shell lines "
                    "(plan.launch.prologue and epilogue) and fixed text may stand as they are; "
                    "leave the filter out.",
                )
        marked = {name for tree in (self.tree, *self._family) for name in _markup_names(tree)}
        for mixed in self.tree.find_all((nodes.Concat, nodes.Add, nodes.Mod)):
            parts = list(mixed.iter_child_nodes())
            raw = [part for part in parts if _is_markup(part, marked)]
            rest = [part for part in parts if part not in raw and not isinstance(part, nodes.Const)]
            if raw and rest:
                yield self._at(
                    mixed.lineno,
                    "text that stands as it is and a value are joined here, which leaves the value "
                    "unquoted. Write them one after the other: {{ a }}{{ b }}.",
                )

    def _in_quotes(self) -> Iterator[Problem]:
        """Yield values within quotes: they are quoted already, and quoting twice undoes it."""
        for output in self.tree.find_all(nodes.Output):
            text = ""
            for node in output.nodes:
                if isinstance(node, nodes.TemplateData):
                    text += node.data
                elif not isinstance(node, nodes.Const) and _open_quote(text):
                    yield self._at(
                        node.lineno,
                        "a value stands within quotes of the template's. Every {{ value }} is one "
                        "quoted word by itself; take the quotes away.",
                    )


def _exported(tree: nodes.Template) -> Iterator[str]:
    """Yield the names that a template defines at its top, which its children see."""
    for node in tree.body:
        if isinstance(node, nodes.Macro):
            yield node.name
        elif isinstance(node, (nodes.Assign, nodes.AssignBlock)):
            yield from (name.name for name in node.find_all(nodes.Name) if name.ctx == "store")
        elif isinstance(node, nodes.Import):
            yield node.target
        elif isinstance(node, nodes.FromImport):
            yield from (name if isinstance(name, str) else name[1] for name in node.names)


def _markup_names(tree: nodes.Template) -> Iterator[str]:
    """Yield names whose text is quoted already: of ``{% set x %}...{% endset %}``, and macros."""
    for node in tree.find_all((nodes.AssignBlock, nodes.Macro)):
        yield str(node.name if isinstance(node, nodes.Macro) else cast(Any, node).target.name)


def _is_markup(node: nodes.Node, names: set[str]) -> bool:
    if isinstance(node, nodes.Filter):
        return node.name in _UNQUOTED
    if isinstance(node, nodes.Call):
        return _is_markup(node.node, {*names, "super", "caller"})
    return isinstance(node, nodes.Name) and node.name in names


def _shell_line_names(tree: nodes.Template) -> set[str]:
    """Return the names that only ever hold the site's own shell lines."""
    names: set[str] = set()
    other: set[str] = set()
    node: Any
    for node in tree.find_all((nodes.For, nodes.Assign)):
        if isinstance(node.target, nodes.Name):
            value = node.iter if isinstance(node, nodes.For) else node.node
            (names if _is_shell(value, names) else other).add(node.target.name)
    return names - other


def _is_shell(node: nodes.Node, names: set[str]) -> bool:
    """Return whether an expression is fixed text, the site's shell lines, or made of these."""
    if isinstance(node, (nodes.Const, nodes.TemplateData)):
        return True
    if isinstance(node, nodes.Name):
        return node.name in names
    if isinstance(node, nodes.Getattr):
        path = _plan_path(node)
        return path is not None and ".".join(path) in _SHELL_LINES
    if isinstance(node, nodes.CondExpr):
        return all(_is_shell(n, names) for n in (node.expr1, node.expr2) if n is not None)
    if isinstance(node, nodes.Filter):
        parts = [*([] if node.node is None else [node.node]), *node.args]
        return all(_is_shell(part, names) for part in parts)
    if isinstance(node, nodes.Getitem):
        return _is_shell(node.node, names)
    if isinstance(node, (nodes.Concat, nodes.List, nodes.Tuple, nodes.Add)):
        return all(_is_shell(part, names) for part in node.iter_child_nodes())
    if isinstance(node, nodes.Call):  # super(), which is quoted already
        return isinstance(node.node, nodes.Name) and node.node.name in ("super", "caller")
    return False


def _plan_path(node: nodes.Node) -> tuple[str, ...] | None:
    """Return ``("launch", "prologue")`` for ``plan.launch.prologue``."""
    path: tuple[str, ...] = ()
    while isinstance(node, nodes.Getattr):
        path = (node.attr, *path)
        node = node.node
    return path if isinstance(node, nodes.Name) and node.name == "plan" else None


def _kind_at(path: tuple[str, ...]) -> Any:
    """Return the dataclass that a plan has at a path, or None where it has another value."""
    kind: Any = Plan
    for part in path:
        kind = get_type_hints(kind).get(part) if is_dataclass(kind) else None
        if get_origin(kind) is not None and len(get_args(kind)) == 2:
            kind = next((one for one in get_args(kind) if is_dataclass(one)), None)
    return kind if is_dataclass(kind) else None


def _members(kind: Any) -> set[str]:
    return {one.name for one in fields(kind)} | {n for n in dir(kind) if not n.startswith("_")}


_WORDS = re.compile(
    r"""\\. | '[^']*' | "(?:\\.|[^"\\])*" | (?:(?<=\s)|^)\#(?!SBATCH)[^\n]* | (?P<open>['"]) | .""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def _open_quote(text: str) -> bool:
    """Return whether shell text ends within quotes, looking at its last line alone."""
    last = text[text.rfind("\n") + 1 :]
    return any(match.group("open") for match in _WORDS.finditer(last))
