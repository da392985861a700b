"""What the tests of exports share: hpctf's own environment, and a model of every kind, exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctf.errors import HpctfError
from hpctf.models.export.exporter import Outcome, export_models
from hpctf.models.export.options import Options, Source
from hpctf.models.export.steps import Python
from hpctf.models.export.training_python import exporting_python
from hpctf.site.loading import load_site
from tests.conftest import skip_or_fail
from tests.models.export.report import Exports
from tests.support.built import SITE, build_environment

HERE = Path(__file__).parent

NEWEST = "2.21"
OLDER = ("2.18", "2.15")
"""Versions of TensorFlow besides that of `training_python`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--exports``."""
    words = "export with older TensorFlows, too, and write docs/onnx.md from this run"
    parser.addoption("--exports", action="store_true", help=words)


def pytest_configure(config: pytest.Config) -> None:
    """Register what writes the table."""
    if config.getoption("--exports"):
        config.pluginmanager.register(Exports())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Export with the newest TensorFlow, and with older ones where that is asked for."""
    if "tensorflow" in metafunc.fixturenames:
        older = OLDER if metafunc.config.getoption("--exports", default=False) else ()
        metafunc.parametrize("tensorflow", [NEWEST, *older], scope="module")


@pytest.fixture(scope="module")
def python(tensorflow: str, training_python: str) -> str:
    """The Python of an environment with that TensorFlow."""
    if tensorflow == NEWEST:
        return training_python
    made = build_environment(tensorflow, backend="single")
    if made.returncode:
        skip_or_fail(f"TensorFlow {tensorflow} cannot be installed: {made.stderr[-2000:]}")
    return made.stdout.strip()


@pytest.fixture(scope="session")
def exporting(training_python: str) -> Python:
    """hpctf's own environment for exports, kept where the tests' other environments are."""
    try:
        return exporting_python(load_site(str(SITE)))
    except HpctfError as error:
        skip_or_fail(f"the environment for exports cannot be made: {error}")
        raise


def export_kinds(
    python: str, exporting: Python, kinds: dict[str, str], options: Options, top: Path
) -> dict[str, Outcome]:
    """Make a model of each kind, and export it: one process makes and loads all of them.

    Parameters
    ----------
    kinds
        The file or folder of each, as ``make_models.py`` names it.
    """
    made, folder = top / "made", top / "exported"
    made.mkdir()
    folder.mkdir()
    maker = top / "python"
    words = [python, "-s", str(HERE / "make_models.py"), str(made), *kinds, "--"]
    maker.write_text(f'#!/bin/sh\nshift\nexec {" ".join(words)} "$@"\n')
    maker.chmod(0o755)
    sources = [
        Source(f"{kind}:1", kind.replace(".", "-"), made / name, kind_of(name), HERE)
        for kind, name in kinds.items()
    ]
    training = Python(str(maker), "the Python that trained it")
    found = export_models(sources, options, training, exporting, folder, external_from=60_000)
    return dict(zip(kinds, found, strict=True))


def kind_of(name: str) -> str:
    """Return the kind of model that a file of ``make_models.py`` is."""
    return {".keras": "keras", ".h5": "h5"}.get(Path(name).suffix, "saved_model")
