"""Services are deployed, found, called, handed over and stopped."""

from __future__ import annotations

import json
import os
import platform
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpctf import LocalWebservice, Model, SlurmWebservice, UsageError, Webservice
from hpctf.common.files import read_json, write_json
from hpctf.common.processes import start_time
from hpctf.common.units import time_text
from hpctf.errors import RunFolderError, ServiceError, UntrustedPath
from hpctf.serving.client import Client
from hpctf.serving.deploy import Deployment
from hpctf.serving.instance import read_orders, read_state
from hpctf.serving.launch import JOB, Job, job_plan
from hpctf.serving.record import Definition, ServiceFolder, check_service_name
from hpctf.serving.status import statuses_of
from hpctf.site.model import Site, Target
from hpctf.submission.script import render
from tests.conftest import ROOT
from tests.support.built import SITE, own_environment
from tests.support.onnx_models import CLASSES, UNITS
from tests.support.projects import hpctf
from tests.support.waiting import HANGS_S, wait_until

DATA = {"data": [[0.5] * UNITS]}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs, models and services of one test lie."""
    monkeypatch.setenv("HPCTF_SITE", str(SITE))
    monkeypatch.setenv("HPCTF_RUNS_ROOT", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def digits(deployed: Callable[..., Webservice]) -> Webservice:
    return deployed("digits", ("digits",), drain_s=1.0)


def test_a_service_is_its_owners_alone(digits: Webservice) -> None:
    assert stat.S_IMODE(digits.folder.path.stat().st_mode) == 0o700
    details = digits.get_details()
    private = [digits.folder.tokens, Path(details["certificate"]).with_name("key.pem")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    process = Path(f"/proc/{details['pid']}")
    for secret in digits.get_keys():
        assert len(secret) > 40
        for file in ("cmdline", "environ"):
            assert secret.encode() not in (process / file).read_bytes()
        assert secret not in digits.get_logs()
    assert details["uri"].startswith("https://127.0.0.1:")


def test_only_whoever_has_a_token_is_answered(digits: Webservice) -> None:
    client = Client(digits.folder)
    primary, secondary = digits.get_keys()

    def status(authorization: str) -> int:
        headers = {"authorization": authorization}
        return client.call("POST", "/score", json.dumps(DATA).encode(), headers).status

    for wrong in ("", "Bearer", "Bearer x", f"Basic {primary}", f"Bearer {primary}x", "Bearer é"):
        assert status(wrong) == 401
    assert [status(f"Bearer {key}") for key in (primary, secondary)] == [200, 200]
    for path in ("/metrics", "/swagger.json", "/v2", "/nothing"):
        assert client.call("GET", path, headers={"authorization": "Bearer x"}).status == 401

    digits.regen_key("Secondary")
    assert digits.get_keys()[0] == primary
    wait_until(lambda: status(f"Bearer {secondary}") == 401)
    assert status(f"Bearer {digits.get_keys()[1]}") == status(f"Bearer {primary}") == 200
    with pytest.raises(UsageError, match="'primary' or 'secondary'"):
        digits.regen_key("third")
    with pytest.raises(UsageError, match="20 or more"):
        digits.regen_key("primary", "short")


def test_curl_calls_it_as_the_page_says(digits: Webservice) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    details = digits.get_details()
    header = f'header = "authorization: Bearer {digits.get_keys()[0]}"\n'
    words = ["--cacert", details["certificate"], "--config", "-", "--data", json.dumps(DATA)]
    done = subprocess.run(
        ["curl", "--silent", "--show-error", *words, digits.scoring_uri],
        input=header,
        capture_output=True,
        text=True,
    )
    assert len(json.loads(done.stdout)["result"][0]) == CLASSES, done.stderr


def test_another_server_at_its_address_gets_no_token(digits: Webservice, tmp_path: Path) -> None:
    """Whoever takes the port after the service has its own certificate."""
    copy = ServiceFolder(tmp_path / "digits")
    shutil.copytree(digits.folder.path, copy.path, symlinks=True)
    state = copy.path / "current/state.json"
    state.write_text(json.dumps({**read_json(state), "fingerprint": "0" * 64}))
    with pytest.raises(ServiceError, match="is not service digits: its certificate"):
        Client(copy).call("GET", "/v2")


def test_a_server_that_takes_over_while_the_client_looks_is_the_service(
    digits: Webservice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = ServiceFolder(tmp_path / "digits")
    shutil.copytree(digits.folder.path, copy.path, symlinks=True)
    old = copy.servers()[-1]
    new = old.with_name(f"{int(old.name) + 1}")
    shutil.copytree(old, new)
    state = old / "state.json"
    state.write_text(json.dumps({**read_json(state), "fingerprint": "0" * 64}))
    looks = iter([old, old])  # at its record, and once its certificate is another one
    monkeypatch.setattr("hpctf.serving.client.current", lambda path: next(looks, new))
    assert Client(copy).call("GET", "/v2").status == 200


def test_a_service_is_handed_over_without_a_failed_request(digits: Webservice) -> None:
    """The old server leaves once nobody follows it."""
    stops = threading.Event()
    whole: list[int] = []
    first = read_state(digits.folder.servers()[-1])
    assert first.pid is not None

    def call_on() -> None:
        mine = Client(digits.folder)
        while not stops.is_set():
            assert mine.call("POST", "/score", json.dumps(DATA).encode()).status == 200
        mine.close()
        whole.append(1)

    threads = [threading.Thread(target=call_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    digits.update()
    digits.wait_for_deployment(timeout_s=HANGS_S)
    wait_until(lambda: start_time(first.pid or 0) != first.start_time)
    stops.set()
    for thread in threads:
        thread.join()
    assert len(whole) == len(threads), "a request failed"
    assert read_state(digits.folder.servers()[0]).state == "stopped"
    assert digits.uri != first.uri
    assert digits.state == "ready"


def test_an_update_that_fails_changes_nothing(digits: Webservice, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    model = Model.register(broken, "digits", models_root=tmp_path / "models", site=str(SITE))
    before = digits.uri
    digits.update([model])
    with pytest.raises(ServiceError, match="onnxruntime does not load model digits:1"):
        digits.wait_for_deployment(timeout_s=HANGS_S)
    assert (digits.state, digits.uri) == ("ready", before)
    assert digits.folder.definition().models["digits:1"] != str(model.folder.path)
    assert digits.run(DATA)


def test_commands_deploy_call_and_stop(root: Path, onnx_files: Path, tmp_path: Path) -> None:
    env = {"HPCTF_SITE": str(SITE), "HPCTF_RUNS_ROOT": str(root)}

    def command(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = hpctf(*words, cwd=tmp_path, env=env)
        assert done.returncode == code, done.stderr
        return done

    command("models", "register", "Digits_2", onnx_files / "digits.onnx")
    unused = ("--time", "4:00:00", "--mem", "2G", "--cpus-per-task", "2", "--sbatch", "qos=long")
    unknown = command("models", "deploy", "Digits_2", "--target", "gpus", code=2)
    assert "has no compute target 'gpus'" in unknown.stderr
    said = command("models", "deploy", "Digits_2", *unused)
    for what in ("A time limit", "An amount of memory", "A number of CPUs", "--sbatch qos"):
        assert f"{what} has no effect: the service is on this machine" in said.stderr
    try:
        assert said.stdout == "digits-2\n"
        assert "Service digits-2 is ready: https://127.0.0.1:" in said.stderr
        again = command("models", "deploy", "Digits_2", code=2)
        assert "There is a service digits-2 already" in again.stderr
        (listed,) = json.loads(command("services", "list", "--json").stdout)
        assert (listed["state"], listed["models"]) == ("ready", ["Digits_2:1"])
        assert "digits-2" in command("services", "list").stdout
        (tmp_path / "data.json").write_text(json.dumps(DATA))
        found = command("services", "call", "digits-2", "--data", "@data.json").stdout
        assert len(json.loads(found)["result"][0]) == CLASSES
        refused = command("services", "call", "digits-2", "--data", "{}", code=3)
        assert "answered 400: The body must be" in refused.stderr
        assert "Ready at https://" in command("services", "logs", "digits-2").stdout
        assert command("services", "tunnel", "digits-2").stdout.startswith("ssh -N -L 8443:127.0.")
    finally:
        command("services", "stop", "digits-2")
    assert json.loads(command("services", "list", "--json").stdout)[0]["state"] == "stopped"
    assert "https://" not in command("services", "list").stdout
    for words in (["call", "digits-2", "--path", "v2"], ["tunnel", "digits-2"]):
        assert "Service digits-2 is stopped" in command("services", *words, code=3).stderr
    command("services", "stop", "--remove", "digits-2")
    assert command("services", "list", "--json").stdout == "[]\n"
    assert "no service 'digits-2'" in command("services", "logs", "digits-2", code=2).stderr


def test_slurm_is_asked_once_for_all_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm is a fake that counts."""
    asked: list[list[str]] = []

    class Counts:
        def __init__(self, cluster: str | None, answers: object = None) -> None:
            assert cluster is None

        def query(self, jobs: dict[str, object]) -> dict[str, object]:
            asked.append(sorted(jobs))
            return {"2": SimpleNamespace(active=True, state="PENDING")}

    monkeypatch.setattr("hpctf.serving.status.Slurm", Counts)
    services = []
    for number in (1, 2, 3):
        service = ServiceFolder(tmp_path / f"service-{number}")
        service.path.mkdir()
        server = service.new_server()
        job = Job(job_id=str(number), submitted=0.0 if number == 1 else time.time())
        write_json(server / JOB, asdict(job))
        services.append(service)
    assert [status.state for status in statuses_of(services)] == ["gone", "waiting", "waiting"]
    assert asked == [["1", "2", "3"]]


def test_a_killed_server_is_gone_and_may_be_replaced(
    root: Path, onnx_files: Path, site: Site
) -> None:
    Model.register(onnx_files / "digits.onnx", "digits", site=site)
    service = Model.deploy("digits", ["digits"], site=site)
    service.wait_for_deployment(timeout_s=HANGS_S)
    os.kill(service.get_details()["pid"], 9)
    wait_until(lambda: service.state == "gone")
    with pytest.raises(ServiceError, match="is gone"):
        service.run(DATA)
    again = Model.deploy("digits", ["digits"], site=site)
    again.wait_for_deployment(timeout_s=HANGS_S)
    assert again.run(DATA)
    again.delete()
    assert not again.folder.path.exists()


@pytest.mark.parametrize("where", ["here", "on the server"])
def test_a_model_that_others_may_write_is_not_loaded(
    where: str, root: Path, onnx_files: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.register(onnx_files / "digits.onnx", "digits", site=site)
    (model.folder.path / "files/digits.onnx").chmod(0o666)
    if where == "here":
        with pytest.raises(UntrustedPath, match="can be written by everybody"):
            Model.deploy("digits", [model], site=site)
        assert not Webservice.list(site=site)
        return
    monkeypatch.setattr("hpctf.serving.deploy.check_tree", lambda *args: None)
    service = Model.deploy("digits", [model], site=site)
    with pytest.raises(ServiceError, match="can be written by everybody"):
        service.wait_for_deployment(timeout_s=HANGS_S)
    assert service.state == "failed"


def test_what_cannot_be_served_is_refused_and_nothing_is_left(
    root: Path, onnx_files: Path, site: Site, tmp_path: Path
) -> None:
    (tmp_path / "model.keras").write_text("keras")
    model = Model.register(tmp_path / "model.keras", "keras", site=site)
    other = Model.register(onnx_files / "digits.onnx", "digits", site=site)
    with pytest.raises(UsageError, match=r"is not an ONNX model: model\.keras"):
        Model.deploy("keras", [model], site=site)
    with pytest.raises(UsageError, match="3 to 32 small letters"):
        Model.deploy("No Name", [other], site=site)
    with pytest.raises(UsageError, match="Name a model"):
        Model.deploy("nothing", [], site=site)
    with pytest.raises(UsageError, match="one version of a model"):
        Model.deploy("twice", [other, other], site=site)
    stays_up = SlurmWebservice.deploy_configuration(stay_up=True)
    with pytest.raises(UsageError, match="before the time limit"):
        Model.deploy("stays-up", [other], deployment_config=stays_up, site=site)
    limited = replace(stays_up, resources=replace(stays_up.resources, time_s=3600), port=8443)
    with pytest.raises(UsageError, match="--stay-up cannot keep port 8443"):
        Model.deploy("one-port", [other], deployment_config=limited, site=on_slurm(site))
    assert not (root / ".services").exists()


def test_of_two_who_deploy_a_service_at_once_one_does(
    root: Path, onnx_files: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No server starts: nobody would know of the other one's."""
    model = Model.register(onnx_files / "digits.onnx", "digits", site=site)
    both, came = threading.Barrier(2, timeout=HANGS_S), []
    started: list[Path] = []
    monkeypatch.setattr("hpctf.serving.deploy.own_python", lambda *_: both.wait())
    monkeypatch.setattr(
        "hpctf.serving.deploy.start_server", lambda service, server, _: started.append(server)
    )

    def deploy() -> None:
        try:
            Model.deploy("twins", [model], site=site)
            came.append("")
        except UsageError as error:
            came.append(error.message)

    for count in (1, 2):  # the second time in the place of a service that has ended
        threads = [threading.Thread(target=deploy) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(came) == ["", "There is a service twins already."]
        assert len(started) == count and started[-1].is_dir()
        came.clear()
    assert [path.name for path in (root / ".services").iterdir()] == ["twins"]


def on_slurm(site: Site) -> Site:
    return replace(site, scheduler="slurm", name="here")


def test_what_lies_beside_hpctf_is_not_what_a_server_imports(
    digits: Webservice, tmp_path: Path
) -> None:
    """hpctf's own Python may be another one, with a numpy of its own."""
    (tmp_path / "hpctf").symlink_to(ROOT / "hpctf")
    (tmp_path / "numpy.py").write_text("raise SystemExit('the numpy beside hpctf')")
    orders = read_orders(digits.folder.servers()[0])
    replace(orders, folder=str(tmp_path), models=(str(tmp_path / "gone/7"),)).write()
    start = tmp_path / "hpctf/serving/server/start.py"
    python = digits.folder.definition().python
    done = subprocess.run([python, "-I", start, tmp_path], capture_output=True, text=True)
    assert "the numpy beside hpctf" not in done.stderr
    assert read_state(tmp_path).state == "failed", done.stderr


def test_names_are_azure_mls() -> None:
    for name in ("abc", "a" * 32, "a-1"):
        assert check_service_name(name) == name
    for name in ("ab", "a" * 33, "Abc", "1abc", "abc-", "a_b", "../x", ""):
        with pytest.raises(UsageError, match="3 to 32"):
            check_service_name(name)


def test_a_damaged_record_is_said(digits: Webservice, tmp_path: Path) -> None:
    copy = ServiceFolder(tmp_path / "digits")
    shutil.copytree(digits.folder.path, copy.path, symlinks=True)
    (copy.path / "current/service.json").write_text("{")
    with pytest.raises(RunFolderError, match="Cannot read service digits"):
        copy.definition()
    copy.tokens.write_text("[]")
    with pytest.raises(RunFolderError, match="Cannot read the tokens"):
        copy.keys()


def test_its_job_asks_for_what_is_said_and_runs_in_its_own_environment(digits: Webservice) -> None:
    definition = digits.folder.definition()
    asked = SlurmWebservice.deploy_configuration(time_s=3600, cpu_cores=2, memory="4G").resources
    of_slurm = {**definition.site, "scheduler": "slurm", "name": "here"}
    definition = replace(definition, site=of_slurm, resources=vars(asked))
    script = render(job_plan(Path("/shared/a b"), definition))
    for option in (f"time={time_text(3600)}", "cpus-per-task=2", "mem=4G", "signal=B:TERM@30"):
        assert f"#SBATCH --{option}\n" in script
    assert f"exec {definition.python} -I " in script
    assert script.endswith("/serving/server/start.py '/shared/a b'\n")


GPUS = {"default": Target(gpus=0), "fast": Target(gpus=4, gpu_type="a100")}


@pytest.mark.parametrize(
    ("target", "use_gpu", "options", "environment"),
    [
        ("fast", None, ["gpus-per-node=a100:1"], "serving-gpu"),
        ("fast", False, [], "serving"),
        (None, None, [], "serving"),
    ],
)
def test_a_job_gets_a_gpu_where_its_target_has_some(
    target: str | None,
    use_gpu: bool | None,
    options: list[str],
    environment: str,
    root: Path,
    onnx_files: Path,
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No GPU is here: what is asked for is looked at, and what builds the environment is a fake."""
    built: list[str] = []
    scripts: list[str] = []

    def start(service: object, server: Path, definition: Definition) -> None:
        scripts.append(render(job_plan(server, definition)))

    monkeypatch.setattr("hpctf.serving.deploy.own_python", lambda name, *_: built.append(name))
    monkeypatch.setattr("hpctf.serving.deploy.start_server", start)
    model = Model.register(onnx_files / "digits.onnx", "digits", site=site)
    how = SlurmWebservice.deploy_configuration(target, time_s=600, use_gpu=use_gpu)
    there = replace(on_slurm(site), targets=GPUS)
    Model.deploy("with-gpu", [model], deployment_config=how, site=there)
    found = [line for line in scripts[0].splitlines() if line.startswith("#SBATCH --gpu")]
    assert found == [f"#SBATCH --{option}" for option in options]
    assert built == [environment if platform.machine() == "x86_64" else "serving"]


def test_a_gpu_that_a_target_does_not_have_is_refused(
    root: Path, onnx_files: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpctf.serving.deploy.own_python", lambda *_: None)
    model = Model.register(onnx_files / "digits.onnx", "digits", site=site)
    how = SlurmWebservice.deploy_configuration("default", use_gpu=True)
    there = replace(on_slurm(site), targets=GPUS)
    with pytest.raises(UsageError, match="target 'default' has no GPUs"):
        Model.deploy("no-gpu", [model], deployment_config=how, site=there)
    assert not (root / ".services/no-gpu").exists()


def test_models_run_on_the_cpus_where_there_is_no_gpu_and_that_is_said(
    root: Path, onnx_files: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An onnxruntime without CUDA stands in for a node whose GPU cannot be used."""
    python = own_environment("serving")
    monkeypatch.setattr("hpctf.serving.deploy.own_python", lambda *_: python)
    Model.register(onnx_files / "digits.onnx", "digits", site=site)
    how = Deployment(is_local=True, use_gpu=True)
    service = Model.deploy("falls-back", ["digits"], deployment_config=how, site=site)
    service.wait_for_deployment(timeout_s=HANGS_S)
    assert service.get_details()["runs_on"] == "cpu"
    assert "these models run on the CPUs: digits" in service.get_logs()
    assert service.run(DATA)
    service.delete()


def test_a_port_is_taken_as_it_is_named(root: Path, onnx_files: Path, site: Site) -> None:
    Model.register(onnx_files / "digits.onnx", "digits", site=site)
    port = 21_000 + os.getpid() % 1000
    how = LocalWebservice.deploy_configuration(port=port)
    service = Model.deploy("digits", ["digits"], deployment_config=how, site=site)
    service.wait_for_deployment(timeout_s=HANGS_S)
    assert service.scoring_uri == f"https://127.0.0.1:{port}/score"
    other = Model.deploy("other", ["digits"], deployment_config=how, site=site)
    with pytest.raises(ServiceError, match=f"Port {port} on 127.0.0.1 is taken"):
        other.wait_for_deployment(timeout_s=HANGS_S)
    service.update()
    assert service.run(DATA), "the client waits for the second server"
    service.delete()
