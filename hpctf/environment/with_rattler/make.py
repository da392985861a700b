"""Makes a conda environment with py-rattler: a script for hpctf's own Python.

Its argument is a private file of JSON (`hpctf.environment.rattler` writes it): the solver and the
downloads run in a process of their own, which can be ended, and whose words go to the build's log.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


def main() -> int:
    """Do what the file says and return the exit code."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.path.append(job["modules"])
    from rattler.exceptions import SolverError

    try:
        failed = asyncio.run(_make(job))
    except SolverError as error:
        print(str(error).strip(), file=sys.stderr)
        if "__cuda" in str(error):
            print(
                f"{os.uname().nodename} has no GPU driver, or none that offers this CUDA. To build "
                "for nodes whose driver does, set environments.virtual_packages: "
                "{cuda: VERSION} in the site file, or build on such a node (environments.build_on: "
                "job, build_target).",
                file=sys.stderr,
            )
        return 1
    except Exception as error:  # py-rattler has an exception class for each of its parts
        print(f"{error}".strip() or repr(error), file=sys.stderr)
        return 1
    if failed:
        print(f"The post-link script of {', '.join(failed)} failed.", file=sys.stderr)
    return 1 if failed else 0


async def _make(job: dict[str, Any]) -> list[str]:
    """Make the environment and return the packages whose scripts failed."""
    import rattler

    client = _client(job)
    found = await (_locked(job, client) if job["locked"] else _solved(job, client))
    for record in found:
        print(record.url)
        _check(record)
    print(f"Installing {len(found)} conda packages", flush=True)
    scripts = _LinkScripts()
    await rattler.install(
        found,
        job["prefix"],
        # A file that an environment shares with the cache may have been changed through it.
        package_cache=rattler.PackageCache.new_layered(
            [_packages(job)], validation_mode=rattler.ValidationMode.full()
        ),
        client=client,
        # conda runs them, too: a package may do what it likes once it is imported.
        execute_link_scripts=True,
        show_progress=False,
        reporter=scripts.reporter(),
    )
    return scripts.failed


def _packages(job: dict[str, Any]) -> Path:
    return Path(job["cache"], "packages")


def _check(record: Any) -> None:
    """Refuse a package of a folder that is not what its channel or a lock says: py-rattler compares
    the checksums of downloads alone."""
    parts = urlsplit(record.url)
    wanted = record.sha256 or record.md5
    if parts.scheme != "file" or not wanted:
        return
    found = hashlib.sha256() if record.sha256 else hashlib.md5(usedforsecurity=False)
    with open(unquote(parts.path), "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    if found.digest() != wanted:
        raise ValueError(
            f"{record.url} is not what its channel or the lock says: its {found.name} is "
            f"{found.hexdigest()}, not {wanted.hex()}."
        )


async def _solved(job: dict[str, Any], client: Any) -> list[Any]:
    """Return the packages that fulfil what is requested."""
    import rattler
    from rattler.exceptions import GatewayError

    sources: list[Any] = []
    for name, addresses in job["channels"]:
        several = [rattler.Channel(address) for address in addresses]
        sources.append(several[0] if len(several) == 1 else rattler.MultiSource(name, several))
    try:
        return await _solve(job, sources, client, "cache-or-fetch")
    except GatewayError as error:
        if "304 Not Modified" not in str(error):
            raise
        # An answer without the validators of what is cached (RFC 9110, 15.4.5), as http.server's.
        return await _solve(job, sources, client, "no-cache")


async def _solve(job: dict[str, Any], sources: list[Any], client: Any, remote: str) -> list[Any]:
    import rattler

    gateway = rattler.Gateway(
        cache_dir=Path(job["cache"], "channels"),
        default_config=rattler.SourceConfig(
            cache_action="force-cache-only" if job["offline"] else remote
        ),
        per_channel_config={"file://": rattler.SourceConfig()},
        client=client,
    )
    overrides = rattler.VirtualPackageOverrides.from_env()
    solved: list[Any] = await rattler.solve(
        sources,
        [rattler.MatchSpec(text) for text in job["specs"]],
        gateway=gateway,
        virtual_packages=rattler.VirtualPackage.detect(overrides),
        channel_priority=rattler.ChannelPriority[job["priority"].capitalize()],
    )
    return solved


async def _locked(job: dict[str, Any], client: Any) -> list[Any]:
    """Return the packages of a lock's lines, each ``ADDRESS#sha256:DIGEST`` or ``ADDRESS#MD5``."""
    import rattler

    found = []
    for number, line in enumerate(job["locked"]):
        address, _, digest = line.partition("#")
        channel, _, name = address.rpartition("/")
        stem = name.removesuffix(".conda").removesuffix(".tar.bz2")
        index = _packages(job) / stem / "info/index.json"
        if not index.is_file():
            index = Path(job["work"], f"index-{number}.json")
            index.write_bytes(await _index(address, client))
        sha256 = digest.partition(":")[2] or (digest if len(digest) == 64 else None)
        md5 = None if sha256 else digest or None
        record = rattler.PackageRecord.from_index_json(index, sha256=sha256, md5=md5)
        found.append(rattler.RepoDataRecord(record, name, address, channel.rpartition("/")[0]))
    return found


async def _index(address: str, client: Any) -> bytes:
    """Return a package's description of itself."""
    from rattler.package_streaming import PackageArchive

    parts = urlsplit(address)
    if parts.scheme == "file":
        archive = await PackageArchive.from_path(unquote(parts.path))
    else:
        archive = await PackageArchive.from_url(client, address)
    content: bytes | None = await archive.read_file("info/index.json")
    if content is None:
        raise ValueError(f"{address} is not a conda package: it has no info/index.json.")
    return content


def _client(job: dict[str, Any]) -> Any:
    """Return what reaches channels: passwords of netrc and of rattler's own store are found by
    themselves, those of addresses are given here, and no address that is kept has them."""
    import rattler
    from rattler import networking

    if not job["verify"]:
        mirrors = "".join(
            f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in job["mirrors"].items()
        )
        return rattler.Client.from_config(
            rattler.Config.from_toml(f"tls-no-verify = true\n[mirrors]\n{mirrors}"), job["retries"]
        )

    def headers(host: str, path: str) -> dict[str, str]:
        if job["offline"]:
            raise ValueError(f"environments.offline: {host}{path} is not in hpctf's cache")
        near = [place for place in job["headers"] if f"{host}{path}".startswith(place)]
        return {"Authorization": job["headers"][max(near, key=len)]} if near else {}

    return rattler.Client(
        [
            networking.RetryMiddleware(job["retries"]),
            networking.MirrorMiddleware(job["mirrors"]),
            networking.AddHeadersMiddleware(headers),
            networking.AuthenticationMiddleware(),
            networking.OciMiddleware(),
            networking.GCSMiddleware(),
            networking.S3Middleware(),
        ]
    )


class _LinkScripts:
    """Finds out which packages' scripts fail: the installer itself goes on."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.failed: list[str] = []

    def reporter(self) -> Any:
        import rattler

        started, failed = self.names, self.failed

        class Reporter(rattler.InstallerReporter):  # type: ignore[misc]
            def on_post_link_start(self, package_name: str, script_path: str) -> int:
                started.append(package_name)
                return len(started) - 1

            def on_post_link_complete(self, index: int, success: bool) -> None:
                if not success:
                    failed.append(started[index])

        return Reporter()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # py-rattler's threads may still run, and crash where Python ends around them
