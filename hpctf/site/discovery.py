"""Where the layers of a site lie: the folders of site files, and the project's ``hpctf.yaml``."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from hpctf.common.absence import absence_of
from hpctf.common.notes import notify
from hpctf.common.paths import SITE_CONFIGS, config_folder
from hpctf.common.trusted_path import ONLY_ME, Trusted, check_chosen, check_place, doubts
from hpctf.errors import SiteError, UsageError, did_you_mean, shown
from hpctf.site.keys import FILE_ONLY, dotted
from hpctf.site.layers import Inputs, Layer, Layers, parse_layer, see_templates_from, target_names
from hpctf.site.settings import Settings, environment_layers, setting_layers
from hpctf.site.yaml_files import named

_say_once = lru_cache(maxsize=64)(notify)

ADMIN_FOLDER = "/etc/hpctf"
PROJECT_FILE = "hpctf.yaml"


@dataclass(frozen=True)
class SiteQuery:
    """What a site is looked for by.

    ``name`` is a site's, or the absolute path of a YAML file; None leaves it to the ``project``'s
    ``hpctf.yaml``, and that to ``default``. ``variables`` are those of the environment that set
    keys of a site, ``settings`` those of flags.
    """

    name: str | None
    default: str
    project: str | None
    variables: dict[str, str]
    settings: Settings | None


def folders() -> dict[str, Path]:
    """Return the folders that hold site files, by the layer they make, the first one first."""
    admin, user = Path(os.environ.get("HPCTF_ADMIN_FOLDER") or ADMIN_FOLDER), config_folder()
    return {"package": Path(SITE_CONFIGS), "admin": admin / "sites", "user": user / "sites"}


def admins() -> Trusted:
    """Return who is trusted because the admin's folder is theirs: what stands in the site files
    there is executed already. Nobody, if a stranger could have put the folder there."""
    folder = folders()["admin"]
    try:
        owner = os.stat(folder).st_uid
        if any(doubt.open_to_all or doubt.planted for doubt in doubts(folder)):
            return ONLY_ME
    except OSError:
        return ONLY_ME
    return Trusted(frozenset({owner}))


def check_site_file(path: Path) -> None:
    """Refuse a site file that every user could write, or that a stranger could have put where a
    site's name is looked for; of one that some others could write, a note says so."""
    what = "The site file"
    kind = next((kind for kind, folder in folders().items() if path.parent == folder), "file")
    if kind in ("admin", "user"):
        check_place(path, what)
    note = check_chosen(path, what, admins() if kind == "admin" else ONLY_ME)
    if note is not None and kind != "package":
        _say_once(f"{note}.")


def site_files() -> dict[str, list[Path]]:
    """Return the files of every site that can be named, by name, in the order they merge."""
    found: dict[str, list[Path]] = {}
    for folder in folders().values():
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, []).append(path)
    return dict(sorted(found.items()))


def is_path(name: str) -> bool:
    """Return whether a site is named by its file's path."""
    return os.sep in name or name.endswith((".yaml", ".yml"))


def find_project(source: str | os.PathLike[str] | None = None) -> str | None:
    """Return the project's ``hpctf.yaml``: the source folder's or its nearest parent's, else the
    current folder's or its nearest parent's.

    One that a stranger could have put there is passed over, with a note: it may hold shell lines,
    which run as the user. The file, its folder, and what a link leads to must be the user's own or
    root's, and not everybody may write the file (a sticky folder such as ``/tmp`` may be passed).
    """
    for folder in _upwards(source):
        path = folder / PROJECT_FILE
        if not os.path.lexists(path):
            continue
        why = _not_trusted(path)
        if why is None:
            return str(path)
        _say_once(f"{str(path)!r} is ignored: {why}, and what it says runs as you.")
    return None


def _not_trusted(path: Path) -> str | None:
    """Return who else could have written a project file, to follow its name; None: nobody."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return "it is not a file"
        real = Path(os.path.realpath(path))
        for part in (path, path.parent, real, real.parent):
            found = os.lstat(part)
            if found.st_uid not in (0, os.geteuid()):
                return f"{str(part)!r} belongs to user {found.st_uid}"
        for doubt in doubts(path):
            if doubt.open_to_all:
                return str(doubt)
    except (OSError, ValueError) as error:
        return f"it cannot be looked at ({error})"
    return None


def _upwards(source: str | os.PathLike[str] | None) -> Iterator[Path]:
    if source is not None:
        start = Path(os.path.abspath(os.path.expanduser(source)))
        yield from (start, *start.parents)
    try:
        here = Path.cwd()
    except OSError:  # it has been removed
        return
    yield from (here, *here.parents)


def find_layers(asked: SiteQuery, inputs: Inputs) -> Layers:
    """Return all layers of the site that is requested; `hpctf.site.loading.load_site` says what it
    raises."""
    project = None
    if asked.project is not None:
        text = inputs.read(Path(asked.project)) or ""
        if any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines()):
            project = parse_layer("project", Path(asked.project), text, "hpctf.yaml")
    wanted = asked.name or _projects_choice(project) or asked.default
    if is_path(wanted):
        own = [_file_layer(Path(wanted), inputs)]
    else:
        own = _named_layers(wanted, inputs)
        if not own:
            known, chosen = list(site_files()), ""
            if asked.name is None and project is not None and "site" in project.values:
                chosen = f", which {project.origin(('site',))} chooses"
            raise UsageError(
                f"There is no site {shown(wanted)}{chosen}.{did_you_mean(wanted, known)}",
                f"Known sites: {', '.join(known)}. A path to a YAML file is taken as well.",
            )

    layers = [*_base_layers(own, inputs, (wanted,)), *own]
    first = len(layers) - len(own)
    if project is not None:
        names = [layer.values.get("name") for layer in own]
        called = [name for name in names if name and isinstance(name, str)]
        layers += _project_layers(project, [wanted, *called][-1])
    variables, problems = environment_layers(asked.variables, target_names(layers))
    layers += variables
    layers += setting_layers(asked.settings, target_names(layers))
    return Layers(wanted, tuple(layers), first, tuple(problems))


def _base_layers(own: list[Layer], inputs: Inputs, above: tuple[str, ...]) -> list[Layer]:
    """Return the layers of the site that `own` extends, without what only it is: its name."""
    says = [layer for layer in own if "extends" in layer.values]
    base = says[-1].values["extends"] if says else None
    if not isinstance(base, str):
        return []  # nothing, or a value that the schema refuses
    where = says[-1].origin(("extends",))
    if base in above:
        circle = " → ".join([*above[above.index(base) :], base])
        raise SiteError(
            f"{where}: extends: the sites go round in a circle: {circle}.",
            "Files of one name merge by themselves; 'extends' names another site.",
        )
    found = _named_layers(base, inputs)
    if not found:
        known = list(site_files())
        raise SiteError(
            f"{where}: extends: there is no site {shown(base)}.{did_you_mean(base, known)}",
            f"Known sites: {', '.join(known)}.",
        )
    layers = [*_base_layers(found, inputs, (*above, base)), *found]
    return [_without(layer, FILE_ONLY) for layer in layers]


def _without(layer: Layer, keys: Sequence[str]) -> Layer:
    values = {key: value for key, value in layer.values.items() if key not in keys}
    return replace(layer, values=values)


def _project_layers(layer: Layer, site: str) -> list[Layer]:
    """Return what a project's ``hpctf.yaml`` says of all sites, and of one. Raises `SiteError` if
    ``sites`` is no mapping of mappings, or it says what only a site file may."""
    general = _without(layer, ("site", "sites"))
    said = layer.values.get("sites")
    sites = {} if said is None else said
    if not isinstance(sites, dict):
        raise SiteError(f"{layer.origin(('sites',))}: sites must be a mapping of sites' names.")
    for name, values in sites.items():
        if values is not None and not isinstance(values, dict):
            path = ("sites", name)
            raise SiteError(f"{layer.origin(path)}: {dotted(path)}: must be a mapping of keys.")
    parts = [general]
    if sites.get(site):
        values = dict(sites[site])
        see_templates_from(Path(layer.where).absolute().parent, values)
        parts.append(Layer(layer.kind, layer.where, values, layer.text, ("sites", site)))
    for part in parts:
        for key in FILE_ONLY:
            if key in part.values:
                raise SiteError(
                    f"{part.origin((key,))}: {key}: this belongs in a site file, not in a "
                    "project's hpctf.yaml; 'site: NAME' chooses a site.",
                    "Move the key into a site file.",
                )
    return parts


def _projects_choice(project: Layer | None) -> str | None:
    if project is None or project.values.get("site") is None:
        return None
    name = project.values["site"]
    if not isinstance(name, str) or not name:
        raise SiteError(f"{project.origin(('site',))}: site: must be a site's name.")
    if is_path(name):
        return str(Path(project.where).absolute().parent / os.path.expanduser(name))
    return name


def _file_layer(path: Path, inputs: Inputs) -> Layer:
    text = inputs.read(path)
    if text is None:
        raise SiteError(
            f"The site file {named(path)} {absence_of(path)}.",
            "Check the path, or write a site file: hpctf site init.",
        )
    check_site_file(path)
    return parse_layer("file", path, text)


def _named_layers(name: str, inputs: Inputs) -> list[Layer]:
    layers, wrong = [], []
    for kind, folder in folders().items():
        path = folder / f"{name}.yaml"
        try:
            text = inputs.read(path)
            if text is not None:
                check_site_file(path)
                layers.append(parse_layer(kind, path, text))
        except SiteError as error:
            wrong.append(error.message)
    if wrong:
        raise SiteError("\n".join(wrong))
    return layers
