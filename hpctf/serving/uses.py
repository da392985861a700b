"""Which services may still load a version of a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from hpctf.common.files import read_json
from hpctf.serving.instance import current
from hpctf.serving.record import RECORD, ServiceFolder, all_services
from hpctf.serving.status import ending_of


def reason_to_stay(version: Path, root: Path) -> str | None:
    """Return why a version must not be removed: one of one's own services serves it, and each of
    its servers loads it anew. None if none does.

    Parameters
    ----------
    version
        The version's folder in the registry.
    root
        The folder of all services.
    """
    for service in all_services(root):
        if str(version) in _models_of(service) and ending_of(service) is None:
            return (
                f"service {service.name} serves it. Stop that first (hpctf services stop "
                f"{service.name}), or give it another model (hpctf services update)"
            )
    return None


def _models_of(service: ServiceFolder) -> Iterator[str]:
    answering = current(service.path)
    for server in {*service.servers()[-1:], *([answering] if answering else [])}:
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            yield from read_json(server / RECORD)["models"].values()
