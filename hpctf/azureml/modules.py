"""Azure ML's modules under hpctf's name: ``azureml.core`` is ``hpctf.azureml.core``.

So an import line changes by its prefix alone. A module has every public name that Azure ML's has
(sdk-v1.json): hpctf's class of that name, or a `Placeholder`, which says what to write instead once
it is used.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from hpctf.azureml.refusing import NotHere, NotThere
from hpctf.azureml.sentences import instead_of

PREFIX = "hpctf."

_OTHERS = {("azureml.core.runconfig", "Dataset"), ("azureml.core.runconfig", "DataPath")}
"""Classes of Azure ML's that share their name with another one."""


@cache
def surface() -> dict[str, Any]:
    """Return Azure ML's public names: ``versions``, ``modules`` and ``classes``."""
    path = Path(__file__).with_name("sdk-v1.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


class Placeholder:
    """A class or function of Azure ML's that has no counterpart: any use raises `NotHere`."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __repr__(self) -> str:
        return f"<{self._module}.{self._name}, which has no counterpart in hpctf>"

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(self._module, self._name)

    def __getattr__(self, name: str) -> NoReturn:
        _refuse(self._module, self._name, name)


class Unknown:
    """The last finder: a module of Azure ML's that hpctf has not says what to write instead."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Raise `NotThere` for a module below ``hpctf.azureml``."""
        if not name.startswith(f"{PREFIX}azureml."):
            return None
        original = name.removeprefix(PREFIX)
        raise NotThere(f"{original} has no counterpart in hpctf.", instead_of(original), name)


def _refuse(module: str, name: str, used: str | None = None) -> NoReturn:
    """Refuse a name of a module, or what is `used` of it; Python itself looks for ``__names__``."""
    if (used or name).startswith("__"):
        raise AttributeError(used or name)
    raise NotHere(f"{module}.{name} has no counterpart in hpctf.", instead_of(module, name))


def install(ours: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]) -> None:
    """Make the modules, of what is `ours` by its name in all of them, and each one's `own`."""
    modules: dict[str, list[str]] = surface()["modules"]
    for name, names in modules.items():
        module = ModuleType(PREFIX + name, f"{name} of Azure ML's SDK v1, over hpctf.")
        module.__dict__["__path__"] = []
        module.__dict__["__getattr__"] = partial(_refuse, name)
        for public in names:
            there = public in ours and (name, public) not in _OTHERS
            module.__dict__[public] = ours[public] if there else Placeholder(name, public)
        module.__dict__.update(own.get(name, {}))
        module.__dict__["__all__"] = sorted({*names, *own.get(name, {})})
        sys.modules[PREFIX + name] = module
    for name in modules:
        parent, _, last = name.rpartition(".")
        setattr(sys.modules[PREFIX + parent], last, sys.modules[PREFIX + name])
    sys.meta_path.append(Unknown)
