"""Services that are Slurm jobs: reached from another host, and handed over before a time limit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.support.built import CACHE, own_environment
from tests.support.onnx_models import CLASSES, UNITS
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slurm

CALLS = """
import json, sys, time
from hpctf import Webservice

service, data = Webservice("digits"), {"data": [[0.5] * 64]}
first = service.uri
calls, end = 0, time.monotonic() + 300
while service.uri == first and time.monotonic() < end:
    assert service.run(data)["result"]
    calls += 1
    time.sleep(0.05)
for _ in range(100):
    assert service.run(data)["result"]
print(json.dumps([calls, first, service.uri]))
"""


def test_a_job_serves_and_hands_over_to_the_next_before_its_time_limit(
    person: Person, onnx_files: Path
) -> None:
    own_environment("serving")
    site = {
        "name": "here",
        "extends": "slurm",
        "environments": {"store": str(CACHE / "environments")},
    }
    person.env["HPCTF_SITE"] = str(person.write("site.yaml", json.dumps(site)))
    shutil.copy(onnx_files / "digits.onnx", person.home / "digits.onnx")
    (person.home / "digits.onnx").chmod(0o644)
    person.hpctf("models", "register", "digits", "digits.onnx")
    said = person.hpctf("models", "deploy", "digits", "--time", "00:03:00", "--stay-up")
    assert "Service digits is ready: https://" in said.stderr
    said = person.hpctf("services", "logs", "digits")
    assert " s after its start" in said.stdout
    print(said.stdout)
    data = json.dumps({"data": [[0.5] * UNITS]})
    found = person.hpctf("services", "call", "digits", "--data", data).stdout
    assert len(json.loads(found)["result"][0]) == CLASSES
    script = person.write("calls.py", CALLS)
    python = str(person.bin / "python")
    done = person.cluster.run(
        python, script, user=person.user, cwd=person.home, env=person.env, check=False
    )
    assert done.returncode == 0, done.stderr
    calls, first, second = json.loads(done.stdout)
    assert calls > 10
    assert first != second
    person.hpctf("services", "stop", "digits")
    wait_until(lambda: not [line for line in person.cluster.queue() if "hpctf-service" in line])
    (listed,) = json.loads(person.hpctf("services", "list", "--json").stdout)
    assert listed["state"] == "stopped"
