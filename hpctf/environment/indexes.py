"""Where pip packages come from: the requirements' own places, the site's, and the configuration.

uv does not read pip's configuration. People and machines that are set up for pip (an index of
their own, a certificate) would find uv without it, so it is passed on.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from hpctf.common.secrets import credentials_in, without_credentials
from hpctf.common.trusted_path import ONLY_ME, Trusted, check, check_tree
from hpctf.environment.configuration import texts_of, uv_configuration, uv_places
from hpctf.environment.requirements import Sources
from hpctf.errors import SiteError
from hpctf.site.model import EnvironmentSettings


@dataclass(frozen=True)
class Indexes:
    """Options and variables for uv or pip.

    Parameters
    ----------
    words
        Its options: everybody can read them in the list of processes.
    for_pip
        Those that name places, as pip has them whichever of the two it is.
    private
        Places that hold passwords, as lines of a requirements file.
    variables
        Proxy and certificate, as programs read them from their environment.
    uv
        What the person's ``uv.toml`` says of places, for a file that nobody else reads.
    """

    words: tuple[str, ...]
    for_pip: tuple[str, ...]
    variables: Mapping[str, str]
    private: tuple[str, ...] = ()
    secrets: frozenset[str] = frozenset()
    uv: Mapping[str, Any] = field(default_factory=dict)


def indexes_of(
    sources: Sources,
    settings: EnvironmentSettings,
    environment: Mapping[str, str],
    by: Trusted = ONLY_ME,
) -> Indexes:
    """Return how the site's builder finds packages.

    A requirements file's index comes before the site's, the site's before pip's configuration;
    further indexes and folders of wheels add up. Packages run code: those in folders are refused
    that somebody could change who is not trusted.
    """
    pip = pip_configuration(environment)
    index = sources.index_url or settings.index_url or pip.get("index-url")
    more = [*sources.extra_index_urls, *settings.extra_index_urls]
    more += pip.get("extra-index-url", "").split()
    links = [*sources.find_links, *(_place(link) for link in settings.find_links)]
    # pip passes over folders that are not there.
    of_pip = pip.get("find-links", "").split()
    links += [link for link in of_pip if "://" in link or os.path.exists(os.path.expanduser(link))]
    no_index = sources.no_index or pip.get("no-index", "").lower() in ("1", "true", "yes", "on")
    uv = uv_configuration(environment) if settings.pip == "uv" else {}
    for place in (index, *more, *links, *uv_places(uv)):
        check_place_of_packages(place or "", by)
    places = [("--index-url", index)] if index else []
    places += [("--extra-index-url", url) for url in dict.fromkeys(more)]
    places += [("--find-links", link) for link in dict.fromkeys(links)]
    public: list[str] = []
    private: list[str] = []
    for option, place in places:
        if without_credentials(place) == place:
            public += [option, place]
        else:
            private.append(f"{option} {place}")

    words = [*public]
    if no_index or (settings.offline and settings.pip == "pip"):
        words += ["--no-index"]
    for name in sources.no_binary:
        words += ["--no-binary", name]
    for name in sources.only_binary:
        words += ["--only-binary", name]
    if settings.pip == "uv":
        # As pip: all indexes are equal, and the best version is taken wherever it is.
        words += ["--index-strategy", "unsafe-best-match"] if more else []
        words += ["--offline"] if settings.offline else []
        words += ["--prerelease", "allow"] if sources.pre else []
        for host in pip.get("trusted-host", "").split():
            words += ["--allow-insecure-host", host]
    elif sources.pre:
        words += ["--pre"]
    variables = _variables(settings, pip, environment)
    for_pip = [*public, *(["--no-index"] if no_index or settings.offline else [])]
    secrets = credentials_in([*private, *variables.values(), *texts_of(uv)])
    return Indexes(tuple(words), tuple(for_pip), variables, tuple(private), secrets, uv)


def _variables(
    settings: EnvironmentSettings, pip: Mapping[str, str], environment: Mapping[str, str]
) -> dict[str, str]:
    variables: dict[str, str] = {}
    proxy = settings.proxy or pip.get("proxy")
    if proxy:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            variables[name] = proxy
    certificate = pip.get("cert") or environment.get("REQUESTS_CA_BUNDLE")
    if certificate and "SSL_CERT_FILE" not in environment and os.path.isfile(certificate):
        variables["SSL_CERT_FILE"] = certificate
    if pip.get("timeout", "").isdecimal():
        variables["UV_HTTP_TIMEOUT"] = pip["timeout"]
    reached = {key: pip[key] for key in _HOW_REACHED if pip.get(key)}
    variables |= {f"PIP_{key.upper().replace('-', '_')}": text for key, text in reached.items()}
    return variables


_HOW_REACHED = (
    *("cert", "client-cert", "proxy", "timeout", "retries", "trusted-host", "keyring-provider"),
    *("cache-dir", "no-cache-dir"),
)
"""What pip itself gets of its configuration: how packages are reached, and not what is installed
where (``user``, ``target``, ``prefix``). It does not read its files
(`hpctf.scheduler.programs.BUILD`)."""


def pip_configuration(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what pip's files and variables say, later ones over earlier ones, as pip reads them.

    The files are the machine's, then the user's, then PIP_CONFIG_FILE's; their sections
    ``[global]`` and ``[install]``. Without pip itself, which need not be installed here.
    """
    home = environment.get("HOME") or os.path.expanduser("~")
    config = environment.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    named = environment.get("PIP_CONFIG_FILE", "")
    machine = reversed(environment.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":"))
    files = [os.path.join(folder, "pip", "pip.conf") for folder in machine]
    files += ["/etc/pip.conf", os.path.join(home, ".pip/pip.conf")]
    files += [os.path.join(config, "pip", "pip.conf"), named]
    found: dict[str, str] = {}
    if named != os.devnull:  # pip's way to read none of them
        for file in files:
            found.update(_sections(file))
    for name, value in environment.items():
        if name.startswith("PIP_") and value:
            found[name[4:].lower().replace("_", "-")] = value
    found.setdefault("timeout", found.pop("default-timeout", ""))
    return found


def _sections(file: str) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError):
        return {}
    found: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            found.update({key.replace("_", "-"): value for key, value in parser.items(section)})
    return found


def _place(link: str) -> str:
    if "://" in link:
        return link
    place = Path(os.path.expandvars(os.path.expanduser(link)))
    if not place.exists():
        raise SiteError(
            f"environments.find_links names {str(place)!r}, which is not there on "
            f"{os.uname().nodename}.",
            "Correct it in the site file, or make the folder of wheels.",
        )
    return str(place)


def check_place_of_packages(place: str, by: Trusted) -> None:
    """Check a folder of packages, or an index that is one, as `check_tree`."""
    if "://" not in place:
        folder = os.path.expanduser(place)
    elif place.lower().startswith("file:"):
        folder = unquote(urlsplit(place).path)
    else:
        return
    if os.path.isdir(folder):
        check_tree(folder, "The folder of packages", by)
    elif folder:
        check(folder, "The package", by)
