"""Whether a script takes an option, read from its text: nothing of it is run."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from hpctf.estimator.script_imports import imports_of_entry, parsed, text_of

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow

_OPTIONS_OF_PARAMETERS = ("fire", "typer")
"""Packages that make a command line of a function: ``resume_from`` becomes ``--resume-from``."""

_OPTIONS_OF_TEXT = ("docopt",)
"""Packages that read the options from a text of usage."""


def takes_option(estimator: TensorFlow, option: str) -> bool:
    """Whether an estimator's script, or a module of its own folder, takes an option.

    A Python script takes what it names in a text of its own (``add_argument("--resume-from")``,
    ``"--resume-from" in sys.argv``). Comments, and texts that only speak of the option, do not
    count. Of another program the whole text counts. A function takes no options.
    """
    script, folder = estimator.entry_script, estimator.source_directory
    if script is None or folder is None:
        return False
    imports = imports_of_entry(estimator)
    if imports is None:
        return option.encode() in text_of(Path(folder) / script)
    top_level = imports.top_level
    in_text = not top_level.isdisjoint(_OPTIONS_OF_TEXT)
    of_parameters = not top_level.isdisjoint(_OPTIONS_OF_PARAMETERS)
    return any(_names(path, option, in_text, of_parameters) for path in imports.files)


def _names(path: Path, option: str, in_text: bool, of_parameters: bool) -> bool:
    tree = parsed(path)
    if tree is None:
        # The text of another Python, such as 2: a quoted option is still one.
        return any(f"{quote}{option}{quote}".encode() in text_of(path) for quote in "'\"")

    # getopt's long options have no dashes, and end in = if they take a value.
    words = {option, f"{option}=", f"{option.lstrip('-')}="}
    parameter = option.lstrip("-").replace("-", "_")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value in words or (in_text and option in node.value):
                return True
        elif of_parameters and isinstance(node, ast.arg) and node.arg == parameter:
            return True
    return False
