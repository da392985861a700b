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


_INSTALL = "Install it there, or pass another environment with --python."

_MEMORY = "Request more memory: --mem. The shell's limits count, too: ulimit -v, ulimit -u."

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
        "Charliecloud hides /srv (--write-fake), where the image or one of its folders is",
        "Move it to another folder.",
        "containers",
    ),
    (
        r"fuse: failed to open /dev/fuse|" + _CH_RUN + r"too many FUSE errors",
        "Charliecloud cannot mount the SquashFS image: users may not open /dev/fuse on the "
        "node, or it has none",
        "Ask the admin for the mode that Linux gives it (0666), or unpack the image with "
        "ch-convert and pass the folder.",
        "containers",
    ),
    (
        _CH_RUN + r"(.+?) \(ch_\w+\.c",
        "Charliecloud could not start it: {1}",
        "See ch-run(1) for its options.",
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
        "Change one of these, and submit the run again.",
        "refused",
    ),
    (
        r"^hpctf: the return value cannot be pickled: (.+)",
        "the function's return value cannot be pickled, so its result is lost: {1}",
        "Return numbers, strings, lists or arrays; save models and other objects in ./outputs.",
        "return-value",
    ),
    (
        r"Keras cannot be imported\. Check that it is installed",
        "tf.keras is not available in the training's Python, {python}: with parameter servers "
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
        "the shared library {1} is missing on the node",
        "Load the module that provides it (--module, or modules: in the site file), or install it.",
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
        "Make the batches or the model smaller, or use more GPUs.",
        "gpu-memory",
    ),
    (
        r"oom[-_]kill event",
        "the kernel killed a process that used more memory than the job may",
        "Request more memory: --mem.",
        "out-of-memory",
    ),
    (
        r"^(?:\w+\.)*(?:_Array)?MemoryError",
        "Python could not allocate the memory that it needs",
        _MEMORY,
        "out-of-memory",
    ),
    (
        r"std::bad_alloc|[Cc]annot allocate memory|ENOMEM|[Oo]ut of memory|"
        r"failed to map segment from shared object|mmap(?:\(\))? failed|Failed to allocate memory|"
        r"can't start new thread|pthread_create\(?\)? failed|Thread creation failed|"
        r"memory allocation of \d+ bytes failed|virtual memory exhausted",
        "a library could not allocate the memory or start the thread that it needs",
        _MEMORY,
        "out-of-memory",
    ),
    (
        r"(lib(?:cuda|cudart|cudnn|cublas|nccl)\S*)[:'\"]? .*(?:cannot open|could not|not found)"
        r"|Cannot dlopen some GPU libraries|CUDA driver version is insufficient"
        r"|Could not (?:load|find) (?:library )?(?:cudnn|cuda)",
        "CUDA or cuDNN is missing on the node, or has the wrong version",
        "Load the site's CUDA module, or install tensorflow[and-cuda] in the environment.",
        "cuda",
    ),
    (
        r"CUDA_ERROR_NO_DEVICE|no CUDA-capable device|failed call to cuInit",
        "TensorFlow sees no GPU",
        "Request one: --use-gpu, or --gpus-per-node.",
        "cuda",
    ),
    (
        r"Address already in use|EADDRINUSE|Could not start gRPC server",
        "another program uses a port that it needs",
        "Submit the run again, or set another range of ports in the site file (ports:).",
        "port-in-use",
    ),
    (
        r"No space left on device|ENOSPC",
        "a disk is full",
        "Free some space there, or write to another file system.",
        "disk-full",
    ),
    (
        r"Disk quota exceeded|EDQUOT",
        "your disk quota is used up",
        "Delete files that you no longer need, or ask the admin for a larger quota.",
        "disk-full",
    ),
    (
        r"built with.{0,40}PMI support|PMI2_Init failed|PMIX ERROR|orte_init failed"
        r"|ompi_mpi_init: ompi_rte_init failed|No PMIx server was reachable",
        "the MPI library does not work with srun's plugin",
        "Set the site's MPI plugin: mpi: in the site file (srun --mpi=list shows what srun "
        "has), or launch with mpirun.",
        "mpi",
    ),
    (
        r"Stalled ranks:|One or more tensors were submitted to be reduced",
        "some ranks waited for others that did not take part in an operation",
        "Every rank must run the same steps. Look at the log of the rank that is missing.",
        "stalled-ranks",
    ),
    (
        r"Extension horovod\S+ has not been built|HorovodInternalError"
        r"|Horovod has not been initialized",
        "Horovod does not work in this environment",
        "Build it there with MPI and for this TensorFlow (HOROVOD_WITH_MPI=1), or let hpctf build "
        "the environment: leave --python out.",
        "horovod",
    ),
    (
        r"UnavailableError|grpc_status:14|StatusCode\.UNAVAILABLE|failed to connect to all "
        r"addresses|Connection reset by peer|Socket closed",
        "it lost the connection to another rank",
        "Look at the log of the rank that ended first: it says why.",
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
        "Change the file's permissions, or use another path.",
        "permission-denied",
    ),
    (
        r"[Ee]xec format error",
        "a program cannot run on the node's kind of machine",
        "Check that it was built for this architecture, and that a script begins with #!.",
        "cannot-start",
    ),
    (
        r"FileNotFoundError: .*?'([^']+)'|(\S+): No such file or directory",
        "it looked for {1}, which does not exist on the node",
        "Nodes see only the shared file system and the snapshot of the source folder. Pass data "
        "with --input, and use full paths.",
        "file-not-found",
    ),
    (
        r"^(?:IndentationError|TabError|SyntaxError): (.+)",
        "the script is not valid Python: {1}",
        "Run it once on the login node to see the error.",
        "syntax-error",
    ),
    (
        r"(\S+): (?:command )?not found",
        "the program {1} was not found on the node",
        "Use its full path.",
        "cannot-start",
    ),
    (
        r"Bus error|SIGBUS",
        "it used memory that no longer exists, as with a full /dev/shm or a truncated file",
        "Check /dev/shm, and the files that it maps.",
        "crash",
    ),
    (
        r"[Ss]egmentation fault|SIGSEGV",
        "a library crashed (segmentation fault)",
        "Check that the versions of TensorFlow, CUDA, MPI and Horovod match.",
        "crash",
    ),
    (
        r"Unable to create step for job|Job credential expired|Communication connection failure"
        r"|Task launch for StepId=\S+ failed",
        "Slurm could not start its step on the nodes",
        "Submit the run again.",
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
        "Choose other nodes (--sbatch constraint=...), or install a build for this processor.",
        "crash",
    ),
    6: Symptom(
        "a library aborted",
        "The last lines of its log say why.",
        "crash",
    ),
    7: Symptom(
        "it used memory that no longer exists, as with a full /dev/shm (bus error)",
        "Check /dev/shm, and the files that it maps.",
        "crash",
    ),
    9: Symptom(
        "it was killed, most often by the kernel for lack of memory",
        "If it needs more memory, request it: --mem.",
        "out-of-memory",
    ),
    11: Symptom(
        "a library crashed (segmentation fault)",
        "Check that the versions of TensorFlow, CUDA, MPI and Horovod match.",
        "crash",
    ),
}
_CODES = {
    126: Symptom(
        "its program exists, but cannot be run",
        "Check that it is executable, and built for the node's machine.",
        "cannot-start",
    ),
    127: Symptom(
        "its program, or the interpreter that it names, does not exist on the node",
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
