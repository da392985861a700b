"""What a person's configuration of uv and of conda says of where packages come from.

Such a configuration also chooses what is installed and where to (``target``, ``prefix``,
``create_default_packages``), which would make another environment of the one that was requested.
So neither program reads it: hpctf does, and gives them a file of its own with the keys below,
which say where packages are and how they are reached. It is private: addresses hold passwords.
"""

from __future__ import annotations

import json
import os
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hpctf.errors import UsageError
from hpctf.site.yaml_files import NotReadable, named, parse_toml, parse_yaml, read_text

_UV_PLACES = ("index-url", "extra-index-url", "no-index", "find-links", "index-strategy")
UV_KEYS = (
    *("index", *_UV_PLACES, "keyring-provider", "allow-insecure-host", "offline"),
    *("system-certs", "native-tls", "http-proxy", "https-proxy", "no-proxy"),
    *("concurrent-downloads", "concurrent-builds", "concurrent-installs"),
)
"""Keys of ``uv.toml`` that count (docs.astral.sh/uv/reference/settings)."""

UV_PIP_KEYS = (*_UV_PLACES, "keyring-provider")
"""Keys of its section ``[pip]``, which come before those."""

CONDA_KEYS = (
    *("channel_alias", "custom_channels", "custom_multichannels", "default_channels"),
    *("migrated_channel_aliases", "migrated_custom_channels", "mirrored_channels"),
    *("allow_non_channel_urls", "whitelist_channels", "allowlist_channels", "denylist_channels"),
    *("channel_settings", "add_anaconda_token", "add_binstar_token"),
    *("proxy_servers", "ssl_verify", "verify_ssl", "ssl_no_revoke", "offline"),
    *("client_ssl_cert", "client_cert", "client_ssl_cert_key", "client_cert_key"),
    *("remote_connect_timeout_secs", "remote_read_timeout_secs", "remote_max_retries"),
    *("remote_backoff_factor", "no_low_speed_limit", "retry_backoff", "max_retries"),
    *("connect_timeout_secs", "download_threads", "fetch_threads", "repodata_threads"),
    *("local_repodata_ttl", "pkgs_dirs"),
)
"""Keys of ``.condarc`` that count, for conda and mamba (conda config --describe)."""

_CONDA_NAMES = (".condarc", "condarc", "condarc.d/*.yml", "condarc.d/*.yaml")


def uv_configuration(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``uv.toml`` says of places: the person's before the machine's, lists joined."""
    found: dict[str, Any] = {}
    for path in _uv_files(environment):
        content = _read(path, parse_toml)
        pip = content.get("pip")
        said = [{key: content[key] for key in UV_KEYS if key in content}]
        if isinstance(pip, dict):
            said.insert(0, {key: pip[key] for key in UV_PIP_KEYS if key in pip})
        for keys in said:
            found = _joined(found, {key: _seen_from(key, keys[key], path) for key in keys})
    return found


def _uv_files(environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield uv's files, the first to count first (uv's documentation, Configuration files)."""
    named_file = environment.get("UV_CONFIG_FILE")
    if named_file or environment.get("UV_NO_CONFIG"):
        yield from filter(None, [Path(named_file) if named_file else None])
        return
    own = environment.get("XDG_CONFIG_HOME") or os.path.join(_home(environment), ".config")
    machine = environment.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    for folders in ([own], [*machine.split(os.pathsep), "/etc"]):
        files = [Path(folder, "uv", "uv.toml") for folder in folders if folder]
        yield from [file for file in files if file.is_file()][:1]


def _seen_from(key: str, value: Any, path: Path) -> Any:
    """Return a value whose relative folders are seen from the file that names them."""
    if key == "index" and isinstance(value, list):
        return [
            {**one, "url": _seen_from("find-links", one["url"], path)} if "url" in one else one
            for one in value
            if isinstance(one, dict)
        ]
    if key not in ("index-url", "extra-index-url", "find-links"):
        return value
    if isinstance(value, list):
        return [_seen_from(key, one, path) for one in value]
    if not isinstance(value, str) or "://" in value:
        return value
    return os.path.join(os.path.abspath(path.parent), os.path.expanduser(value))


def uv_places(configuration: Mapping[str, Any]) -> list[str]:
    """Return the addresses and folders of packages that such a configuration names."""
    named_places = [one.get("url") for one in configuration.get("index", [])]
    for key in ("index-url", "extra-index-url", "find-links"):
        value = configuration.get(key) or []
        named_places += value if isinstance(value, list) else [value]
    return [place for place in named_places if isinstance(place, str)]


def conda_configuration(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what the person's ``.condarc`` files say of places, the later over the earlier.

    conda reads those of the machine and of its own installation by itself.
    """
    home = Path(_home(environment))
    config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    folders = dict.fromkeys([config / "conda", home / ".config/conda", home / ".conda"])
    files = [file for one in folders for name in _CONDA_NAMES for file in sorted(one.glob(name))]
    files += [home / ".condarc", home / ".mambarc"]
    files += [Path(environment[name]) for name in ("CONDARC", "MAMBARC") if environment.get(name)]
    found: dict[str, Any] = {}
    for path in files:
        content = _read(path, parse_yaml) if path.is_file() else None
        if isinstance(content, dict):
            said = {key: content[key] for key in CONDA_KEYS if content.get(key) is not None}
            found = _joined({key: _meant(said[key], environment) for key in said}, found)
    return found


def _meant(value: Any, environment: Mapping[str, str]) -> Any:
    """Return a value with ``~`` and variables replaced: conda does not see the person's home."""
    if isinstance(value, dict):
        return {key: _meant(inner, environment) for key, inner in value.items()}
    if isinstance(value, list):
        return [_meant(inner, environment) for inner in value]
    if not isinstance(value, str):
        return value
    text = string.Template(value).safe_substitute(environment)
    return f"{_home(environment)}{text[1:]}" if text == "~" or text.startswith("~/") else text


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return two configurations as one: the first counts, and lists and mappings add up."""
    made = {**second, **first}
    for key in first.keys() & second.keys():
        if isinstance(first[key], list) and isinstance(second[key], list):
            made[key] = [*first[key], *(one for one in second[key] if one not in first[key])]
        elif isinstance(first[key], dict) and isinstance(second[key], dict):
            made[key] = {**second[key], **first[key]}
    return made


def texts_of(value: Any) -> Iterator[str]:
    """Yield the texts of plain data, addresses among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from texts_of(inner)


def toml_lines(configuration: Mapping[str, Any]) -> Iterable[str]:
    """Return a configuration as the lines of a TOML file."""
    return [f"{_toml(key)} = {_toml(value)}" for key, value in configuration.items()]


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_toml(key)} = {_toml(inner)}" for key, inner in value.items())
        return f"{{{pairs}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    # A basic string of TOML is one of JSON, but for the DEL character (toml.io, String).
    return json.dumps(value, ensure_ascii=False, default=str).replace("\x7f", "\\u007f")


def _read(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(read_text(path))
    except (OSError, NotReadable) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UsageError(
            f"Cannot read your configuration {named(path)}: {reason}.",
            "Correct the file: hpctf takes the addresses of package indexes and channels from it.",
        ) from None


def _home(environment: Mapping[str, str]) -> str:
    return environment.get("HOME") or os.path.expanduser("~")
