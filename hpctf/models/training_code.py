"""The code that a model was trained with, unpacked for whoever loads the model."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hpctf.common.files import read_json
from hpctf.common.notes import notify
from hpctf.common.trusted_path import check, check_chosen
from hpctf.errors import UntrustedPath, UsageError
from hpctf.models import origin
from hpctf.models.version import Version
from hpctf.site.model import Site
from hpctf.site.trust import trusted_by


class TrainingCode(NamedTuple):
    """A folder of code, and the script in it that the training began with (empty: unknown)."""

    folder: Path
    script: str


def unpack(version: Version, site: Site, to: Path, needed: bool) -> TrainingCode | None:
    """Unpack the code that a model's run was submitted with, if it is on record.

    Parameters
    ----------
    to
        The folder to make.
    needed
        Whether the model cannot do without: else code that is not trusted is left out.

    Raises
    ------
    UntrustedPath
        It is needed, and somebody who is not trusted could have written it.
    """
    archive = version.run / origin.CODE
    if not archive.exists():
        return None
    try:
        check(archive, "The code of the model's run", trusted_by(site))
    except UntrustedPath:
        if needed:
            raise
        return None
    to.mkdir()
    with tarfile.open(archive) as tar:
        for member in tar:
            path = Path(os.path.normpath(to / member.name))
            content = tar.extractfile(member) if member.isreg() else None
            if content is None or not path.is_relative_to(to):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with content, path.open("xb") as stream:
                stream.write(content.read())
    return TrainingCode(to, _script_of(version, to))


def _script_of(version: Version, folder: Path) -> str:
    try:
        words = read_json(version.run / "plan.json")["entry"]["command"]
        scripts = [str(word) for word in words if str(word).endswith(".py")]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return next((script for script in scripts if (folder / script).is_file()), "")


def checked_imports(imports: Sequence[str], site: Site) -> tuple[str, ...]:
    """Return modules as they were named, and files (``layers.py``) by their absolute paths.

    Raises
    ------
    UsageError
        There is no such file.
    UntrustedPath
        Every user of the machine could have written it.
    """
    found = []
    for name in imports:
        if name.endswith(".py"):
            path = os.path.abspath(os.path.expanduser(name))
            if not os.path.isfile(path):
                raise UsageError(
                    f"There is no file {path!r} to import.",
                    "Name a file that is here, or a module of the training's code: --import layers",
                )
            note = check_chosen(path, "The module", trusted_by(site))
            if note is not None:
                notify(note)
            found.append(path)
        else:
            found.append(name)
    return tuple(found)
