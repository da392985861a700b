"""What griffe asks while it reads hpctf for the site: docstrings that are made as modules load."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from griffe import Class, Docstring, Extension

MADE = "{parameters}"
"""Stands in docstrings for what `hpctf.estimator` fills in."""


class LoadedDocstrings(Extension):
    """Takes such docstrings from the classes themselves."""

    def on_class_instance(self, *, cls: Class, **_: Any) -> None:
        """Take the docstring of one class."""
        if cls.docstring is None or MADE not in cls.docstring.value:
            return
        loaded = getattr(import_module(cls.module.path), cls.name)
        cls.docstring = Docstring(inspect.getdoc(loaded) or "", parent=cls)
