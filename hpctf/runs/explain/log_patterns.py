"""What the last lines of a log mean: patterns of the usual failures, in plain words.

They are the words of Python, TensorFlow, Horovod, Open MPI, Slurm and the shell.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hpctf.runs.explain import removed_names


class Symptom(NamedTuple):
    """What a line means, what can be done, and the page of docs/troubleshooting about it.

    ``{1}`` is the pattern's first group.
    """

    meaning: str
    advice: str
    page: str


_INSTALL = "Install it there, or name another environment with --python."

_MEMORY = "Ask for more memory: --mem. A limit of the shell counts, too: ulimit -v, ulimit -u."

_CH_RUN = r"ch-run\[\d+\]: error: "

_PATTERNS: list[tuple[str, str, str, str]] = [
    (
        _CH_RUN + r"can't init user\+mount namespaces: (.+?) \(",
        "Charliecloud cannot make user namespaces on the node: {1}",
        "Ask the admin for user.max_user_namespaces above 0 there (sysctl), and for "
        "kernel.unprivileged_userns_clone=1 where Linux has it.",
        "containers",
    ),
    (
        _CH_RUN + r"can't bind: source not found: /srv|" + _CH_RUN + r"can't stat new root; over",
        "Charliecloud hides /srv (--write-fake), where the image or a folder for it lies",
        "Keep them elsewhere.",
        "containers",
    ),
    (
        r"fuse: failed to open /dev/fuse|" + _CH_RUN + r"too many FUSE errors",
        "Charliecloud cannot mount the SquashFS image: users may not open /dev/fuse on the "
        "node, or it has none",
        "Ask the admin for the mode that Linux gives it (0666), or unpack the image with "
        "ch-convert and name the folder.",
        "containers",
    ),
    (
        _CH_RUN + r"(.+?) \(ch_\w+\.c",
        "Charliecloud could not start it: {1}",
        "ch-run(1) has its options.",
        "containers",
    ),
    (
        r"hpctf: preflight: (.+?)\. (?:Give|Let|Set) ",
        "{1}",
        "Its log says what to do.",
        "preflight",
    ),
    (
        r"hpctf: refused: (.+)\.$",
        "hpctf refused it: {1}",
        "Change one of these, and submit it again.",
        "refused",
    ),
    (
        r"^hpctf: the return value cannot be pickled: (.+)",
        "the function's return value cannot be pickled, so that its result is lost: {1}",
        "Return numbers, texts, lists or arrays; save models and the like in ./outputs.",
        "return-value",
    ),
    (
        r"Keras cannot be imported\. Check that it is installed",
        "tf.keras is not to be had in the training's Python, {python}: with parameter servers "
        "and MultiWorkerMirroredStrategy it must be tf-keras",
        "Install it there: pip install --no-deps tf-keras, of TensorFlow's version.",
        "keras-3",
    ),
    *removed_names.PATTERNS,
    (
        r"ModuleNotFoundError: No module named '([^']+)'",
        "the module {1} is not installed in the training's Python, {python}",
        _INSTALL,
        "missing-module",
    ),
    (
        r"ImportError: (lib\S+): cannot open shared object file",
        "the shared library {1} is not there on the node",
        "Load the module that brings it (modules: in the site file), or install it.",
        "missing-library",
    ),
    (
        r"ImportError: (.+)",
        "an import failed in the training's Python, {python}: {1}",
        _INSTALL,
        "missing-module",
    ),
    (
        r"TF_USE_LEGACY_KERAS|PerReplica|ParameterServerStrategy.{0,80}not (?:yet )?supported",
        "Keras 3 does not support this way of distributing",
        "Install tf-keras (pip install --no-deps tf-keras) and set TF_USE_LEGACY_KERAS=1 "
        "(--env), or write the loop yourself.",
        "keras-3",
    ),
    (
        r"(?:ResourceExhaustedError|RESOURCE_EXHAUSTED|OOM when allocating|"
        r"CUDA_ERROR_OUT_OF_MEMORY|CUDA out of memory)",
        "a device ran out of memory: TensorFlow could not allocate a tensor",
        "Make batches or model smaller, or spread it over more GPUs.",
        "gpu-memory",
    ),
    (
        r"oom[-_]kill event",
        "the kernel killed a process that used more memory than the job may",
        "Ask for more memory: --mem.",
        "out-of-memory",
    ),
    (
        r"^(?:\w+\.)*(?:_Array)?MemoryError",
        "Python could not get the memory it asked for",
        _MEMORY,
        "out-of-memory",
    ),
    (
        r"std::bad_alloc|[Cc]annot allocate memory|ENOMEM|[Oo]ut of memory|"
        r"failed to map segment from shared object|mmap(?:\(\))? failed|Failed to allocate memory|"
        r"can't start new thread|pthread_create\(?\)? failed|Thread creation failed|"
        r"memory allocation of \d+ bytes failed|virtual memory exhausted",
        "a library could not get the memory, or the thread, that it asked for",
        _MEMORY,
        "out-of-memory",
    ),
    (
        r"(lib(?:cuda|cudart|cudnn|cublas|nccl)\S*)[:'\"]? .*(?:cannot open|could not|not found)"
        r"|Cannot dlopen some GPU libraries|CUDA driver version is insufficient"
        r"|Could not (?:load|find) (?:library )?(?:cudnn|cuda)",
        "CUDA or cuDNN is missing or of the wrong version on the node",
        "Load the site's CUDA module, or install tensorflow[and-cuda] in the environment.",
        "cuda",
    ),
    (
        r"CUDA_ERROR_NO_DEVICE|no CUDA-capable device|failed call to cuInit",
        "no GPU was to be seen",
        "Ask for one: --use-gpu, or --gpus-per-node.",
        "cuda",
    ),
    (
        r"Address already in use|EADDRINUSE|Could not start gRPC server",
        "another program holds a port that it needs",
        "Submit it again, or give the site another range of ports (ports:).",
        "port-in-use",
    ),
    (
        r"No space left on device|ENOSPC",
        "a disk is full",
        "Make room where it writes, or have it write elsewhere.",
        "disk-full",
    ),
    (
        r"Disk quota exceeded|EDQUOT",
        "its user's disk quota is used up",
        "Delete what is not needed, or ask for more.",
        "disk-full",
    ),
    (
        r"built with.{0,40}PMI support|PMI2_Init failed|PMIX ERROR|orte_init failed"
        r"|ompi_mpi_init: ompi_rte_init failed|No PMIx server was reachable",
        "MPI and srun do not understand each other",
        "Set the site's MPI launcher: mpi: in the site file (srun --mpi=list says what there "
        "is), or launch with mpirun.",
        "mpi",
    ),
    (
        r"Stalled ranks:|One or more tensors were submitted to be reduced",
        "some ranks waited for others that did not take part in an operation",
        "Every rank must run the same steps: look at the log of the rank that is missing.",
        "stalled-ranks",
    ),
    (
        r"Extension horovod\S+ has not been built|HorovodInternalError"
        r"|Horovod has not been initialized",
        "Horovod does not work in this environment",
        "Build it there with MPI and for this TensorFlow (HOROVOD_WITH_MPI=1).",
        "horovod",
    ),
    (
        r"UnavailableError|grpc_status:14|StatusCode\.UNAVAILABLE|failed to connect to all "
        r"addresses|Connection reset by peer|Socket closed",
        "it lost the connection to another rank",
        "Look at the rank that ended first: its log says why.",
        "lost-connection",
    ),
    (
        r"execve\(\): (\S+): No such file|slurmstepd: error: execve",
        "the nodes do not see hpctf's own Python",
        "Install hpctf on a file system that the nodes share.",
        "cannot-start",
    ),
    (
        r"PermissionError: .*?'([^']+)'|(\S+): Permission denied",
        "it may not read, write or run {1}",
        "Give it the permission, or another place.",
        "permission-denied",
    ),
    (
        r"[Ee]xec format error",
        "a program is not one that the node's machine can run",
        "Check that it was built for this architecture, and that a script begins with #!.",
        "cannot-start",
    ),
    (
        r"FileNotFoundError: .*?'([^']+)'|(\S+): No such file or directory",
        "it looked for {1}, which is not there on the node",
        "Only the shared file system and the snapshot of the source folder are: name data by "
        "--input, and paths in full.",
        "file-not-found",
    ),
    (
        r"^(?:IndentationError|TabError|SyntaxError): (.+)",
        "the script is not valid Python: {1}",
        "Run it once on the login node.",
        "syntax-error",
    ),
    (
        r"(\S+): (?:command )?not found",
        "the program {1} is not there on the node",
        "Name it by its full path.",
        "cannot-start",
    ),
    (
        r"Bus error|SIGBUS",
        "it touched memory that is gone, such as a full /dev/shm or a file cut short",
        "Look at /dev/shm and at the files it maps.",
        "crash",
    ),
    (
        r"[Ss]egmentation fault|SIGSEGV",
        "a library crashed (segmentation fault)",
        "Look for mixed versions of TensorFlow, CUDA, MPI and Horovod.",
        "crash",
    ),
    (
        r"Unable to create step for job|Job credential expired|Communication connection failure"
        r"|Task launch for StepId=\S+ failed",
        "Slurm could not start its step on the nodes",
        "Submit it again.",
        "slurm-step",
    ),
]
_CHATTER = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+: [IWE] ")
"""Begins TensorFlow's own lines: those on missing CUDA stand in every log of a machine without."""

_TRACEBACK = "Traceback (most recent call last)"
_COMPILED = [(re.compile(pattern), Symptom(*words)) for pattern, *words in _PATTERNS]

_SIGNALS = {
    4: Symptom(
        "it used instructions that the node's processor does not have (illegal instruction)",
        "Choose other nodes (--sbatch constraint=...), or a build for this processor.",
        "crash",
    ),
    6: Symptom(
        "a library gave up (abort)",
        "Its last lines say why.",
        "crash",
    ),
    7: Symptom(
        "it touched memory that is gone, such as a full /dev/shm (bus error)",
        "Look at /dev/shm and at the files it maps.",
        "crash",
    ),
    9: Symptom(
        "somebody or something killed it, often the kernel for want of memory",
        "If it needs more memory: --mem.",
        "out-of-memory",
    ),
    11: Symptom(
        "a library crashed (segmentation fault)",
        "Look for mixed versions of TensorFlow, CUDA, MPI and Horovod.",
        "crash",
    ),
}
_CODES = {
    126: Symptom(
        "its program is there, but cannot be run",
        "Check that it is executable, and built for the node's machine.",
        "cannot-start",
    ),
    127: Symptom(
        "its program, or the interpreter that it names, is not there on the node",
        "Check --python and the script's first line (#!).",
        "cannot-start",
    ),
}


def of_lines(lines: list[str], python: str) -> Symptom | None:
    """Return what the lines mean: the latest one that is known; None if none is.

    Where Python raised, only what follows counts. `python` is the training's, which lacks modules.
    """
    begun = [number for number, line in enumerate(lines) if _TRACEBACK in line]
    for line in reversed(lines[begun[-1] :] if begun else lines):
        if _CHATTER.match(line):
            continue
        for pattern, symptom in _COMPILED:
            found = pattern.search(line)
            if found:
                what = next((group for group in found.groups() if group), "")
                instead = removed_names.instead_of(what)
                advice = symptom.advice.replace("{instead}", instead).replace("{1}", what)
                meaning = symptom.meaning.replace("{python}", python).replace("{1}", what)
                return Symptom(meaning, advice, symptom.page)
    return None


def of_end(exit_code: int | None, signal: int | None) -> Symptom | None:
    """Return what an exit code or a signal means where it has a meaning of its own."""
    if signal:
        return _SIGNALS.get(signal)
    return _CODES.get(exit_code or 0)


def known() -> list[Symptom]:
    """Return every symptom that `of_lines` and `of_end` can return, with its places not filled."""
    return [*(symptom for _, symptom in _COMPILED), *_SIGNALS.values(), *_CODES.values()]
