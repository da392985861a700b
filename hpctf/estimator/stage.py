"""Inputs that each node gets a copy of, on its own disk."""

from __future__ import annotations

import os


class Stage(str):
    """The path of an input that hpctf copies to every node's own disk before the ranks start.

        TensorFlow("src", entry_script="train.py", inputs={"data": Stage("/project/imagenet")})

    The script finds its node's copy in ``HPCTF_INPUT_<NAME>``. ``@RUN/outputs/FILE`` is what an
    earlier run wrote. The site's ``staging`` says where the copies lie, and how long.
    """

    __slots__ = ()

    def __new__(cls, path: str | os.PathLike[str]) -> Stage:
        return super().__new__(cls, os.fspath(path))

    def __repr__(self) -> str:
        return f"Stage({str(self)!r})"
