"""What is shown of a log after a failure: the failure. ``logs/`` are from real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctf.run_folder.failure_lines import failure_lines, headline, is_of_another
from hpctf.run_folder.rank_states import RankState, tell_failure

LOGS = Path(__file__).with_name("logs")
NOISE = (
    "oneDNN",
    "InitializeLog",
    "cpu_feature_guard",
    "To enable the following",
    "terminated norm",
)
TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "train.py", line 3, in <module>',
    "    f()",
]

ON_GPU_MACHINES = """\
2024-08-01 12:00:00.000000: I tensorflow/tsl/cuda/cudart_stub.cc:28] Could not find cuda drivers \
on your machine, GPU will not be used.
2024-08-01 12:00:00.100000: E external/local_xla/xla/stream_executor/cuda/cuda_dnn.cc:9261] Unable \
to register cuDNN factory: Attempting to register factory for plugin cuDNN when one has already
2024-08-01 12:00:00.200000: W tensorflow/compiler/tf2tensorrt/utils/py_utils.cc:38] TF-TRT \
Warning: Could not find TensorRT
E0000 00:00:1796039262.568305   25503 cuda_dnn.cc:8310] Unable to register cuDNN factory: Attempting
W0000 00:00:1796039262.568305   25503 computation_placer.cc:177] \
computation placer already registered.
2024-08-01 12:00:01.000000: W tensorflow/core/common_runtime/gpu/gpu_device.cc:2256] Cannot dlopen \
some GPU libraries. Please make sure the missing libraries mentioned above are installed properly
Skipping registering GPU devices...
[n1:4711] mca_base_component_repository_open: unable to open mca_btl_openib: librdmacm.so.1: \
cannot open shared object file: No such file or directory (ignored)
--------------------------------------------------------------------------
WARNING: No preset parameters were found for the device that Open MPI
detected:

  Local host:            n1
--------------------------------------------------------------------------"""


def shown(name: str, limit: int = 20) -> list[str]:
    return failure_lines((LOGS / f"{name}.log").read_text().splitlines(), limit)


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ("tf2.15-fit", "ValueError: Data cardinality is ambiguous:"),
        ("tf2.21-fit", "ValueError: Data cardinality is ambiguous."),
        ("tf2.18-nan", "InvalidArgumentError: {{function_node __wrapped__CheckNumerics"),
        ("tf2.21-absl-fatal", "CRITICAL:absl:the data are gone"),
        ("tf2.15-collective-worker-1", "ValueError: row 3 has no label"),
        ("tf2.21-horovod-two-ranks", "ValueError: bad data in part 7"),
        ("tf2.21-abort-under-mpirun", "Signal: Aborted (6)"),
    ],
)
@pytest.mark.parametrize("limit", [20, 8])
def test_the_failure_is_shown_without_the_noise_before_it(log: str, says: str, limit: int) -> None:
    lines = shown(log, limit)

    assert any(says in line for line in lines)
    assert len(lines) <= limit
    if "abort" not in log:
        assert not any(noise in line for line in lines for noise in NOISE)
    if "Error:" in says:
        assert lines[0].startswith("Traceback") or lines[1] == ""
        assert says in headline((LOGS / f"{log}.log").read_text().splitlines())


def test_a_chained_exception_begins_with_the_line_of_its_cause() -> None:
    assert shown("tf2.15-collective-worker-1") == [
        "KeyError: 'label'",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        "Traceback (most recent call last):",
        '  File "/home/ada/col.py", line 12, in <module>',
        '    raise ValueError("row 3 has no label") from e',
        "ValueError: row 3 has no label",
    ]


def test_what_gpu_machines_and_open_mpi_say_at_every_start_is_no_failure() -> None:
    noise = ON_GPU_MACHINES.splitlines()

    assert failure_lines([*noise, "no data in /scratch"]) == ["no data in /scratch"]
    assert failure_lines([*noise, *TRACEBACK, "OSError: gone"])[-1] == "OSError: gone"


def test_of_the_ranks_of_a_run_the_one_that_raised_is_quoted(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    for index, name in enumerate(["tf2.18-horovod-rank-0", "tf2.21-fit"]):
        (logs / f"worker-{index}.log").write_text((LOGS / f"{name}.log").read_text())
    first = RankState("worker", 0, "Failed", "n1", 1, ended=1.0)
    second = RankState("worker", 1, "Canceled", "n2", 143, asked="term", ended=2.0)

    told = tell_failure(first, tmp_path, [first, second])

    assert told.startswith(
        "worker-0 on n1 failed with exit code 1. It ended because worker-1 on n2 had failed. "
        f"From {logs / 'worker-1.log'}:\n  Traceback"
    )
    assert "cardinality" in told
    assert "Horovod has been shut down" in tell_failure(first, tmp_path, [first])
    assert is_of_another(shown("tf2.15-collective-worker-0"))


def test_what_ended_no_process_is_passed_over() -> None:
    aside = ["Exception ignored in: <function Pool.__del__>", *TRACEBACK, "ResourceWarning: x"]

    assert failure_lines([*TRACEBACK, "ValueError: first", *aside])[3] == "ValueError: first"


def test_of_a_long_traceback_the_frames_of_libraries_go_first() -> None:
    frame = '  File "/e/lib/python3.11/site-packages/keras/src/x.py", line 7, in call'
    lines = [*TRACEBACK, *[frame, "    return call(x)", "    ^^^^"] * 40, "ValueError: first"]

    assert failure_lines(lines) == [*TRACEBACK, "  ...", "ValueError: first"]


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    lines = [*TRACEBACK, "ValueError: first", *map(str, range(99)), "and last"]

    assert "ValueError: first" in failure_lines(lines)
    assert failure_lines(lines)[-1] == "and last"
    assert len(failure_lines(lines)) == 20


def test_where_nothing_is_an_error_the_log_is_shown_as_it_ends() -> None:
    lines = [f"step {n}: mean_squared_error: 0.{n}" for n in range(30)]

    assert failure_lines(lines, 5) == lines[-5:]
    assert failure_lines([]) == []
    assert headline([]) == ""


def test_a_log_of_noise_alone_is_shown_as_it_ends() -> None:
    noise = ON_GPU_MACHINES.splitlines()

    assert failure_lines(noise, 3) == noise[-3:]


def test_what_the_launcher_says_is_shown_where_nothing_else_says_why() -> None:
    box = ["-" * 74, "MPI_ABORT was invoked on rank 3 in communicator MPI_COMM_WORLD", "-" * 74]

    assert box[1] in failure_lines(["epoch 1", *box])
    assert failure_lines([*TRACEBACK, "ValueError: 1", *box])[-1] == "ValueError: 1"
