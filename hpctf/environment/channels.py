"""Where a conda channel is: from its name and the person's configuration to addresses.

The rules are conda's (docs.conda.io, "Settings": channel_alias, custom_channels,
custom_multichannels, default_channels) and mamba's mirrored_channels.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from hpctf.errors import BuildError, shown

_ALIAS = "https://conda.anaconda.org"
_DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
_SUBDIR = re.compile(r"(?P<channel>.+)/(?P<subdir>noarch|linux-\w+)")
_TOKEN = re.compile(r"/t/[^/]+(?=/)")
_LISTS = ("allowlist_channels", "whitelist_channels")


@dataclass
class Channels:
    """The addresses of channels, without what is confidential of them.

    Parameters
    ----------
    configuration
        `hpctf.environment.configuration.conda_configuration`'s.
    mirrors
        Where an address's packages really are, for those whose tokens are part of the address.
    headers
        What to send to a server, by host and the beginning of a path: passwords.
    """

    configuration: Mapping[str, Any]
    mirrors: dict[str, list[str]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def of(self, name: str) -> list[str]:
        """Return the addresses that a channel's name stands for: several of a multichannel, which
        are equal in rank.

        Raises
        ------
        BuildError
            The person's configuration forbids one.
        """
        places = list(dict.fromkeys(self._places(name)))
        addresses = [self._public(place) for place in places]
        for address in addresses:
            self._check(name, address)
        return addresses

    def spec(self, text: str, sources: dict[str, list[str]]) -> str:
        """Return a package as py-rattler reads it, the address in place of its channel's name.

        The channel is added to `sources`, the channels by name.
        """
        channel, colons, rest = text.rpartition("::")
        if not colons:
            return text
        platform = _SUBDIR.fullmatch(channel)
        name, subdir = (platform["channel"], platform["subdir"]) if platform else (channel, "")
        addresses = sources.setdefault(name, self.of(name))
        address = addresses[0] if len(addresses) == 1 else name
        return f"{address}{'/' if subdir else ''}{subdir}::{rest}"

    def _places(self, name: str) -> list[str]:
        said = self.configuration
        if "://" in name:
            return [name.rstrip("/")]
        if name.startswith(("/", "~")):
            return [Path(os.path.abspath(os.path.expanduser(name))).as_uri()]
        if name in said.get("custom_multichannels", {}):
            return self._all(said["custom_multichannels"][name], name)
        if name == "defaults":
            return self._all(said.get("default_channels", _DEFAULTS), name)
        if said.get("mirrored_channels", {}).get(name):
            first, *others = (place.rstrip("/") for place in said["mirrored_channels"][name])
            if others:
                public = self._public(first)
                self.mirrors[public] = [_without_user(place) for place in (first, *others)]
                for place in others:
                    self._confide(place)
            return [first]
        custom = said.get("custom_channels", {})
        parts = name.split("/")
        for length in range(len(parts), 0, -1):
            place = custom.get("/".join(parts[:length]))
            if place:
                return self._places(f"{place.rstrip('/')}/{name}")
        return [f"{str(said.get('channel_alias', _ALIAS)).rstrip('/')}/{name}"]

    def _all(self, names: Sequence[str], within: str) -> list[str]:
        return [place for name in names if name != within for place in self._places(name)]

    def _public(self, place: str) -> str:
        """Return an address without password and token; who asks there is given them."""
        self._confide(place)
        real = _without_user(place)
        public = _TOKEN.sub("", real)
        if public != real:
            self.mirrors.setdefault(public, [real])
        return public

    def _confide(self, place: str) -> None:
        parts = urlsplit(place)
        if parts.username is None or parts.password is None:
            return
        words = f"{unquote(parts.username)}:{unquote(parts.password)}"
        header = f"Basic {base64.b64encode(words.encode()).decode()}"
        self.headers[f"{parts.hostname}{parts.path}/"] = header

    def _check(self, name: str, address: str) -> None:
        allowed = {n for key in _LISTS for n in self.configuration.get(key, ())}
        denied = set(self.configuration.get("denylist_channels", ()))
        names = {name, address, address.rpartition("/")[2]}
        if (allowed and not names & allowed) or names & denied:
            raise BuildError(
                f"Your configuration of conda does not allow the channel {shown(name)}.",
                "See allowlist_channels and denylist_channels in your .condarc.",
            )


def _without_user(place: str) -> str:
    """Return an address without its user and password; its token stays."""
    return re.sub(r"(?<=://)[^/@]*@", "", place)
