"""What a build's job runs on its node: ``python job.py FOLDER``.

``FOLDER/build.json`` says which environment, of which site; how it went is in ``ended.json``, and
the last line of the log says it in words.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from pathlib import Path
from typing import TYPE_CHECKING

from hpctf.common.files import read_json, write_json
from hpctf.errors import HpctfError

if TYPE_CHECKING:
    from hpctf.environment.progress import Tell
    from hpctf.environment.spec import EnvironmentSpec
    from hpctf.site.model import Site

BUILD = "build.json"
ENDED = "ended.json"


def build(folder: Path) -> int:
    """Build what the folder asks for, and return the exit code."""
    from hpctf.environment.build import ensure
    from hpctf.environment.progress import telling
    from hpctf.environment.spec import spec_from
    from hpctf.site.model import site_from

    asked = read_json(folder / BUILD)
    code, words = 0, ""
    try:
        with telling() as tell:
            spec, site = spec_from(asked["spec"]), site_from(asked["site"])
            ensure(spec, site, tell)
            if site.environments.stage != "off":
                _make_image(spec, site, tell)
    except HpctfError as error:
        code, words = error.exit_code, error.message
        print(f"hpctf: error: {error}", file=sys.stderr)
    write_json(folder / ENDED, {"exit_code": code, "error": words})
    return code


def _make_image(spec: EnvironmentSpec, site: Site, tell: Tell) -> None:
    """Make the file that nodes get the environment from; without it they run the shared one."""
    from hpctf.environment.image import ensure_image
    from hpctf.environment.store import Store

    store = Store(site)
    environment = store.environment(spec.key)
    try:
        if environment is not None:
            ensure_image(environment, site.environments.stage, store.umask, tell)
    except HpctfError as error:
        print(f"hpctf: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1])))
