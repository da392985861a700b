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

from hpctf.common.files import read_json, write_json
from hpctf.errors import HpctfError

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
            ensure(spec_from(asked["spec"]), site_from(asked["site"]), tell)
    except HpctfError as error:
        code, words = error.exit_code, error.message
        print(f"hpctf: error: {error}", file=sys.stderr)
    write_json(folder / ENDED, {"exit_code": code, "error": words})
    return code


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1])))
