"""A site's templates over hpctf's own: how they are found, quoted and filled in.

The quoting is Jinja's own output hook, not a filter that a template could forget: each ``{{ }}``
becomes one shell word. ``{{ lines | raw }}`` is for the site's shell lines alone.
"""

from __future__ import annotations

import json
import os
import shlex
from functools import lru_cache
from typing import Any

import jinja2
from markupsafe import Markup

from hpctf._version import __version__
from hpctf.common.paths import TEMPLATES, cache_folder
from hpctf.common.trusted_path import is_own
from hpctf.errors import SiteError


class Raw(Markup):
    """Text that goes into the script as it is."""


def fill_in(
    name: str, site: str, site_folder: str | None, *, keep: bool = True, **values: Any
) -> str:
    """Return a template's text.

    Parameters
    ----------
    site, site_folder
        The site's name, and its folder of templates, if it has one.
    keep
        Whether the compiled templates may be kept in the user's cache folder.

    Raises
    ------
    SiteError
        A template that is missing or wrong, with its file and line.
    """
    environment = template_environment(site_folder, keep)
    if site_folder and not os.path.isdir(site_folder):
        raise SiteError(
            f"Site {site!r} names the template folder {site_folder!r}, which is not a folder.",
            "Correct templates: in the site file.",
        )
    try:
        text = environment.get_template(name).render(**values)
    except jinja2.TemplateNotFound as error:
        where = _template_line(error)
        folders = " or ".join(folder for folder in (site_folder, TEMPLATES) if folder)
        raise SiteError(
            f"{where + ': ' if where else ''}There is no template {error.name!r} in {folders}.",
            "Correct the name; the shipped templates are in the folder that hpctf site show names.",
        ) from None
    except jinja2.TemplateSyntaxError as error:
        raise SiteError(f"{error.filename or name}:{error.lineno}: {error.message}.") from None
    except Exception as error:  # a template is a program: it can fail in any way
        what = error.message if isinstance(error, jinja2.TemplateError) else repr(error)
        raise SiteError(
            f"{_template_line(error) or name}: {what}.",
            "Correct the template; hpctf site validate FILE renders all of them.",
        ) from None
    return text.rstrip("\n") + "\n"


@lru_cache(maxsize=8)
def template_environment(site_folder: str | None, keep: bool = False) -> jinja2.Environment:
    """Return Jinja's environment with hpctf's rules, for a site's folder of templates over ours."""
    folders = [site_folder, TEMPLATES] if site_folder else [TEMPLATES]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [
                jinja2.FileSystemLoader(folders, "utf-8-sig", followlinks=True),
                # A site's mpi.sbatch.j2 can so extend ours: {% extends "hpctf/mpi.sbatch.j2" %}
                jinja2.PrefixLoader({"hpctf": jinja2.FileSystemLoader([TEMPLATES])}),
            ]
        ),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        finalize=_quote,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        bytecode_cache=_bytecode_cache() if keep else None,
    )
    environment.filters.update(
        raw=Raw,
        # As sbatch's --output wants a path: % begins a pattern there (sbatch(1)).
        slurm_path=lambda path: path.replace("%", "%%"),
        # As a text stands between the quotes of a JSON string.
        json_text=lambda text: json.dumps(text)[1:-1],
    )
    return environment


def _bytecode_cache() -> jinja2.BytecodeCache | None:
    """Keep compiled templates: compiling takes longer than rendering."""
    folder = cache_folder() / f"templates-{__version__}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return None
    if not is_own(folder):
        return None  # what is compiled is executed
    return jinja2.FileSystemBytecodeCache(str(folder))


def _quote(value: Any) -> Any:
    if isinstance(value, (Markup, jinja2.Undefined)):
        return value
    return Markup(shlex.quote(str(value)))


def _template_line(error: BaseException) -> str | None:
    """Return ``file:line`` of the innermost template frame of an error's traceback."""
    frame, where = error.__traceback__, None
    while frame is not None:
        filename = frame.tb_frame.f_code.co_filename
        if filename.endswith(".j2"):
            where = f"{filename}:{frame.tb_lineno}"
        frame = frame.tb_next
    return where
