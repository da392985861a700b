"""Builds that no variable of a shell, no folder above and no pip.conf leads elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hpctf.environment.pip import uv

from .stand_ins import hpctf_env, make_site

KEPT = re.compile(
    r"INDEX|FIND_LINKS|CACHE|KEYRING|TLS|CERT|HOST|HTTP|TIMEOUT|CONCURRENT|CONFIG_FILE|OFFLINE|RETRIES|PROXY|LINK_MODE"
)
"""What says where packages come from; it is not tried here."""


def hostile(kind: str, elsewhere: Path) -> dict[str, str]:
    """Return variables of all options that the installer has, each with a value that would harm."""
    if kind == "uv":
        said = subprocess.run([uv(), "pip", "install", "--help"], capture_output=True, text=True)
        names = set(re.findall(r"\[env: (UV_\w+)=", said.stdout)) | {"UV_SYSTEM_PYTHON"}
        assert len(names) > 15, said.stdout
    else:
        words = [sys.executable, "-m", "pip", "install", "--help"]
        said = subprocess.run(words, capture_output=True, text=True)
        options = re.findall(r"--([a-z][a-z-]+)", said.stdout)
        names = {f"PIP_{option.upper().replace('-', '_')}" for option in options}
        assert len(names) > 40, said.stdout
    own = {name: str(elsewhere) for name in names if not KEPT.search(name)}
    return {**own, "PYTHONUSERBASE": str(elsewhere), "PYTHONHOME": "", "VIRTUAL_ENV": "/nowhere"}


@pytest.mark.parametrize("kind", ["uv", "pip"])
def test_packages_go_where_they_belong(kind: str, tmp_path: Path, wheels: Path) -> None:
    site = make_site(tmp_path, wheels, pip=kind)
    elsewhere = tmp_path / "elsewhere"
    folder_above = f'[pip]\ntarget = "{elsewhere}"\nno-index = true\nfind-links = ["/nowhere"]\n'
    (tmp_path / "uv.toml").write_text(folder_above)
    (tmp_path / "pyproject.toml").write_text(f'[tool.uv.pip]\ntarget = "{elsewhere}"\n')
    own = tmp_path / "home/.config/pip/pip.conf"
    own.parent.mkdir(parents=True)
    own.write_text(
        f"[global]\nuser = true\n[install]\ntarget = {elsewhere}\nprefix = {elsewhere}\n"
    )
    shell = {**hostile(kind, elsewhere), "XDG_CONFIG_HOME": str(own.parents[1])}
    done = hpctf_env("build", "--pip", "tiny", site=site, **shell)
    python = done.stdout.strip()
    said = subprocess.check_output(
        [python, "-I", "-c", "import tiny; print(tiny.__file__)"], text=True
    )
    assert Path(said.strip()).is_relative_to(tmp_path / "store")
    assert not elsewhere.exists()
