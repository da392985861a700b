"""Running a training by Charliecloud's ch-run: images that are folders or SquashFS files.

ch-run(1) of 0.38: it fetches no images, mounts them read-only, leaves the host's variables as they
are, and then becomes the training; with a SquashFS file it stays, and serves the image.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from hpctf.environment.binds import Bind
from hpctf.errors import SiteError, UsageError
from hpctf.plan import Container
from hpctf.site.model import Site

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What an image without a PATH of its own gets: the host's means nothing there."""

_WRITES = re.compile(r"-[wW]\Z|--write(-fake)?(=|\Z)")
_SQUASHFS = b"hsqs"


def container_of(image: str, binds: Sequence[Bind], site: Site) -> Container:
    """Return how a rank calls ch-run.

    Raises
    ------
    UsageError, SiteError
        ch-run cannot run such an image, or bind such a folder.
    """
    options = site.containers.options
    folder = _is_folder(image)
    # The run's folder is not in the image: a mount point for it can be made on an overlay alone.
    own = () if any(map(_WRITES.match, options)) else ("--write-fake",)
    return Container(
        command=(
            *("ch-run", *own, "--unset-env=LD_LIBRARY_PATH", f"--set-env=PATH={_PATH}"),
            *options,
            *_bind_options(binds, site),
        ),
        image=image,
        after=("--",),
        variables="/ch/environment",
        hides=("TMPDIR",),  # it would be /tmp there
        replaced=folder,
    )


def _is_folder(image: str) -> bool:
    scheme, _, name = image.rpartition("://")
    if scheme:
        file = re.sub(r"[^A-Za-z0-9.]+", "-", name.rpartition("/")[2]) + ".sqfs"
        raise UsageError(
            f"container is {image!r}, but ch-run, which runs images on this site, fetches none.",
            f"Make a file of it on a machine with a network: ch-image pull {name} && ch-convert "
            f"{name} {file}; then --container {file}.",
        )
    if os.path.isdir(image):
        return True
    with open(image, "rb") as stream:
        if stream.read(len(_SQUASHFS)) == _SQUASHFS:
            return False
    stem = re.sub(r"\.(tar(\.\w+)?|tgz|sif)\Z", "", os.path.basename(image))
    raise UsageError(
        f"container is {image!r}, but ch-run runs folders and SquashFS files only.",
        f"Convert it: ch-convert {image} {stem}.sqfs; then --container {stem}.sqfs."
        if not image.endswith(".sif")
        else "An image of Apptainer's is unpacked by Apptainer: apptainer build --sandbox "
        f"{stem} {image}; then --container ./{stem}.",
    )


def _bind_options(binds: Sequence[Bind], site: Site) -> Iterator[str]:
    for bind in binds:
        if bind.read_only and not bind.ours:
            raise SiteError(
                f"Site {site.name!r} binds {bind.source!r} read-only, which ch-run cannot do.",
                "Leave out :ro under containers.binds: files keep their owners and modes.",
            )
        source, target = bind.source, bind.target
        if os.path.isfile(source) and source == target:
            source = target = os.path.dirname(source)  # a mount point is made as a folder
        yield f"--bind={source}" if source == target else f"--bind={source}:{target}"
