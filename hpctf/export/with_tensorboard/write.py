"""Writes TensorBoard's event files from lines of JSON: a script for a Python that has TensorBoard.

It runs with the Python in which TensorBoard was found, which need not be hpctf's: Python 3.8, and
of TensorBoard its protocol buffers and its writer of records alone: neither loads TensorFlow. A
line holds ``folder``, ``tag``, ``step``, ``time``, and a ``value`` or an ``image`` (its
bytes in base64). An empty line has all files flushed, and is answered by one.
"""

import base64
import json
import os
import struct
import sys
import time
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

_PNG = b"\x89PNG\r\n\x1a\n"


def main() -> None:
    files: dict[str, Any] = {}
    for line in sys.stdin:
        if line.strip():
            _write(files, json.loads(line))
            continue
        for writer in files.values():
            writer.flush()
        print(flush=True)
    for writer in files.values():
        writer.close()


def _write(files: dict[str, Any], point: dict[str, Any]) -> None:
    folder = point["folder"]
    if folder not in files:
        os.makedirs(folder, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.hpctf.{os.getpid()}"
        stream = open(os.path.join(folder, name), "wb")  # noqa: SIM115  (open as long as we run)
        files[folder] = RecordWriter(stream)
        first = Event(wall_time=point["time"], file_version="brain.Event:2")
        files[folder].write(first.SerializeToString())
    summary = Summary(value=[_value(point)])
    event = Event(wall_time=point["time"], step=point["step"], summary=summary)
    files[folder].write(event.SerializeToString())


def _value(point: dict[str, Any]) -> Any:
    if "value" in point:
        return Summary.Value(tag=point["tag"], simple_value=point["value"])
    data = base64.b64decode(point["image"])
    width, height = struct.unpack(">II", data[16:24]) if data.startswith(_PNG) else (0, 0)
    image = Summary.Image(encoded_image_string=data, width=width, height=height, colorspace=3)
    return Summary.Value(tag=point["tag"], image=image)


if __name__ == "__main__":
    main()
