"""Running a rank's process inside a container, or a conda environment that has scripts of its own.

A container's runtime may keep variables to itself (``--cleanenv``), or have the shell look into
their values (APPTAINERENV_...), and an image sets some of its own. So what the training must find
goes through a file of its rank's, which a shell inside reads: quoted, private, whatever is in it.
"""

from __future__ import annotations

import os
import re
import shlex

from hpctf.common.files import write_atomic

TYPE_CHECKING = False  # not typing's: importing it costs each rank 8 ms
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

_NAME = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]*\Z")

_OF_THE_LAUNCHER = re.compile(
    r"\A(HPCTF|SLURM|SLURMD|PMIX?|OMPI|MPI|HYDRA|I_MPI|MV2|UCX|NCCL|GLOO|HOROVOD|FI|PSM2"
    r"|CUDA|ROCR|HIP|GPU|TF|XLA|GRPC|OMP)_"
    r"|\A(TF_CONFIG|TMPDIR|PYTHONPATH|PYTHONUNBUFFERED|ZE_AFFINITY_MASK)\Z"
)
"""Variables that tell a rank who it is, what it may use, and how it talks to the others."""

_OF_THE_HOST = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH")
"""Variables that lead an image's programs to what the host has, and the image has not."""

_FOLDERS_OF_MPI = ("PMIX_SERVER_TMPDIR", "PMIX_SYSTEM_TMPDIR", "PMIX_DSTORE_ESH_BASE_PATH")
"""Variables with folders of slurmd's own, through which ranks and PMIx meet."""

_OF_IMAGE = """\
while IFS= read -r hpctf_line || [ -n "$hpctf_line" ]; do
  hpctf_name=${hpctf_line%%=*} hpctf_value=${hpctf_line#*=}
  case $hpctf_line in *=*) ;; *) continue ;; esac
  case $hpctf_name in "" | [0-9]* | *[!A-Za-z0-9_]*) continue ;; esac
  case $hpctf_value in \\'*\\') hpctf_value=${hpctf_value#?} hpctf_value=${hpctf_value%?} ;; esac
  export "$hpctf_name=$hpctf_value"
done <hpctf_file
unset hpctf_line hpctf_name hpctf_value"""
"""Sets what an image says of its variables, a line each (ch-run(1), --set-env)."""

_CONDA = (
    'for hpctf_script in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do '
    '[ -r "$hpctf_script" ] && . "$hpctf_script"; done; unset hpctf_script; exec "$@"'
)


def contained(
    container: Mapping[str, Any],
    command: Sequence[str],
    env: dict[str, str],
    persons: Mapping[str, str],
    place: str,
    uses_gpu: bool,
) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs another one in a container (the plan's, `hpctf.plan.Container`),
    and its environment.

    `env` is the whole environment of the training, `persons` the person's variables among it, and
    `place` the path, without its ending, of a file in the run folder for the rank's variables.
    """
    wanted = {name: env[name] for name in env if name in persons or _OF_THE_LAUNCHER.match(name)}
    folder = os.path.join(env["HPCTF_RUN_FOLDER"], "snapshot")
    file = file_of(place)
    text = _of_image(container.get("variables", "")) + _shell(wanted, folder)
    write_atomic(file, text, 0o600)
    words, outside = entered(container, env, uses_gpu)
    return [*words, "/bin/sh", file, *command], outside


def file_of(place: str) -> str:
    """Return the file that sets a rank's variables inside; `place` is its path without ending."""
    return f"{place}.env"


def entered(
    container: Mapping[str, Any], env: Mapping[str, str], uses_gpu: bool
) -> tuple[list[str], dict[str, str]]:
    """Return the words that run a command in a container, and the runtime's own environment."""
    outside = {name: value for name, value in env.items() if name not in _OF_THE_HOST}
    if "LD_LIBRARY_PATH" in env:
        outside["LD_LIBRARY_PATH"] = env["LD_LIBRARY_PATH"]  # the runtime's own, of its module
    words = list(container["command"])
    words += container["gpu_options"] if uses_gpu else ()
    for bind in _folders(env):
        words += ["--bind", bind]
    for name in container.get("hides", ()):
        outside.pop(name, None)
    return [*words, container["image"], *container.get("after", ())], outside


def activated(command: Sequence[str], python: str) -> list[str] | None:
    """Return the command that runs another one after a conda environment's own scripts, or None
    if it has none: it is then entered by its PATH alone (conda, "Managing environments")."""
    scripts = os.path.join(os.path.dirname(os.path.dirname(python)), "etc/conda/activate.d")
    try:
        names = os.listdir(scripts)
    except OSError:
        return None
    if not any(name.endswith(".sh") for name in names):
        return None
    return ["/bin/bash", "-c", _CONDA, "hpctf", *command]


def _of_image(file: str) -> str:
    """Return what a POSIX shell reads to set the variables that a file of the image names, if it
    is there."""
    if not file:
        return ""
    name = shlex.quote(file)
    return f"if [ -r {name} ]; then\n{_OF_IMAGE.replace('hpctf_file', name)}\nfi\n"


def _shell(variables: Mapping[str, str], folder: str) -> str:
    """Return what a POSIX shell reads to set variables, go to the run's code, and become what its
    arguments say. Names that no shell knows go the runtime's own way."""
    named = {name: shlex.quote(variables[name]) for name in variables if _NAME.match(name)}
    lines = [f"export {name}={value}" for name, value in named.items()]
    return "\n".join([*lines, f"cd {shlex.quote(folder)} || exit 126", 'exec "$@"', ""])


def _folders(env: Mapping[str, str]) -> Iterator[str]:
    """Yield folders of the job's own that the training finds by its variables."""
    for name in (*_FOLDERS_OF_MPI, "HPCTF_STAGING_DIR", "TMPDIR"):
        folder = env.get(name, "")
        if name not in _FOLDERS_OF_MPI and f"{folder}/".startswith("/tmp/"):
            continue  # every runtime shows /tmp
        if folder.startswith("/") and os.path.isdir(folder) and not {",", ":"} & set(folder):
            yield folder
