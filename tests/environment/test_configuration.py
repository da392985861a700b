"""Builds that no variable of a shell, no folder above and no configuration leads elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hpctf.environment.configuration import CONDA_KEYS, UV_KEYS, UV_PIP_KEYS
from hpctf.environment.pip import uv
from tests.support.stand_in_wheels import hpctf_env, make_conda, make_site

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
    code = "import tiny, tensorflow, tf_keras; print(tiny.__version__, tiny.__file__)"
    version, path = subprocess.check_output([python, "-I", "-c", code], text=True).split()
    assert version == "1.1"
    assert Path(path).is_relative_to(tmp_path / "store")
    assert not elsewhere.exists()


def options_of_uv(section: str, tmp_path: Path) -> list[str]:
    """Return all keys that a ``uv.toml`` may have, as uv itself lists them."""
    (tmp_path / "wrong.toml").write_text(f"{section}\nno-such-key = 1\n")
    words = [uv(), "--config-file", tmp_path / "wrong.toml", "pip", "list"]
    said = subprocess.run(words, capture_output=True, text=True).stderr
    return re.findall(r"`([a-z-]+)`", said.partition("expected one of")[2])


def test_of_uvs_own_configuration_counts_what_says_where_packages_are(
    tmp_path: Path, wheels: Path
) -> None:
    """All other keys have a value that uv would refuse if it saw them."""
    top, pip = options_of_uv("", tmp_path), options_of_uv("[pip]", tmp_path)
    assert len(top) > 70 and len(pip) > 50 and "target" in pip
    site = make_site(tmp_path, wheels, find_links=[], offline=False)
    lines = [f"{key} = 17.5" for key in top if key not in (*UV_KEYS, "pip")]
    lines += ["no-index = true", f'find-links = ["{wheels}"]', "concurrent-downloads = 2"]
    lines += ["[pip]", *(f"{key} = 17.5" for key in pip if key not in UV_PIP_KEYS)]
    own = tmp_path / "config/uv/uv.toml"
    own.parent.mkdir(parents=True)
    own.write_text("\n".join(lines))
    assert hpctf_env("build", "--pip", "tiny", site=site).returncode == 0

    own.write_text('[pip]\nno-index = true\nfind-links = ["."]\n')
    done = hpctf_env("build", "--pip", "tiny<1.1", site=site, check=False)
    assert done.returncode == 3 and "tiny" in done.stderr, (
        "a folder without wheels, beside the file"
    )
    own.write_text("index-url = \n")
    done = hpctf_env("build", "--pip", "tiny<1.1", site=site, check=False)
    assert done.returncode == 2 and f"Cannot read your configuration {own}" in done.stderr


def test_a_folder_of_packages_that_all_may_write_is_refused_wherever_it_is_named(
    tmp_path: Path, wheels: Path
) -> None:
    planted = tmp_path / "planted"
    planted.mkdir()
    planted.chmod(0o777)
    program, calls = make_conda(tmp_path, "/usr/bin/python3")
    site = make_site(tmp_path, wheels, conda=str(program), channels=["conda-forge"])
    for file, text in {
        "config/uv/uv.toml": f'[[index]]\nurl = "file://{planted}"\n',
        "config/pip/pip.conf": f"[global]\nfind-links = {planted}\n",
        "home/.condarc": f"pkgs_dirs: ['{planted}']\n",
        "home/.conda/condarc": f"custom_channels: {{conda-forge: 'file://{planted}'}}\n",
    }.items():
        own = tmp_path / file
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(text)
        words = ["--conda", "numpy"] if "conda" in file else ["--pip", "tiny"]
        done = hpctf_env(
            "build", *words, site=site, check=False, HOME=str(tmp_path / "home"), PIP_FIND_LINKS=""
        )
        assert done.returncode == 3 and f"{str(planted)!r}" in done.stderr, done.stderr
        own.unlink()
    assert not calls.exists()


CONDARC = """
channels: [stranger]
channel_alias: https://me:c4n4ry@conda.example
proxy_servers: {https: "http://me:c4n4ry@proxy.example:3128"}
ssl_verify: ~/own.pem
remote_max_retries: 7
"""
OTHERS = """\
add_pip_as_python_dependency aggressive_update_packages allow_cycles allow_softlinks always_copy
always_softlink always_yes auto_activate_base auto_stack auto_update_conda bld_path changeps1
channel_priority channels clobber create_default_packages croot default_activation_env
default_python deps_modifier disallowed_packages download_only dry_run enable_private_envs
env_prompt envs_dirs execute_threads experimental extra_safety_checks force force_32bit
force_reinstall force_remove json no_deps no_lock no_pin override_channels_enabled
override_virtual_packages path_conflict pinned_packages pip_interop_enabled platform plugins
prefix_data_interoperability quiet repodata_fns report_errors restore_free_channel
rollback_enabled root_prefix safety_checks sat_solver separate_format_cache shortcuts solver
solver_ignore_timestamps strict_channel_priority subdir subdirs target_prefix_override
track_features unsatisfiable_hints update_modifier use_index_cache use_local
use_only_tar_bz2 verify_threads
"""
"""Keys of conda's Context and of libmamba's Configuration that do not say where packages are."""


def test_conda_gets_a_configuration_of_ours_and_no_password_in_its_command_line(
    tmp_path: Path, wheels: Path
) -> None:
    program, calls = make_conda(tmp_path, "/usr/bin/python3")
    secret = "c4n4ry"
    channels = [f"https://me:{secret}@host.example/a", f"https://host.example/t/tk-{secret}/b"]
    site = make_site(
        tmp_path, wheels, umask="0022", conda=str(program), channels=["bioconda", *channels]
    )
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text("machine host.example login me password x\n")
    hostile = [f"{key}: stranger" for key in OTHERS.split() if key != "channels"]
    (home / ".condarc").write_text("\n".join([CONDARC, *hostile]))
    named = ["--conda", "numpy>=1.2", "--conda", f"{channels[1]}::scipy"]
    variables = {"HOME": str(home), "MAMBARC": str(home / ".condarc"), "CONDA_SUBDIR": "stranger"}
    done = hpctf_env("build", *named, "--pip", "tiny", site=site, **variables)
    call = json.loads(Path(f"{calls}.seen").read_text())
    assert secret not in " ".join(json.loads(calls.read_text()))
    assert json.loads(calls.read_text())[-6:] == [
        *["-c", "hpctf-2", "python=3.11", "pip", "numpy>=1.2", "hpctf-2::scipy"]
    ]
    assert call["mode"] == 0o600
    given = call["condarc"]
    assert set(given) <= {*CONDA_KEYS, "channel_priority"}
    assert given["channel_priority"] == "flexible", "the site's, not the person's"
    assert given["custom_multichannels"] == {"hpctf-1": channels[:1], "hpctf-2": channels[1:]}
    assert given["ssl_verify"] == f"{home}/own.pem" and given["remote_max_retries"] == 7
    assert given["proxy_servers"] == {"https": f"http://me:{secret}@proxy.example:3128"}
    assert call["home"] == [".netrc"] and Path(call["variables"]["HOME"]) != home
    assert not {"MAMBARC", "CONDA_SUBDIR"} & call["variables"].keys()
    told = done.stdout + done.stderr
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    told += "".join(path.read_text(errors="replace") for path in files)
    assert secret not in told
