"""kserve's own client, which has its own reading of the protocol."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hpctf import Webservice

CALLS = """
import asyncio, ssl, sys
import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

uri, certificate, token = sys.argv[1:]
context = ssl.create_default_context(cafile=certificate)
headers = {"authorization": f"Bearer {token}"}
whole = np.array([[1, 2], [3, -4]], np.int32)
texts = np.array(["ja", "zwölf"], dtype=object)

async def main():
    config = RESTConfig(protocol="v2", verify=context, retries=0)
    async with InferenceRESTClient(config) as client:
        assert await client.is_server_live(uri) and await client.is_server_ready(uri)
        assert await client.is_model_ready(uri, "several", headers=headers)
        assert not await client.is_model_ready(uri, "nobody", headers=headers)
        for binary in (True, False):
            inputs = [InferInput("whole", [2, 2], "INT32"), InferInput("texts", [2], "BYTES")]
            inputs[0].set_data_from_numpy(whole, binary_data=binary)
            inputs[1].set_data_from_numpy(texts, binary_data=binary)
            wanted = [RequestedOutput(n, {"binary_data": binary}) for n in ("halves", "again")]
            asked = InferRequest("several", inputs, request_id="7", request_outputs=wanted)
            found = await client.infer(uri, asked, "several", headers=dict(headers))
            assert (found.id, found.model_name) == ("7", "several")
            halves, again = found.outputs
            assert (halves.as_numpy().reshape(2, 2) == whole).all(), halves
            assert [getattr(t, "decode", lambda: t)() for t in again.as_numpy()] == list(texts)
        row = {"name": "x", "datatype": "FP32", "shape": [1, 64], "data": [0.5] * 64}
        found = await client.infer(uri, {"inputs": [row]}, "digits", headers=headers)
        assert found.outputs[0].as_numpy().shape == (1, 10)
        try:
            await client.infer(uri, {"inputs": []}, "digits", headers=headers)
        except httpx.HTTPStatusError as error:
            assert error.response.status_code == 400 and "needs input 'x'" in str(error), error
        else:
            raise AssertionError
    print("all is well")

asyncio.run(main())
"""


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="kserve has no release for Python 3.14")
def test_kserves_own_client_gets_its_answers(service: Webservice, clients_python: str) -> None:
    details = service.get_details()
    words = [details["uri"], details["certificate"], service.get_keys()[0]]
    done = subprocess.run([clients_python, "-c", CALLS, *words], capture_output=True, text=True)
    assert done.stdout == "all is well\n", done.stderr
