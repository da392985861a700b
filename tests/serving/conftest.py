"""What the tests of services share: ONNX models, and services of them that no test changes."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpctf import Model, Webservice
from hpctf.serving.deploy import Deployment
from hpctf.site.loading import load_site
from hpctf.site.model import Site
from hpctf.webservice import deploy_service
from tests.conftest import skip_or_fail
from tests.support import onnx_models
from tests.support.built import CACHE, SITE, build_clients, own_environment
from tests.support.waiting import HANGS_S

MODELS = ("digits", "several", "picks", "centred", "images")


@pytest.fixture(scope="session")
def clients_python() -> str:
    """The interpreter of an environment with onnx, tritonclient and schemathesis."""
    made = build_clients()
    if made.returncode:
        skip_or_fail(f"the clients' environment cannot be made: {made.stderr[-2000:]}")
    return made.stdout.strip()


@pytest.fixture(scope="session")
def onnx_files(clients_python: str) -> Path:
    """A folder with the models of `tests.support.onnx_models`, kept by content."""
    source = Path(onnx_models.__file__)
    folder = CACHE / f"onnx-{hashlib.sha256(source.read_bytes()).hexdigest()[:10]}"
    if not folder.exists():
        new = Path(tempfile.mkdtemp(dir=CACHE))
        subprocess.run([clients_python, str(source), str(new)], check=True)
        with contextlib.suppress(OSError):  # another test process was quicker
            new.rename(folder)
    return folder


@pytest.fixture(scope="session")
def site() -> Site:
    """A site of this machine with hpctf's own environment for serving."""
    own_environment("serving")
    return load_site(str(SITE))


@pytest.fixture(scope="session")
def deployed(
    tmp_path_factory: pytest.TempPathFactory, onnx_files: Path, site: Site
) -> Iterator[Callable[..., Webservice]]:
    """Deploys a service of newly registered models, or of a script, and waits until it answers; it
    ends with the tests."""
    made: list[Webservice] = []

    def deploy(
        name: str, models: tuple[str, ...] = (), script: Any = None, **how: Any
    ) -> Webservice:
        root = tmp_path_factory.mktemp(name)
        registered = [
            Model.register(onnx_files / f"{one}.onnx", one, site=site, models_root=root / "models")
            for one in models
        ]
        service = deploy_service(
            name,
            registered,
            script,
            Deployment(is_local=True, **how),
            site=site,
            runs_root=root / "runs",
        )
        made.append(service)
        service.wait_for_deployment(timeout_s=HANGS_S)
        return service

    yield deploy
    for service in made:
        service.stop()


@pytest.fixture(scope="session")
def service(deployed: Callable[..., Webservice]) -> Webservice:
    """A service of all models."""
    return deployed("models", MODELS)
