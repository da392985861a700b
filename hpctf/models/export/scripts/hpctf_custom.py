"""Layers and functions of a training's own: Keras loads a model that has some once their code has
been imported. Part of ``hpctf_loading.py``; it imports no library."""

import ast
import importlib
import importlib.util
import inspect
import os
import sys
from typing import Any, Dict, Iterator, List, Optional, Sequence

from hpctf_answers import Refused

_REGISTERS = "register_keras_serializable"
_ANY = "Name the module that defines it, or a file of your own: --import MODULE, --import FILE.py"


class Code:
    """The code that a model was trained with.

    Parameters
    ----------
    folder
        Where it lies; None if it is not on record, or is not trusted.
    script
        The script that the training began with, relative to `folder`.
    """

    def __init__(self, folder: Optional[str], script: str = "") -> None:
        self._folder = folder
        self._script = script

    def named(self, modules: Sequence[str]) -> Dict[str, Any]:
        """Return the classes and functions of modules that a person has named, or of files
        (``layers.py``), by name."""
        self._be_importable()
        found: Dict[str, Any] = {}
        for name in modules:
            try:
                found.update(_contents(_of_file(name) if _is_file(name) else _module(name)))
            except ImportError as error:
                known = "the code on record" if self._folder else "sys.path, and no code on record"
                where = "" if _is_file(name) else f" from {known}"
                raise Refused(f"The module {name!r} cannot be imported{where}: {error}.") from None
        return found

    def defining(self, name: str) -> Dict[str, Any]:
        """Return the classes and functions of the module that defines what Keras does not know.

        Parameters
        ----------
        name
            A class or function, as Keras calls it: ``Scaled``, or ``package>Scaled``.

        Raises
        ------
        Refused
            No module defines it, more than one does, or it cannot be imported.
        """
        unknown = f"Keras does not know {name!r}"
        files = sorted(set(self._files_defining(name.rpartition(">")[2])))
        if len(files) != 1:
            several = ", ".join(files)
            where = f", which {several} define" if files else ", which its training's code defines"
            raise Refused(f"{unknown}{where}.", _ANY)
        [file] = files
        if self._trains(file):
            raise Refused(
                f"{unknown}. {file} defines it, and would train again if it was imported: its "
                "training does not stand below if __name__ == '__main__'.",
                "Copy the class to a file of its own: --import FILE.py",
            )
        self._be_importable()
        try:
            return _contents(_module(self._module_of(file)))
        except ImportError as error:
            raise Refused(
                f"{unknown}. {file} of the training's code defines it, but cannot be imported: "
                f"{error}.",
                _ANY,
            ) from None

    def _files_defining(self, name: str) -> Iterator[str]:
        for top, folders, names in os.walk(self._folder or os.devnull):
            folders[:] = sorted(one for one in folders if one.isidentifier())
            for one in names:
                path = os.path.join(top, one)
                if one.endswith(".py") and _defines(_tree(path), name):
                    yield os.path.relpath(path, self._folder)

    def _trains(self, file: str) -> bool:
        """Whether importing a file trains: it is the script, and says nothing of ``__main__``."""
        if file != os.path.normpath(self._script):
            return False
        tree = _tree(os.path.join(self._folder or "", file))
        ifs = [one for one in tree.body if isinstance(one, ast.If)] if tree else []
        return not any("__main__" in ast.dump(one.test) for one in ifs)

    def _roots(self) -> List[str]:
        """Return where modules are imported from: the script's folder, and that of all code."""
        if self._folder is None:
            return []
        script = os.path.dirname(os.path.join(self._folder, self._script))
        return list(dict.fromkeys([os.path.normpath(script), os.path.normpath(self._folder)]))

    def _be_importable(self) -> None:
        sys.path[:0] = [root for root in self._roots() if root not in sys.path]

    def _module_of(self, file: str) -> str:
        """Return by which name the training has imported a file, most likely."""
        path = os.path.join(self._folder or "", file)
        root = next(root for root in self._roots() if path.startswith(os.path.join(root, "")))
        parts = os.path.relpath(path, root)[: -len(".py")].split(os.sep)
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _tree(path: str) -> Optional[ast.Module]:
    try:
        with open(path, "rb") as stream:
            return ast.parse(stream.read())
    except (OSError, SyntaxError, ValueError):
        return None


def _defines(tree: Optional[ast.Module], name: str) -> bool:
    """Whether a module defines a class or a function of a name, or registers one by it."""
    for node in tree.body if tree else ():
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            registered = [
                ast.dump(one) for one in node.decorator_list if _REGISTERS in ast.dump(one)
            ]
            if node.name == name or any(repr(name) in one for one in registered):
                return True
    return False


def _is_file(name: str) -> bool:
    return name.endswith(".py")


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # of the module's own code
        raise ImportError(f"{type(error).__name__}: {error}") from None


def _of_file(path: str) -> Any:
    name = os.path.basename(path)[: -len(".py")]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # of the module's own code
        raise ImportError(f"{type(error).__name__}: {error}") from None
    return module


def _contents(module: Any) -> Dict[str, Any]:
    return {
        name: value
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }
