"""Texts are read as editors of any system save them, or refused with the place."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpctf import TensorFlow
from hpctf.cli.job_file import read_job_file
from hpctf.cli.submit import submit
from hpctf.environment.conda_file import conda_packages
from hpctf.environment.requirements import Reader
from hpctf.errors import HpctfError
from hpctf.site.loading import load_site
from hpctf.source.snapshot import IGNORE_FILES, take_snapshot


def of_ignore_file(folder: Path, name: str, content: bytes) -> Any:
    source, run = folder / "source", folder / "runs" / "run"
    (source / "weights").mkdir(parents=True)
    run.mkdir(parents=True)
    for made in ("weights/a.bin", "train.py", "café.txt"):
        (source / made).write_text("")
    (source / name).write_bytes(content)
    take_snapshot(source, run / "snapshot", 1)
    return sorted(os.listdir(run / "snapshot"))


def of_requirements(folder: Path, name: str, content: bytes) -> Any:
    (folder / name).write_bytes(content)
    reader = Reader()
    reader.file(folder / name)
    return reader.found()


def of_conda_file(folder: Path, name: str, content: bytes) -> Any:
    (folder / name).write_bytes(content)
    return conda_packages((), name, folder, Reader())


def of_job_file(folder: Path, name: str, content: bytes) -> Any:
    (folder / name).write_bytes(content)
    return read_job_file(folder / name, submit.params)["tags"]


def of_site(folder: Path, name: str, content: bytes) -> Any:
    (folder / name).write_bytes(content)
    return load_site(str(folder / name)).description


Reading = Callable[[Path, str, bytes], Any]
READERS: list[tuple[Reading, str, str]] = [
    *((of_ignore_file, name, "weights/\n# café\ncafé.txt\n") for name in IGNORE_FILES),
    (of_requirements, "requirements.txt", "numpy>=1\n# café\nscipy\n"),
    (of_conda_file, "environment.yml", "dependencies:\n# café\n- python=3.11\n- scipy\n"),
    (of_job_file, "job.yaml", "script: train.py\ntags:\n  place: café\n"),
    (of_site, "site.yaml", "name: here\nscheduler: local\n#\ndescription: café\n"),
]
FORMS: dict[str, Callable[[str], bytes]] = {
    "bom": lambda text: codecs.BOM_UTF8 + text.encode(),
    "crlf": lambda text: text.replace("\n", "\r\n").encode(),
    "cr": lambda text: text.replace("\n", "\r").encode(),
    "bom and crlf": lambda text: codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode(),
    "utf-16 le": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "utf-16 be": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("read", "name", "text"), READERS, ids=[name for _, name, _ in READERS])
def test_every_form_of_a_text_says_the_same(
    tmp_path: Path, read: Reading, name: str, text: str, form: str
) -> None:
    found = []
    for number, content in enumerate((text.encode(), FORMS[form](text))):
        folder = tmp_path / str(number)
        folder.mkdir()
        found.append(read(folder, name, content))
    assert found[0] == found[1]


@pytest.mark.parametrize("form", [None, "bom", "crlf", "cr"])
@pytest.mark.parametrize(("read", "name", "text"), READERS, ids=[name for _, name, _ in READERS])
def test_another_encoding_is_refused_with_file_line_and_byte(
    tmp_path: Path, read: Reading, name: str, text: str, form: str | None
) -> None:
    content = text.encode() if form is None else FORMS[form](text)
    line = 1 + text[: text.index("é")].count("\n")
    with pytest.raises(HpctfError) as refused:
        read(tmp_path, name, content.replace("é".encode(), b"\xe9"))
    assert f"{name}:{line}" in str(refused.value)
    assert "byte 0xe9 is not UTF-8" in str(refused.value)


SCRIPTS: list[tuple[str, bytes, str | None]] = [
    ("train.py", b"#!/usr/bin/env python3\r\nprint('caf\xc3\xa9')\r\n", None),
    ("train.py", codecs.BOM_UTF8 + b"print('caf\xc3\xa9')\n", None),
    ("train.py", b"# coding: latin-1\nprint('caf\xe9')\n", None),
    ("train.py", b"# coding: koi8-nobody\nprint('caf\xe9')\n", None),
    ("train.py", b"# one\n# two\nprint('caf\xe9')\n", "train.py:3 cannot be run: byte 0xe9"),
    ("train.py", b"# caf\xe9\n", "train.py:1 cannot be run: byte 0xe9"),
    ("train.py", "import os\n".encode("utf-16"), "UTF-16"),
    ("train.sh", b"#!/bin/bash\necho caf\xe9\n", None),
    ("train.sh", b"#!/bin/bash\r\necho\r\n", "'/bin/bash\\r' would have to run it"),
    ("train.sh", b"#! /usr/bin/env python3\r\n", "dos2unix train.sh"),
    ("train.sh", codecs.BOM_UTF8 + b"#!/bin/bash\n", "byte order mark"),
    ("train", b"\x7fELF\x02\x01\x01\0\r\n", None),
]


@pytest.mark.parametrize(("name", "content", "words"), SCRIPTS)
def test_a_script_that_no_interpreter_reads_is_refused(
    tmp_path: Path, name: str, content: bytes, words: str | None
) -> None:
    (tmp_path / name).write_bytes(content)
    if words is None:
        assert TensorFlow(tmp_path, entry_script=name).entry_script == name
        return
    with pytest.raises(HpctfError) as refused:
        TensorFlow(tmp_path, entry_script=name)
    assert words in str(refused.value)
