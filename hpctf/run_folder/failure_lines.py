"""The lines of a log that say why a process failed, without the noise around them.

TensorFlow, oneDNN, absl, CUDA, gRPC, Horovod and Open MPI write lines at every start, and more
about an end that they did not cause. The samples in ``tests/run_folder/logs`` are from real
processes.
"""

from __future__ import annotations

import re

LOOK_BACK = 1000
"""Lines at the end of a log that are searched for the failure."""

_TRACEBACK = re.compile(r"^\s*(?:\[rank \d+\] ?)?Traceback \(most recent call last\)")
_CHAINED = re.compile(
    r"^\s*(?:The above exception was the direct cause of the following exception|"
    r"During handling of the above exception, another exception occurred):"
)
_ASIDE = re.compile(r"^\s*(?:Exception ignored |Error in atexit|Error in sys\.|--- Logging error)")
"""Begins a traceback that ends no process."""

_ERROR = re.compile(
    r"(?<![\w-])(?:error|fatal|critical|panic|abort(?:ed|ing)|killed|segmentation fault|bus error|"
    r"illegal instruction|exception|terminate called|out of memory|no such file|cannot|could not|"
    r"command not found|permission denied|signal:)(?![\w-])",
    re.IGNORECASE,
)

_INFORMATION = re.compile(r"\d{4}-\d\d-\d\d [\d:.]+: I |I\d{4} [\d:.]+ +\d+ [\w.]+:\d+\] ")
_WARNING = re.compile(r"\d{4}-\d\d-\d\d [\d:.]+: [WE] |[WE]\d{4} [\d:.]+ +\d+ [\w.]+:\d+\] ")

_OF_START_UP = re.compile(
    # TensorFlow on a machine without (all of) CUDA, or with more of it than it needs
    r"Could not find cuda drivers|Could not load dynamic library|Cannot dlopen some GPU libraries|"
    r"Skipping registering GPU devices|Ignore above cudart dlerror|"
    r"Unable to register cu\w+ (?:factory|plugin)|computation placer already registered|"
    r"failed call to cuInit|could not open file to read NUMA node|successful NUMA node read|"
    r"TF-TRT Warning|retrieving CUDA diagnostic|kernel driver does not appear to be running|"
    r"(?:libcuda|kernel) reported version|kernel version seems to match|"
    r"Overriding orig_value setting because the TF_"
)
"""What TensorFlow warns of in processes that succeed."""

_PLAIN_NOISE = re.compile(
    r"WARNING: All log messages before absl::InitializeLog\(\)|"
    r"To enable the following instructions: |"
    r"Skipping registering GPU devices\.\.\.$|"
    r"Please make sure the missing libraries mentioned above|"
    r"\[[\w.-]+:\d+\] (?:mca_base_component_repository_open: unable to open|"
    r"\d+ more process(?:es)? ha(?:s|ve) sent help message|Set MCA parameter \"orte_base_help_agg|"
    r"Read -1, expected \d+, errno = |PMIX ERROR: (?:ERROR|NOT-FOUND) in file gds_)|"
    r"\[\d+\.\d+\] \[[\w.-]+:\d+:\d+\]\s+\w+\.c:\d+ +UCX +(?:WARN|INFO)"
)
_BOX_OF_START_UP = re.compile(
    r"No preset parameters were found for the device|error initializing an OpenFabrics device|"
    r"By default, for Open MPI 4\.0 and later, infiniband ports"
)

_BOX_OF_END = re.compile(
    r"Primary job +terminated normally|mpirun detected that one or more processes exited|"
    r"mpirun noticed that process rank|prterun (?:detected|noticed) that|"
    r"MPI_ABORT was invoked on rank"
)
_LAUNCHERS = re.compile(
    r"(?:srun|slurmstepd): (?:error: \S+ task \d+: (?:Exited|Terminated|Killed)|"
    r"Job step aborted|(?:error: )?\*\*\* STEP|Terminating StepId)"
)
"""What launchers say of a process that has ended: of no use where the process says why."""
_RULE = re.compile(r"-{60,}$")
_LONGEST_BOX = 30

_FRAME = re.compile(
    r"^  File \".*\", line \d+ in |^(?:Current thread|Thread) 0x|^Extension modules: |"
    r"^\s*@\s+0x|^#\d+ +0x|^\*\*\* (?:Begin|End) stack trace|^\[[\w.-]+:\d+\] \[ ?\d+\] |"
    r"^\[[\w.-]+:\d+\] \*\*\* (?:End of error message|Process received signal)|"
    r"^\t?(?:_?Py\w+|_start|clone|\(?\+?0x[0-9a-f]+\)?|_Z\w+|__libc_start_main\w*)(?:\+0x\w+)?$"
)
"""A line of a dump of the stack, by Python's faulthandler, TensorFlow, glibc or Open MPI: they come
after the sentence that says what was wrong, by the hundred."""

_OF_ANOTHER = re.compile(
    r"Horovod has been shut down|Collective ops is aborted by|"
    r"tasks are unhealthy \(stopped sending heartbeats\)|heartbeat timeout|"
    r"Connection reset by peer|Socket closed|failed to connect to all addresses|"
    r"CoordinationServiceError"
)
"""What a rank says that failed because another one was gone."""

_OF_LIBRARY = re.compile(r'^\s*File ".*/(?:site-packages|dist-packages|lib/python3\.\d+)/')
_PLACE = re.compile(r'^\s*File "')


def without_frames(lines: list[str]) -> list[str]:
    """Return lines without those of dumps of the stack."""
    return [line for line in lines if not _FRAME.match(line)]


def failure_lines(lines: list[str], limit: int = 20) -> list[str]:
    """Return at most `limit` lines that say why the process failed that wrote `lines`.

    They begin at the last exception, with the line of the one that caused it, or else at an error
    among the last lines, and go to the end. Start-up noise and dumps of the stack are left out; of
    a long traceback, the frames of libraries. A log that holds nothing else is returned as it ends.
    """
    rest = _without_noise(lines)
    own = _without_endings(rest)
    exception = _deciding_exception(own)
    if exception:
        return _shortened(exception, limit)
    for last in (own[-limit:], rest[-limit:]):
        for number, line in enumerate(last):
            if _ERROR.search(line):
                return last[number:]
    return (rest or lines)[-limit:]


def headline(lines: list[str]) -> str:
    """Return the line that says most of a failure, ``ValueError: no such data``, or nothing."""
    rest = failure_lines(lines)
    for number in range(len(rest) - 1, -1, -1):
        if _TRACEBACK.match(rest[number]):
            return rest[_after_frames(rest, number)].strip()
    said = [line.strip() for line in rest if line.strip() and not _RULE.match(line)]
    return next((line for line in said if _ERROR.search(line)), "".join(said[-1:]))


def is_of_another(lines: list[str]) -> bool:
    """Return whether a failure's lines say only that another rank was gone."""
    return any(_OF_ANOTHER.search(line) for line in lines if not _WARNING.match(line))


def holds_exception(lines: list[str]) -> bool:
    """Return whether Python has printed an exception that ended the process, or a part of it."""
    return bool(_exceptions(lines))


def _without_noise(lines: list[str]) -> list[str]:
    kept: list[str] = []
    dropping = False
    for line in _without_boxes(without_frames(lines), _BOX_OF_START_UP):
        if _INFORMATION.match(line):
            dropping = True
        elif _WARNING.match(line):
            dropping = _OF_START_UP.search(line) is not None
        elif _PLAIN_NOISE.match(line):
            continue
        else:  # perhaps the second line of a message
            dropping = dropping and line.startswith(("/job:", "\t"))
        if not dropping:
            kept.append(line)
    while kept and not kept[-1].strip():
        kept.pop()
    return kept


def _without_endings(lines: list[str]) -> list[str]:
    """Leave out what launchers say of the end."""
    return [line for line in _without_boxes(lines, _BOX_OF_END) if not _LAUNCHERS.match(line)]


def _without_boxes(lines: list[str], words: re.Pattern[str]) -> list[str]:
    """Leave out what Open MPI says between two rules, where it holds `words`."""
    kept: list[str] = []
    number = 0
    while number < len(lines):
        end = number
        if _RULE.match(lines[number]):
            inside = range(number + 1, min(number + _LONGEST_BOX, len(lines)))
            end = next((n for n in inside if _RULE.match(lines[n])), number)
        box = lines[number : end + 1]
        if not any(words.search(line) for line in box):
            kept += box[:1]
            end = number
        number = end + 1
    return kept


def _deciding_exception(lines: list[str]) -> list[str]:
    """Return the last exception with all that follows, or, of several ranks' in one log, the last
    that does not only say that another rank was gone."""
    starts = _exceptions(lines)
    if not starts or not is_of_another(lines[starts[-1] :]):
        return lines[starts[-1] :] if starts else []
    for number in range(len(starts) - 2, -1, -1):
        before = lines[starts[number] : starts[number + 1]]
        if not is_of_another(before):
            return before
    return lines[starts[-1] :]


def _exceptions(lines: list[str]) -> list[int]:
    """Return where each exception begins; one with a cause, at the line of its cause."""
    starts: list[int] = []
    for number, line in enumerate(lines):
        if not _TRACEBACK.match(line):
            continue
        before = next((n for n in range(number - 1, -1, -1) if lines[n].strip()), None)
        if before is None:
            starts.append(number)
        elif _CHAINED.match(lines[before]) and starts:
            starts[-1] = _line_of_cause(lines, before)
        elif not _ASIDE.match(lines[before]):
            starts.append(number)
    return starts


def _line_of_cause(lines: list[str], chained: int) -> int:
    """Return where the exception's line begins that stands before ``The above exception ...``."""
    for number in range(chained - 1, -1, -1):
        if _TRACEBACK.match(lines[number]):
            return _after_frames(lines, number)
    return chained


def _after_frames(lines: list[str], traceback: int) -> int:
    """Return the number of the exception's own line; `traceback` is where its traceback begins."""
    while traceback < len(lines) and not _TRACEBACK.match(lines[traceback]):
        traceback += 1
    if traceback == len(lines):
        return 0
    indent = len(lines[traceback]) - len(lines[traceback].lstrip())
    for number in range(traceback + 1, len(lines)):
        line = lines[number]
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            return number
    return len(lines) - 1


def _shortened(lines: list[str], limit: int) -> list[str]:
    """Return lines without the frames of libraries, and then without some in the middle."""
    if len(lines) > limit:
        lines = _without_library_frames(lines)
    if len(lines) <= limit:
        return lines
    head = limit // 3
    return [*lines[:head], "...", *lines[len(lines) - (limit - head - 1) :]]


def _without_library_frames(lines: list[str]) -> list[str]:
    kept: list[str] = []
    indent: int | None = None
    for line in lines:
        own = len(line) - len(line.lstrip())
        if _PLACE.match(line):
            indent = own if _OF_LIBRARY.match(line) else None
        elif indent is not None and own <= indent and line.strip("\t ^~"):
            indent = None
        if indent is None:
            kept.append(line)
        elif kept[-1].strip() != "...":
            kept.append(" " * indent + "...")
    return kept
