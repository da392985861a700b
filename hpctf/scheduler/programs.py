"""The environment and the folder of every program that hpctf starts: one table, one function.

What was requested holds, whatever the person's shell exports. Slurm's commands take options from
variables (sbatch(1), INPUT ENVIRONMENT VARIABLES), and so do uv, pip, conda, git, MPI's launchers
and Python; and where hpctf itself runs within a job or a run of its own, the variables of that one
would be taken for the new one's. So each program gets the person's environment without all that
would steer it, but for what it needs to reach its servers: docs/programs.md.

A rank reads this before its training starts: it imports nothing.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # not typing's: importing it costs each rank 8 ms
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from subprocess import CompletedProcess

FOLDER = "/"
"""Where programs start that read and write no files beside themselves: nobody else may put a
module, a ``uv.toml`` or a ``pyproject.toml`` there, as they may into a shared working directory."""

SITE_KEYS = (
    *("name", "extends", "description", "scheduler", "runs_root", "models_root", "umask"),
    *("default_target", "targets", "directives", "drop", "mpi", "ps", "ports", "warning"),
    *("network", "environments", "containers", "staging", "trust", "modules", "prologue"),
    *("epilogue", "pin_gpus", "azureml", "max_snapshot_mb", "system_metrics_s"),
    *("questions_per_minute", "co2_g_per_kwh", "node_energy", "templates", "locked"),
)
"""Keys of a site, each of which a variable may set (``HPCTF_RUNS_ROOT``, `hpctf.site.settings`)."""

_OF_SITES = tuple(f"HPCTF_{key.upper()}{end}" for key in SITE_KEYS for end in ("", "__*"))

SETTINGS = ("HPCTF_SITE", "HPCTF_ADMIN_FOLDER", "HPCTF_SKIP_PREFLIGHT", "HPCTF_ALLOW_HOROVOD_KERAS")
"""Variables of a person's: they choose and set a site, or switch checks off, on the login node and
in the ranks alike. Every other HPCTF_ variable is a run's."""


class Rule:
    """What a program gets of an environment.

    ``clears`` names variables that it does not get (one that ends in ``*`` is how names begin),
    ``keeps`` those of them that it gets all the same, ``sets`` what it gets besides. ``why`` is
    what the variables would do, for docs/programs.md.
    """

    __slots__ = ("clears", "keeps", "sets", "why")

    def __init__(
        self,
        why: str,
        clears: tuple[str, ...] = (),
        keeps: tuple[str, ...] = (),
        sets: Mapping[str, str] | None = None,
    ) -> None:
        self.why = why
        self.clears = clears
        self.keeps = keeps
        self.sets = sets or {}

    def drops(self, name: str) -> bool:
        """Whether a program does not get a variable of that name."""
        return _matches(name, self.clears) and not _matches(name, self.keeps)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(
        name.startswith(pattern[:-1]) if pattern[-1] == "*" else name == pattern
        for pattern in patterns
    )


SLURM = Rule(
    "They are options of Slurm's commands, or describe the task of a job in which hpctf itself "
    "runs. Those that say where Slurm is, and who you are, stay.",
    (
        *("SLURM_*", "SLURMD_*", "SBATCH_*", "SALLOC_*", "SRUN_*", "SCRUN_*", "SQUEUE_*"),
        *("SACCT_*", "SACCTMGR_*", "SINFO_*", "SCANCEL_*", "SCONTROL_*", "SPRIO_*", "SSHARE_*"),
        *("SREPORT_*", "SSTAT_*", "SDIAG_*", "SBCAST_*", "SATTACH_*", "STRIGGER_*", "SPANK_*"),
        "_SLURM_*",
    ),
    ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_SACK_*"),
)

LAUNCHERS = Rule(
    "MPI's launchers use them to tell a rank who it is; the ranks of a new run would believe them. "
    "Those that tune MPI (OMPI_MCA_btl...), which modules set, stay.",
    (
        *("OMPI_*", "ORTE_*", "PRTE_*", "PRRTE_*", "PMIX_*", "PMI_*", "PMI2_*"),
        *("HYDRA_*", "HYDI_*", "MPI_LOCAL*", "MPIR_*", "MV2_COMM_*", "PALS_*", "ALPS_*"),
    ),
    ("OMPI_MCA_*", "PRTE_MCA_*", "PMIX_MCA_*", "MPIR_CVAR_*", "OMPI_ALLOW_RUN_AS_ROOT*"),
)

MPIRUN = Rule(
    "They look like options that tune MPI, but mpirun sets them for its own processes.",
    (
        *("OMPI_MCA_ess*", "OMPI_MCA_orte_*", "OMPI_MCA_pmix*", "OMPI_MCA_initial_wdir"),
        *("OMPI_MCA_shmem_RUNTIME_*", "OMPI_MCA_mca_base_component_path", "OMPI_MCA_PREFIXES"),
        *("OMPI_MCA_num_*", "OMPI_MCA_cpu_type", "OMPI_MCA_mpi_oversubscribe", "OPAL_*"),
        "PMIX_MCA_mca_base_*",
    ),
)

RUN = Rule(
    "hpctf sets them for the ranks of a run; a run that is submitted from within another one gets "
    "its own. Your own settings stay.",
    ("HPCTF_*", "SUBMITIT_*", "AZUREML_DATAREFERENCE_*", "TF_CONFIG", "PWD", "OLDPWD"),
    (*SETTINGS, *_OF_SITES),
)

RANK = Rule(
    "Cleared only within a rank: hpctf has set them there for that run.",
    (
        *("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONUNBUFFERED", "HOROVOD_TIMELINE", "GRPC_FAIL_FAST"),
        *("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "OMPI_MCA_btl_tcp_if_include"),
        *("TF_USE_LEGACY_KERAS", "OMPI_ALLOW_RUN_AS_ROOT*"),
    ),
)

GPUS = Rule(
    "They name the GPUs of the machine where hpctf runs; Slurm names those of the job.",
    ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"),
)

PYTHON = Rule(
    "They change where Python looks for modules, and how it starts.",
    ("PYTHON*", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__"),
)

BUILD = Rule(
    "They change what is installed, and where. Those that say where packages come from, and how to "
    "reach them, stay.",
    (
        *("PIP_*", "UV_*", "CONDA_*", "_CONDA_*", "_CE_*", "MAMBA_*", "PIPX_*"),
        *("CONDARC", "MAMBARC"),
        *("HOROVOD_*", "CMAKE_*", "SKBUILD_*", "DISTUTILS_*", "SETUPTOOLS_*", "_PYTHON_HOST_*"),
        *("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "DESTDIR", "ARCHFLAGS"),
    ),
    (
        *("UV_INDEX*", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_CACHE_DIR"),
        *("UV_KEYRING_PROVIDER", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_INSECURE_HOST"),
        *("UV_HTTP_*", "UV_REQUEST_TIMEOUT", "UV_CONCURRENT_*", "UV_LINK_MODE", "UV_OFFLINE"),
        *("UV_CREDENTIALS_DIR", "UV_LOCK_TIMEOUT", "CONDA_EXE", "MAMBA_EXE", "MAMBA_ROOT_PREFIX"),
        *("CONDA_CHANNEL_ALIAS", "CONDA_DEFAULT_CHANNELS", "CONDA_ADD_ANACONDA_TOKEN"),
        *("CONDA_PKGS_DIRS", "CONDA_SSL_VERIFY", "CONDA_CLIENT_SSL_*", "CONDA_PROXY_SERVERS"),
        *("CONDA_OFFLINE", "CONDA_REMOTE_*", "MAMBA_SSL_VERIFY"),
        *("HOROVOD_CUDA_HOME", "HOROVOD_NCCL_HOME", "CMAKE_PREFIX_PATH"),
    ),
    {"PYTHONNOUSERSITE": "1", "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"},
)

GIT = Rule(
    "They choose another repository or other programs. Your configuration, and whom you trust, "
    "stay.",
    ("GIT_*",),
    ("GIT_CONFIG*", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM", "GIT_EXEC_PATH"),
    {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
)

STEP = Rule(
    "They are options of srun that the job itself does not set.",
    ("SRUN_*", "SLURM_MPI_TYPE"),
)

PARSED = Rule("They change the language of what hpctf reads.", ("LANGUAGE",), (), {"LC_ALL": "C"})

_OUTSIDE = (SLURM, LAUNCHERS, MPIRUN, RUN)

PROGRAMS: Mapping[str, tuple[Rule, ...]] = {
    **dict.fromkeys(
        ("squeue", "sacct", "scancel", "scontrol", "sinfo", "sacctmgr", "sdiag", "srun"),
        (*_OUTSIDE, PARSED),
    ),
    "sbatch": (*_OUTSIDE, GPUS),
    "local": _OUTSIDE,
    "rank": (RUN,),
    "step": (LAUNCHERS, MPIRUN, RUN, STEP),
    **dict.fromkeys(("uv", "pip", "conda"), (*_OUTSIDE, PYTHON, BUILD)),
    "python": (*_OUTSIDE, PYTHON),
    "git": (*_OUTSIDE, GIT),
    **dict.fromkeys(("bash", "shellcheck", "module"), _OUTSIDE),
}
"""The rules of each program. ``local`` is the controller of a local run, ``rank`` a training,
``step`` an srun within the job that hpctf runs in,
``module`` the shell in which a build's modules are loaded, ``python`` an interpreter that is asked
something, or runs a program of hpctf's own."""

OTHERS = (*_OUTSIDE, PARSED)
"""The rules of all other programs, such as mpirun, which hpctf asks for its version."""


def environment_of(program: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment to start a program with, made of `env`, by default this process's.

    The program is a key of `PROGRAMS`, or a path that ends in one; any other is one of `OTHERS`.
    """
    known = os.environ if env is None else env
    rules = PROGRAMS.get(os.path.basename(program), OTHERS)
    if RUN in rules and program != "rank" and "HPCTF_RANK" in known:
        rules = (*rules, RANK)
    made = {
        name: value for name, value in known.items() if not any(rule.drops(name) for rule in rules)
    }
    if "HPCTF_RANK" in known and "PYTHONPATH" in made:
        made["PYTHONPATH"] = _without_ours(made["PYTHONPATH"])
    for rule in rules:
        made.update(rule.sets)
    return made


def ask(
    words: Sequence[str],
    timeout: float | None = None,
    *,
    kind: str = "",
    env: Mapping[str, str] | None = None,
    variables: Mapping[str, str] | None = None,
    text: str = "",
) -> CompletedProcess[str]:
    """Run a program that answers on stdout, in `FOLDER`, and return how it ended.

    `kind` and `env` are for `environment_of`; by default the program's own name, and this process's
    environment. `variables` are the person's own, on top of that; `text` is read on stdin. It
    raises what `subprocess.run` does.
    """
    import subprocess

    return subprocess.run(
        words,
        env={**environment_of(kind or words[0], env), **(variables or {})},
        cwd=FOLDER,
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )


def _without_ours(path: str) -> str:
    """Return a PYTHONPATH without what hpctf gives its ranks (`hpctf.node.identity`)."""
    from hpctf.common.paths import CLIENT, STARTUP

    return os.pathsep.join(part for part in path.split(os.pathsep) if part not in (CLIENT, STARTUP))


HONOURED = {
    "SBATCH_ACCOUNT": "account",
    "SBATCH_PARTITION": "partition",
    "SBATCH_QOS": "qos",
    "SBATCH_RESERVATION": "reservation",
    "SBATCH_WCKEY": "wckey",
    "SBATCH_CLUSTERS": "clusters",
    "SLURM_CLUSTERS": "clusters",
}
"""Variables by which a person or a site's module chooses whom a job is charged to and where it
goes: they count where neither the site nor an option says it. All others are ignored."""


def chosen_by_shell(env: Mapping[str, str]) -> dict[str, str]:
    """Return the sbatch options that the shell's variables choose, of those that are honoured."""
    chosen: dict[str, str] = {}
    for name, key in HONOURED.items():
        if env.get(name) and not (name == "SLURM_CLUSTERS" and "SLURM_JOB_ID" in env):
            chosen.setdefault(key, env[name])
    return chosen


def shell_notes(env: Mapping[str, str], used: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each variable of sbatch's in the shell: whether it counts, beside the
    options that are `used`."""
    for name in sorted(name for name in env if name.startswith("SBATCH_") or name in HONOURED):
        key = HONOURED.get(name)
        if key is None:
            yield f"{name} is ignored: pass the option itself (docs/programs.md)."
        elif key in chosen_by_shell(env):
            value = used.get(key)
            if value == env[name]:
                yield f"{name}={env[name]} is used: to choose another, --sbatch {key}=NAME."
            else:
                said = f"it is {value}" if value else f"the site has no --{key}"
                yield f"{name}={env[name]} is ignored: {said}."
