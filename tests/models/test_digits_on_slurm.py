"""The digits from their training on every backend to a called service, by the commands of
docs/models.md. All is one person's, and what the backend makes no difference to is done once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cluster.fixture import TEST_USER, Cluster
from tests.conftest import ROOT, Person, make_trainer, skip_or_fail
from tests.support.built import CACHE, build_clients, own_environment
from tests.support.training import ENOUGH, PS, train
from tests.support.waiting import HANGS_S, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]

SEEN = ROOT / "tests/client/keras/seen.py"

BACKENDS = {
    "single": [],
    "mpi": ["--backend", "mpi", "--nodes", "2"],
    "collective": ["--backend", "collective", "--nodes", "2"],
    "ps": [*PS, "--ps-placement", "shared"],
    "ps-script": [*PS, "--ps-placement", "hetjob", "--ps-mode", "script"],
}

Trained = Callable[[str], tuple[str, dict[str, float]]]


@pytest.fixture(scope="module")
def person(cluster: Cluster, installed: Path, training_python: str) -> Iterator[Person]:
    """Somebody with the examples, whose site has the environments that the tests keep."""
    for name in ("export", "scoring", "serving"):
        own_environment(name)
    someone = make_trainer(cluster, installed, training_python, TEST_USER)
    site = {
        "name": "here",
        "extends": "slurm",
        "environments": {"store": str(CACHE / "environments")},
    }
    someone.env["HPCTF_SITE"] = str(someone.write("site.yaml", json.dumps(site)))
    someone.write("examples/digits/seen.py", SEEN.read_text())
    someone.write(
        "examples/digits/both.py", "import anywhere, seen\nanywhere.main()\nseen.main()\n"
    )
    yield someone
    someone.leave()


@pytest.fixture(scope="module")
def trained(person: Person) -> Trained:
    """Trains with a backend, once, and returns the run and its metrics."""

    @cache
    def train_on(backend: str) -> tuple[str, dict[str, float]]:
        metrics = train(person, "digits/both.py", *BACKENDS[backend])
        return Path(person.status()["run_folder"]).name, metrics

    return train_on


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_script_on_every_backend(person: Person, trained: Trained, backend: str) -> None:
    """And which rank saw what, with the strategy that there is then."""
    run, metrics = trained(backend)
    assert metrics["size"] == (1 if backend == "single" else 2)
    assert "outputs/model.keras" in person.hpctf("files", run).stdout
    found = json.loads(person.output("seen.json", run))
    if backend != "single":
        check_that_workers_saw_disjoint_data(found, backend)
    else:
        [seen] = found["seen"]
        assert sum(seen) == found["steps"] * 4 == 44
        assert max(seen) == 1


def check_that_workers_saw_disjoint_data(found: dict[str, Any], backend: str) -> None:
    first, second = found["seen"]
    assert not [n for n, both in enumerate(zip(first, second, strict=True)) if all(both)]
    assert not any(first[1::2]) and not any(second[0::2]), "even ones for rank 0, odd for 1"
    assert found["size"] == 2
    if backend == "collective":
        assert found["rebatched"] == [[0, 2, 4, 6], [8, 10, 12, 14]]
    if backend.startswith("ps"):  # a step goes to whoever is free
        assert sum(first) + sum(second) == found["steps"] * 4 == 44
        return
    assert found["steps"] == 5
    assert sum(first) == sum(second) == 20
    assert max(first + second) == 1, "an epoch is one pass"


DATA = """
import numpy as np
from sklearn.datasets import load_digits
images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
np.savez("digits.npz", images=np.resize(images, (10_000, 64)), labels=labels)
"""

TRITON = """
import sys
import gevent.ssl, numpy as np, tritonclient.http as http

host, certificate, token, rows, *models = sys.argv[1:]
client = http.InferenceServerClient(
    host, ssl=True, ssl_options={"ca_certs": certificate, "cert_reqs": gevent.ssl.CERT_REQUIRED}
)
rows, found = np.load(rows)[:5], {}
for model in models:
    about = client.get_model_metadata(model, headers={"authorization": f"Bearer {token}"})
    given = http.InferInput(about["inputs"][0]["name"], list(rows.shape), "FP32")
    given.set_data_from_numpy(rows)
    answer = client.infer(model, [given], headers={"authorization": f"Bearer {token}"})
    found[model] = answer.as_numpy(about["outputs"][0]["name"])
np.savez("triton.npz", **found)
"""

AZURE = """
import json, sys
import numpy as np
from hpctf.azureml.core import Model, Webservice, Workspace

ws = Workspace()
service = Webservice(ws, "digits")
service.update(models=[Model(ws, sys.argv[1])])
service.wait_for_deployment()
rows = np.load("rows.npy")[:5].tolist()
print(json.dumps(service.run(json.dumps({"data": rows}))["result"]))
"""


def commands_of_the_docs() -> list[list[str]]:
    """Return the words of the commands that lead from a run to a called service."""
    text = (ROOT / "docs/models.md").read_text().split("## Deploy")[1].split("```")[1]
    return [line.split("#")[0].split()[1:] for line in text.strip().splitlines()]


def renamed(words: list[str], backend: str, run: str) -> list[str]:
    """Return a command's words for the model of a backend."""
    names = {"digits": f"digits-{backend}", "digits-onnx": f"digits-{backend}-onnx", "@last": run}
    return [names.get(word, word) for word in words]


def test_from_a_run_of_every_backend_to_a_called_service(person: Person, trained: Trained) -> None:
    clients = build_clients()
    if clients.returncode:
        skip_or_fail(f"the clients' environment cannot be made: {clients.stderr[-2000:]}")
    python = person.env["HPCTF_EXAMPLE_PYTHON"]
    person.cluster.run(python, "-c", DATA, user=person.user, cwd=person.home)
    with np.load(person.home / "digits.npz") as digits:
        images, labels = digits["images"], digits["labels"]
    np.save(person.home / "rows.npy", images)

    register, export, deploy, call, stop = commands_of_the_docs()
    backends = [name for name in BACKENDS if name != "ps-script"]
    models = [f"digits-{backend}-onnx" for backend in backends]
    for backend in backends:
        run, _ = trained(backend)
        assert person.hpctf(*renamed(register, backend, run)).stdout == f"digits-{backend}:1\n"
        said = person.hpctf(*renamed(export, backend, run))
        assert said.stdout == f"digits-{backend}-onnx:1\n"
        assert "the Python that trained it" in said.stderr
        shown = person.hpctf("models", "show", f"digits-{backend}-onnx", "--json").stdout
        properties = json.loads(shown)["properties"]
        assert properties["exported_from"] == f"digits-{backend}:1"
        assert float(properties["largest_difference"]) <= 1e-5

    scores = {}
    for model, found in score_with_a_lost_node(person, models).items():
        scores[model] = found[:5]
        assert found.shape == (10_000, 10)
        assert np.mean(found[: len(labels)].argmax(axis=1) == labels) >= ENOUGH

    place = deploy.index("digits-onnx")
    deploy[place : place + 1] = models
    assert "Service digits is ready" in person.hpctf(*deploy).stderr
    for model, answer in answers(person, call, models, clients.stdout.strip()):
        assert np.abs(answer - scores[model]).max() <= 1e-5
    person.hpctf(*stop)


def score_with_a_lost_node(person: Person, models: list[str]) -> dict[str, Any]:
    """Score the rows with each model, on three nodes of which one is lost, and return the scores.

    They wait together: to notice that a node is lost takes seconds.
    """

    def ledger(run: str) -> list[dict[str, Any]]:
        lines = (person.folder(run) / "ledger.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    runs = {}
    for model in models:
        words = ["score", model, "rows.npy", "--out", f"scores-{model}", "--nodes", "3"]
        words += ["--rows-per-part", "10", "--time", "10", "--no-wait"]
        runs[model] = run = person.hpctf(*words).stdout.strip()
        wait_until(lambda run=run: any(one["event"] == "ended" for one in ledger(run)))
        job = next(one["job_id"] for one in ledger(run) if one["event"] == "claimed")
        person.cluster.run("scancel", "--signal=KILL", "--full", job, user=person.user)
    for run in runs.values():
        person.hpctf("wait", run)
        ends = [one["task"] for one in ledger(run) if one["event"] == "ended"]
        assert sorted(ends) == list(range(1001)), "1,000 parts and the joining, each once"
    return {model: np.load(person.home / f"scores-{model}/predictions.npy") for model in models}


def answers(
    person: Person, call: list[str], models: list[str], clients: str
) -> Iterator[tuple[str, Any]]:
    """Yield a model and what the service answers for five rows, by each kind of client."""
    folder = person.home / "runs/.services/digits"
    state = json.loads((folder / "current/state.json").read_text())
    uri, certificate = state["uri"], str(folder / "current/certificate.pem")
    token = json.loads((folder / "tokens.json").read_text())["primary"]
    where = {"user": person.user, "cwd": person.home, "env": person.env, "timeout": HANGS_S}

    header = person.write("header", f"authorization: Bearer {token}\n")
    curl = ["curl", "--silent", "--show-error", "--cacert", certificate, "--header", f"@{header}"]

    def curled(model: str, *words: str) -> dict[str, Any]:
        done = person.cluster.run(
            *curl, *words[:-1], f"{uri}/v2/models/{model}{words[-1]}", **where
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    rows = np.load(person.home / "rows.npy")[:5]
    for model in models:
        given = {"name": curled(model, "")["inputs"][0]["name"], "datatype": "FP32"}
        asked = {"inputs": [{**given, "shape": rows.shape, "data": rows.ravel().tolist()}]}
        body = person.write("body.json", json.dumps(asked))
        [output] = curled(model, "--data", f"@{body}", "/infer")["outputs"]
        yield model, np.reshape(output["data"], output["shape"])

    host = uri.removeprefix("https://")
    words = [host, certificate, token, "rows.npy", *models]
    person.cluster.run(clients, "-c", TRITON, *words, **where)
    with np.load(person.home / "triton.npz") as found:
        yield from found.items()

    python = str(person.bin / "python")
    done = person.cluster.run(python, "-c", AZURE, models[-1], **where)
    yield models[-1], np.array(json.loads(done.stdout))
    words = [*call[: call.index("--data")], "--data", json.dumps({"data": rows.tolist()})]
    done = person.hpctf(*words)
    yield models[-1], np.array(json.loads(done.stdout)["result"])
