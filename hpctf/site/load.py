"""Finding a site by name and reading its YAML, every error at once with its line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hpctf.errors import SiteError, did_you_mean
from hpctf.resources import SITE_CONFIGS
from hpctf.site.schema import Site, Target

ADMIN_FOLDER = "/etc/hpctf/sites"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def folders() -> list[Path]:
    """Return the folders that hold site files; a later one's file hides an earlier one's."""
    import platformdirs

    return [
        Path(SITE_CONFIGS),
        Path(ADMIN_FOLDER),
        Path(platformdirs.user_config_dir("hpctf")) / "sites",
    ]


def site_files() -> dict[str, Path]:
    """Return the file of every site that can be named, by name."""
    return {path.stem: path for folder in folders() for path in sorted(folder.glob("*.yaml"))}


def default_site_name() -> str:
    """Return ``slurm`` where there is an ``sbatch``, else ``local``."""
    return "slurm" if shutil.which("sbatch") else "local"


def load_site(name: str | os.PathLike[str] | None = None) -> Site:
    """Return the site of that name, or of that YAML file.

    Parameters
    ----------
    name
        A site's name, or the path of a YAML file (it holds a ``/`` or ends in ``.yaml``). By
        default HPCTF_SITE's value; without that, see `default_site_name`.

    Raises
    ------
    SiteError
        No such site, or its YAML is wrong: every error is listed with its line.
    """
    wanted = os.fspath(name) if name else os.environ.get("HPCTF_SITE") or default_site_name()
    if os.sep in wanted or wanted.endswith((".yaml", ".yml")):
        return read_site(Path(wanted).expanduser())
    files = site_files()
    if wanted not in files:
        known = sorted(files)
        raise SiteError(
            f"There is no site {wanted!r}.{did_you_mean(wanted, known)}",
            f"Known sites: {', '.join(known)}. A path to a YAML file is taken as well.",
        )
    return read_site(files[wanted])


def read_site(path: Path) -> Site:
    """Read and check one site file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SiteError(f"The site file {path} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SiteError(f"The site file {path} cannot be read: {error}.") from None
    try:
        raw = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{mark.line + 1}: " if mark else " "
        problem = getattr(error, "problem", None) or "not valid"
        raise SiteError(f"{path}:{line}this is not YAML: {problem}.") from None
    if not isinstance(raw, dict):
        raise SiteError(f"{path}:1: a site file is a mapping such as 'name: my-cluster'.")
    try:
        site = Site.model_validate(raw)
    except ValidationError as error:
        lines = [_explain(path, text, dict(problem)) for problem in error.errors()]
        raise SiteError("\n".join(lines)) from None
    if site.templates is None:
        return site
    templates = path.absolute().parent / Path(site.templates).expanduser()
    return site.model_copy(update={"templates": str(templates)})


def find_target(site: Site, name: str | None) -> tuple[str, Target]:
    """Return (name, target) of a site's compute target; None is the site's default one."""
    chosen = name or site.default_target
    if chosen not in site.targets:
        known = sorted(site.targets)
        raise SiteError(
            f"Site {site.name!r} has no compute target {chosen!r}.{did_you_mean(chosen, known)}",
            f"Its targets: {', '.join(known)}. For a partition that no target describes: "
            f"--sbatch partition={chosen}.",
        )
    return chosen, site.targets[chosen]


def _explain(path: Path, text: str, problem: dict[str, Any]) -> str:
    where = [str(part) for part in problem["loc"]]
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        known = _keys_at(where[:-1])
        message = f"there is no such key.{did_you_mean(where[-1], known)}"
        if known:
            message += f" Known here: {', '.join(known)}"
    elif problem["type"] != "missing":
        message += f" (found {problem['input']!r})" if where else ""
    return f"{path}:{_line_of(text, where)}: {'.'.join(where) or 'site'}: {message}"


def _keys_at(where: list[str]) -> list[str]:
    """Return the keys that the schema allows at a place such as ``['mpi']``."""
    model: Any = Site
    for part in where:
        if model is Site and part == "targets":
            model = {"*": Target}
        elif isinstance(model, dict):
            model = model["*"]
        else:
            model = getattr(model, "model_fields", {}).get(part, None)
            model = getattr(model, "annotation", None)
    return sorted(getattr(model, "model_fields", {}))


def _line_of(text: str, where: list[str]) -> int:
    """Return the line of the innermost key of `where` that the YAML text has."""
    node = yaml.compose(text, _Loader)
    line = 1
    for part in where:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    line, node = key.start_mark.line + 1, value
                    break
        elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
            node = node.value[int(part)]
            line = node.start_mark.line + 1
    return line
