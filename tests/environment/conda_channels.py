"""Channels of small conda packages, made with py-rattler-build: no machine of ours reaches a real
one. Their ``python`` is Debian's own, repacked; their ``pip`` is empty, since uv installs here."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import shutil
import subprocess
import tempfile
import textwrap
from importlib import metadata
from pathlib import Path

from tests.support.built import CACHE

_SAY = "import sys; print('{}.{}.{}'.format(*sys.version_info))"
VERSION = subprocess.check_output(["/usr/bin/python3", "-c", _SAY], text=True).strip()
SHORT = VERSION.rpartition(".")[0]
_LEFT_OUT = shutil.ignore_patterns(
    *("__pycache__", "test", "tests", "idlelib", "lib2to3", "ensurepip", "tkinter", "config-*"),
    *("EXTERNALLY-MANAGED", "sitecustomize.py", "dist-packages", "turtledemo", "pydoc_data"),
)


def index(channel: Path) -> None:
    """Write what a channel has."""
    from rattler.index import index_fs

    asyncio.run(index_fs(channel))


def package(
    channel: Path,
    name: str,
    version: str = "1.0",
    script: str = "",
    run: str = "",
    build: str = "0",
    python: str = "",
    number: int = 0,
) -> None:
    """Build a package into a channel, whose index is to be written afterwards.

    Parameters
    ----------
    script
        Lines of shell that put its files into ``$PREFIX``.
    run
        What it needs, in the form of YAML: ``"lib >=2", python``.
    build, number
        Its build string and number.
    python
        An entry point, ``greet = greeter:main``: it is a package for any Python then.
    """
    from rattler_build import Stage0Recipe, ToolConfiguration, VariantConfig

    noarch = f'noarch: python\n  python: {{entry_points: ["{python}"]}}' if python else ""
    lines = textwrap.indent(textwrap.dedent(script).strip() or "touch $PREFIX/empty", "    ")
    text = (
        f'package: {{name: {name}, version: "{version}"}}\n'
        f'build:\n  number: {number}\n  string: "{build}"\n  {noarch}\n  script: |\n{lines}\n'
        f"requirements:\n  run: [{run}]\n"
    )
    channel.mkdir(parents=True, exist_ok=True)
    for variant in Stage0Recipe.from_yaml(text).render(VariantConfig()):
        variant.run_build(
            tool_config=ToolConfiguration(),
            output_dir=channel,
            channels=[],
            package_format="conda:1",
            no_include_recipe=True,
        )


def _python(channel: Path) -> None:
    from rattler_build import assemble_package

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        library = root / f"lib/python{SHORT}"
        shutil.copytree(f"/usr/lib/python{SHORT}", library, ignore=_LEFT_OUT)
        # Debian looks for packages there, and its installers put them elsewhere.
        (root / "lib/python3").mkdir()
        (root / "lib/python3/dist-packages").symlink_to(f"../python{SHORT}/site-packages")
        (library / "site-packages").mkdir()
        (library / "site-packages/README.txt").write_text("Packages of others.\n")
        settings = next(
            file
            for file in (library / "sysconfig.py", library / "sysconfig/__init__.py")
            if file.is_file()
        )
        text = settings.read_text()
        wanted = text.replace("prefix_scheme = 'posix_local'", "prefix_scheme = 'posix_prefix'")
        assert wanted != text, "Debian's sysconfig has changed"
        settings.write_text(wanted)
        # As in real packages of Python: else each of its processes would do so.
        words = [
            "/usr/bin/python3",
            "-m",
            "compileall",
            "-q",
            "--invalidation-mode",
            "unchecked-hash",
        ]
        subprocess.run([*words, str(library)], check=False)
        (root / "bin").mkdir()
        shutil.copy(f"/usr/bin/python{SHORT}", root / "bin")
        for name in ("python", "python3"):
            (root / "bin" / name).symlink_to(f"python{SHORT}")
        assemble_package(
            *("python", VERSION, "linux-64", "0_cpython", channel / "linux-64"),
            files_dir=root,
            compression_level=1,
        )


GREETER = """
mkdir -p $PREFIX/site-packages/greeter $PREFIX/site-packages/greeter-VERSION.dist-info
printf '__version__ = "VERSION"\\ndef main():\\n    print("hello VERSION")\\n' \
  > $PREFIX/site-packages/greeter/__init__.py
cd $PREFIX/site-packages/greeter-VERSION.dist-info
printf 'Metadata-Version: 2.1\\nName: greeter\\nVersion: VERSION\\n' > METADATA
echo conda > INSTALLER
"""
"""A package for any Python, with an entry point."""

RELOCATED = """
mkdir -p $PREFIX/bin $PREFIX/share $PREFIX/etc/conda/activate.d $PREFIX/etc/conda/env_vars.d
printf 'int puts(const char*); int main() { return puts(WHERE) < 0; }' > where.c
cc -DWHERE="\\"$PREFIX/share\\"" where.c -o $PREFIX/bin/where
printf '#!/bin/sh\\necho '"$PREFIX"'/share\\n' > $PREFIX/bin/where.sh
chmod +x $PREFIX/bin/where.sh
touch $PREFIX/share/here
echo "export RELOCATED=$PREFIX/share" > $PREFIX/etc/conda/activate.d/relocated.sh
echo '{"PACKED": "yes", "CHOSEN": "package"}' > $PREFIX/etc/conda/env_vars.d/relocated.json
printf '#!/bin/sh\\necho "$PKG_NAME $PREFIX" > "$PREFIX/share/linked"\\n' \
  > $PREFIX/bin/.relocated-post-link.sh
"""
"""A package with a binary and a script that know where they are, and with scripts of its own."""


def base_channel() -> Path:
    """Return a channel that is made once on this machine: Python, pip and what they run."""
    content = [Path(__file__).read_text(), VERSION, metadata.version("py-rattler-build")]
    digest = hashlib.sha256("\n".join(content).encode()).hexdigest()[:10]
    channel = CACHE / f"conda-channel-{digest}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "conda-channel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not channel.exists():
            made = Path(tempfile.mkdtemp(dir=CACHE, prefix=".conda-channel-"))
            made.chmod(0o755)
            (made / "linux-64").mkdir()
            _python(made)
            package(made, "pip", "25.0", run="python")
            greeter = GREETER.replace("VERSION", "1.0")
            package(made, "greeter", "1.0", greeter, "python >=3", "py_0", "greet = greeter:main")
            package(made, "relocated", script=RELOCATED)
            index(made)
            made.rename(channel)
    return channel
