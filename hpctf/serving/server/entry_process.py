"""What an entry script runs in: ``python entry_process.py FD SCRIPT``, with Python 3.8 or later and
its standard library alone.

Frames over the socket FD: the lengths of a JSON head and of a body, then these.
"""

import importlib.util
import inspect
import json
import os
import socket
import struct
import sys
import traceback
from types import ModuleType
from typing import Any, Callable, Dict, List, Tuple

LENGTHS = "<QQ"

_BLOCK = 1 << 20


def main(descriptor: int, script: str) -> None:
    """Call ``init()``, then ``run()`` for each frame, until the server closes the socket."""
    channel = socket.socket(fileno=descriptor)
    sys.path.insert(0, os.getcwd())
    stand_in_for_azureml()
    try:
        call = load(script)
    except BaseException as error:
        traceback.print_exc()
        send(channel, {"error": in_words(error)})
        return
    send(channel, {"ready": True})
    while True:
        head, body = receive(channel)
        if head is None:
            return
        try:
            send(channel, {}, call(body, head["headers"]))
        except UnicodeDecodeError:
            send(channel, {"status": 400, "error": "The body is not UTF-8."})
        except Exception as error:
            traceback.print_exc()
            send(channel, {"status": 502, "error": "run() failed: " + in_words(error)})


def load(script: str) -> Callable[[bytes, Dict[str, str]], bytes]:
    """Import the script, call its ``init()``, and return what calls its ``run()``."""
    name = os.path.splitext(os.path.basename(script))[0]
    spec = importlib.util.spec_from_file_location(name, script)
    if spec is None or spec.loader is None:
        raise ImportError(script + " is not a Python script")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    run = getattr(module, "run", None)
    if not callable(run):
        raise AttributeError(script + " has no function run(data)")
    init = getattr(module, "init", None)
    if init is not None:
        init()
    wants_headers = "request_headers" in inspect.signature(run).parameters
    by_name = has_schema(run)

    def call(body: bytes, headers: Dict[str, str]) -> bytes:
        more: Dict[str, Any] = {"request_headers": headers} if wants_headers else {}
        text = body.decode("utf-8")
        answer = run(**json.loads(text), **more) if by_name else run(text, **more)
        return json.dumps(answer).encode()

    return call


def has_schema(run: Any) -> bool:
    """Return whether ``inference_schema`` has decorated a function: it takes JSON's values."""
    util = sys.modules.get("inference_schema.schema_util")
    return util is not None and bool(util.is_schema_decorated(run))


def stand_in_for_azureml() -> None:
    """Let ``from azureml.core.model import Model`` give the one function that entry scripts need,
    where Azure ML's own package is not installed."""
    if importlib.util.find_spec("azureml") is not None:
        return
    azureml, core, model = map(ModuleType, ("azureml", "azureml.core", "azureml.core.model"))
    for module in (azureml, core):
        vars(module)["__path__"] = []
    for module in (core, model):
        vars(module)["Model"] = Model
    vars(azureml)["core"] = core
    vars(core)["model"] = model
    sys.modules.update({module.__name__: module for module in (azureml, core, model)})


class Model:
    """Azure ML's name for what is registered."""

    @staticmethod
    def get_model_path(model_name: str, version: Any = None, _workspace: Any = None) -> str:
        """Return where the file or folder of a model that is deployed lies."""
        root = os.environ["HPCTF_ENTRY_MODELS"]
        folder = os.path.join(root, model_name)
        known: List[str] = sorted(os.listdir(folder), key=int) if os.path.isdir(folder) else []
        wanted = known[-1:] if version is None else [str(version)]
        if not set(wanted) <= set(known) or not known:
            raise LookupError("Model " + model_name + " is not deployed with this service")
        folder = os.path.join(folder, wanted[0])
        return os.path.join(folder, *os.listdir(folder)[:1])


def in_words(error: BaseException) -> str:
    """Return an exception as a line."""
    return type(error).__name__ + ": " + str(error)[:500]


def send(channel: socket.socket, head: Dict[str, Any], body: bytes = b"") -> None:
    """Send a frame."""
    text = json.dumps(head).encode()
    channel.sendall(struct.pack(LENGTHS, len(text), len(body)) + text)
    channel.sendall(body)


def receive(channel: socket.socket) -> Tuple[Any, bytes]:
    """Return a frame; no head once the server has gone."""
    lengths = exactly(channel, struct.calcsize(LENGTHS))
    if not lengths:
        return None, b""
    head, body = struct.unpack(LENGTHS, lengths)
    return json.loads(exactly(channel, head)), exactly(channel, body)


def exactly(channel: socket.socket, size: int) -> bytes:
    """Return so many bytes; none if the server has gone."""
    parts = []
    while size:
        part = channel.recv(min(size, _BLOCK))
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
