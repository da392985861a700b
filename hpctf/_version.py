"""The version, in a module that imports nothing, so that any floor can use it."""

__version__ = "0.1.0"
