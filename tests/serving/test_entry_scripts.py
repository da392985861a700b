"""Entry scripts of Azure ML: init(), run(data), and what becomes of those that fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hpctf import InferenceConfig, Webservice
from hpctf.errors import ServiceError, UsageError
from hpctf.serving.client import Client
from hpctf.serving.entry.script import Script
from hpctf.site.model import Site
from hpctf.webservice import deploy_service
from tests.support.built import SITE
from tests.support.waiting import HANGS_S, wait_until

SCORE = """
import json, os, sys, time

from azureml.core.model import Model
from script import double

def init():
    path = Model.get_model_path("digits")
    assert os.path.samefile(path, os.path.join(os.environ["AZUREML_MODEL_DIR"], "digits.onnx"))
    print("init was called", flush=True)

def run(data, request_headers):
    asked = json.loads(data)
    if "sleep" in asked:
        time.sleep(asked["sleep"])
    if "exit" in asked:
        os._exit(7)
    if "raise" in asked:
        raise ValueError(asked["raise"])
    if "odd" in asked:
        return object()
    assert "Authorization" not in request_headers
    return {"twice": double(asked["numbers"]), "kind": request_headers["Content-Type"]}
"""


@pytest.fixture(scope="module")
def scored(
    deployed: Callable[..., Webservice], tmp_path_factory: pytest.TempPathFactory
) -> Webservice:
    folder = tmp_path_factory.mktemp("source")
    (folder / "score.py").write_text(SCORE)
    (folder / "script.py").write_text("def double(numbers): return [2 * one for one in numbers]\n")
    return deployed("scored", ("digits",), InferenceConfig("score.py", folder, timeout_s=5.0))


def call(service: Webservice, body: bytes) -> tuple[int, str]:
    answer = Client(service.folder).call("POST", "/score", body)
    return answer.status, answer.body.decode()


def test_run_gets_the_body_and_what_it_returns_is_json(scored: Webservice) -> None:
    found = scored.run(json.dumps({"numbers": [1, 2.5]}))
    assert found == {"twice": [2, 5.0], "kind": "application/json"}
    assert "init was called" in scored.get_logs()


def test_what_run_raises_is_in_the_log_and_the_next_request_is_answered(
    scored: Webservice,
) -> None:
    """What clients see: test_azureml_server."""
    with pytest.raises(ServiceError, match="answered 500: An unexpected error occurred in scoring"):
        scored.run({"raise": "no such thing"})
    assert "ValueError: no such thing" in scored.get_logs()
    assert scored.run({"numbers": [3]})["twice"] == [6]


@pytest.mark.parametrize(("asked", "status"), [({"exit": 1}, 502), ({"sleep": 600}, 500)])
def test_a_script_that_ends_or_hangs_is_started_again(
    scored: Webservice, asked: dict[str, int], status: int
) -> None:
    assert call(scored, json.dumps(asked).encode())[0] == status

    def is_back() -> bool:
        client = Client(scored.folder)
        headers = {"content-type": "text/plain"}
        return client.call("POST", "/score", b'{"numbers": [3]}', headers).status == 200

    wait_until(is_back)
    assert scored.state == "ready"


RAW = """
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse

@rawhttp
def run(request):
    assert isinstance(request, AMLRequest)
    return AMLResponse(request.data[::-1], 200, {"Content-Type": "image/png"})
"""


def test_a_script_of_the_sdks_first_years_gets_its_raw_requests(
    deployed: Callable[..., Webservice], tmp_path: Path
) -> None:
    (tmp_path / "score.py").write_text(RAW)
    service = deployed("raw", (), InferenceConfig(str(tmp_path / "score.py")))
    answer = service.call("POST", "/score", b"\x00PNG")
    assert (answer.body, answer.headers["content-type"]) == (b"GNP\x00", "image/png")
    assert service.call("GET", "/").body == b"Healthy"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("def init(): pass", "has no function run"),
        ("def run(*data): pass", "cannot accept positional-only arguments"),
        ("def run(request_headers): pass", "needs to accept an argument for input data"),
        ("import nowhere", "No module named 'nowhere'"),
    ],
)
def test_a_script_that_nobody_can_call_is_refused_as_it_is_loaded(
    script: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / "score.py").write_text(script)
    with pytest.raises((AttributeError, TypeError, ImportError), match=words):
        Script(str(tmp_path / "score.py"))


def test_a_script_that_does_not_begin_is_a_service_that_failed(site: Site, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("def init(): raise KeyError('weights')\ndef run(data): 0\n")
    config = InferenceConfig(str(tmp_path / "score.py"))
    service = deploy_service("fails", [], config, site=site, runs_root=tmp_path / "runs")
    with pytest.raises(ServiceError, match="failed as it began: KeyError: 'weights'"):
        service.wait_for_deployment(timeout_s=HANGS_S)
    assert service.state == "failed"
    with pytest.raises(UsageError, match=r"entry script 'nothing\.py' does not exist"):
        deploy_service("fails", [], InferenceConfig("nothing.py"), site=site)
    (tmp_path / "dead.py").symlink_to("gone.py")
    (tmp_path / "round.py").symlink_to("round.py")
    for name, said in {
        "dead.py": "is a link to 'gone.py'",
        "round.py": "links in its path",
    }.items():
        with pytest.raises(UsageError, match=f"{name}' .*{said}"):
            deploy_service("fails", [], InferenceConfig(name, tmp_path), site=site)
    nowhere = InferenceConfig(config.entry_script, environment="/no/python")
    with pytest.raises(UsageError, match="is not a Python"):
        deploy_service("fails", [], nowhere, overwrite=True, site=site, runs_root=tmp_path / "runs")


def test_a_script_written_for_azure_ml_deploys_and_calls_it(
    onnx_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    from hpctf.azureml.core import Environment, Model, Workspace
    from hpctf.azureml.core.model import InferenceConfig
    from hpctf.azureml.core.webservice import AciWebservice, LocalWebservice, Webservice

    monkeypatch.setenv("HPCTF_RUNS_ROOT", str(tmp_path / "runs"))
    (tmp_path / "score.py").write_text("def init(): pass\ndef run(data): return data[::-1]\n")
    ws = Workspace(site=str(SITE))
    model = Model.register(ws, str(onnx_files / "digits.onnx"), "digits")
    environment = Environment("mine")
    environment.python.user_managed_dependencies = True
    config = InferenceConfig(
        entry_script="score.py", source_directory=str(tmp_path), environment=environment
    )
    how = LocalWebservice.deploy_configuration()
    service = Model.deploy(ws, "reverse", [model], config, how)
    service.wait_for_deployment(show_output=True)
    try:
        assert (service.state, service.compute_type) == ("Healthy", "LOCAL")
        assert service.run(input_data='"abc"') == '"cba"'
        assert Webservice(ws, "reverse").scoring_uri == service.scoring_uri
        assert [one.name for one in Webservice.list(ws)] == [*ws.webservices] == ["reverse"]
        primary, _ = service.get_keys()
        service.regen_key("Primary")
        assert service.get_keys()[0] != primary
        with pytest.raises(UsageError, match=r"entry script 'nothing\.py' does not exist"):
            service.update(inference_config=InferenceConfig("nothing.py"))
    finally:
        service.delete()
    of_azure = AciWebservice.deploy_configuration(cpu_cores=0.5, memory_gb=1.5, auth_enabled=True)
    assert (of_azure.resources.cpus, of_azure.resources.mem) == (1, "1536M")
    with pytest.raises(UsageError, match="services run in none"):
        InferenceConfig("score.py", base_image="image")
