"""Whose files a site's jobs may execute: what the site names, checked before it is believed."""

from __future__ import annotations

import os
from dataclasses import replace

from hpctf.common.trusted_path import Trusted, check_tree, trusted
from hpctf.site.discovery import admins
from hpctf.site.model import Site


def trusted_by(site: Site) -> Trusted:
    """Return whom a site trusts: those it names, and who owns the admin's folder."""
    named = trusted(site.trust.users, site.trust.groups)
    return replace(named, users=named.users | admins().users)


def template_folder(site: Site) -> str | None:
    """Return a site's folder of templates, which are programs: `UntrustedPath` says that somebody
    could change one who is not trusted."""
    if site.templates is None:
        return None
    folder = os.path.expanduser(site.templates)
    if os.path.isdir(folder):  # else rendering says what is wrong
        check_tree(folder, "The template folder", trusted_by(site))
    return folder
