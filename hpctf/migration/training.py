"""Training scripts of Azure ML's: they run as they are, but for what no run of hpctf has."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from hpctf.migration.lines import is_azure
from hpctf.migration.meaning import Remark
from hpctf.startup.azureml import PROVIDED, REFUSED, REFUSED_MODULES


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
