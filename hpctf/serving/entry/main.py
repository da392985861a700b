"""The entry script's process: it answers the server's requests until the server has gone.

The first frame says that ``init()`` has returned; after that each has a request or its answer.
"""

import socket
import traceback

from .azureml_names import stand_in_for_azureml
from .frames import receive, send
from .requests import Request
from .script import Script


def serve(descriptor: int, path: str) -> None:
    """Call ``init()``, then ``run()`` for each frame, until the server closes the socket."""
    channel = socket.socket(fileno=descriptor)
    stand_in_for_azureml()
    try:
        script = Script(path)
        ready = {"ready": True, **script.schemas()}
    except BaseException as error:
        traceback.print_exc()
        send(channel, {"error": type(error).__name__ + ": " + str(error)[:500]})
        return
    send(channel, ready)
    while True:
        head, body = receive(channel)
        if head is None:
            return
        head["headers"] = [(name, value) for name, value in head["headers"]]
        answer = script.answer(Request(body=body, **head))
        send(channel, {"status": answer.status, "headers": answer.headers}, answer.body)
