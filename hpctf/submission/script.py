"""Plan → batch script. Every value is quoted for the shell unless the template says otherwise.

The quoting is Jinja's own output hook, not a filter that a template could forget: each ``{{ }}``
becomes one shell word. ``{{ lines | raw }}`` is for the site's shell lines alone.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jinja2
from markupsafe import Markup

from hpctf._version import __version__
from hpctf.common.paths import TEMPLATES, cache_folder
from hpctf.common.trusted_path import is_own
from hpctf.errors import SiteError
from hpctf.plan import Plan

_ENVIRONMENT = r"""
{% import "hpctf/modules.j2" as environment_modules %}
stop() {
  printf '\0%s\0' "$2" >&2
  exit "$1"
}
{{ environment_modules.load(modules) }}
printf '\0%s\0' hpctf-environment
exec env -0
"""


class Raw(Markup):
    """Text that goes into the script as it is."""


def render(plan: Plan, array: tuple[str, ...] = (), *, keep: bool = True) -> str:
    """Return the batch script of a plan.

    Parameters
    ----------
    array
        The run folders of a job array, one a task; empty for a job of its own.
    keep
        Whether the compiled templates may be kept in the user's cache folder.

    Raises
    ------
    SiteError
        A template that is missing or wrong, with its file and line.
    """
    return _render(f"{plan.backend}.sbatch.j2", plan, array, keep)


def render_local(plan: Plan) -> str:
    """Return the shell script that a local run with environment modules begins with.

    Raises
    ------
    SiteError
        As `render`.
    """
    return _render("local.sh.j2", plan, (), keep=True)


def render_environment(modules: Sequence[str]) -> str:
    """Return the shell script that loads modules as a batch script does, and prints the
    environment then."""
    template = template_environment(None, keep=True).from_string(_ENVIRONMENT)
    return template.render(modules=modules)


def _render(name: str, plan: Plan, array: tuple[str, ...], keep: bool) -> str:
    environment = template_environment(plan.template_folder, keep)
    if plan.template_folder and not os.path.isdir(plan.template_folder):
        raise SiteError(
            f"Site {plan.site!r} names the template folder {plan.template_folder!r}, which is not "
            "a folder."
        )
    try:
        text = environment.get_template(name).render(plan=plan, array=array)
    except jinja2.TemplateNotFound as error:
        where = _template_line(error)
        raise SiteError(
            f"{where + ': ' if where else ''}There is no template {error.name!r} in "
            f"{_folders(plan)}."
        ) from None
    except jinja2.TemplateSyntaxError as error:
        raise SiteError(f"{error.filename or name}:{error.lineno}: {error.message}.") from None
    except Exception as error:  # a template is a program: it can fail in any way
        what = error.message if isinstance(error, jinja2.TemplateError) else repr(error)
        raise SiteError(f"{_template_line(error) or name}: {what}.") from None
    return text.rstrip("\n") + "\n"


@lru_cache(maxsize=8)
def template_environment(site_folder: str | None, keep: bool = False) -> jinja2.Environment:
    """Return Jinja's environment with hpctf's rules, for a site's folder of templates over ours."""
    folders = [site_folder, TEMPLATES] if site_folder else [TEMPLATES]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.FileSystemLoader(folders, "utf-8-sig"), jinja2.PrefixLoader({"hpctf": _ours()})]
        ),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        finalize=_quote,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        bytecode_cache=_bytecode_cache() if keep else None,
    )
    environment.filters["raw"] = Raw
    environment.filters["slurm_path"] = _slurm_path
    environment.filters["json_text"] = _json_text
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


def _ours() -> jinja2.FileSystemLoader:
    """hpctf's own templates under ``hpctf/``, so that a site's ``mpi.sbatch.j2`` can extend ours
    of the same name: ``{% extends "hpctf/mpi.sbatch.j2" %}``."""
    return jinja2.FileSystemLoader([TEMPLATES])


def _quote(value: Any) -> Any:
    if isinstance(value, (Markup, jinja2.Undefined)):
        return value
    return Markup(shlex.quote(str(value)))


def _slurm_path(path: str) -> str:
    """Return a path as sbatch's --output wants it: ``%`` begins a pattern there (sbatch(1))."""
    return path.replace("%", "%%")


def _json_text(text: str) -> str:
    """Return a text as it stands between the quotes of a JSON string."""
    return json.dumps(text)[1:-1]


def _folders(plan: Plan) -> str:
    return " or ".join(f for f in (plan.template_folder, TEMPLATES) if f)


def _template_line(error: BaseException) -> str | None:
    """Return ``file:line`` of the innermost template frame of an error's traceback."""
    frame, where = error.__traceback__, None
    while frame is not None:
        filename = frame.tb_frame.f_code.co_filename
        if filename.endswith(".j2"):
            where = f"{filename}:{frame.tb_lineno}"
        frame = frame.tb_next
    return where
