"""``hpctf services``, and ``hpctf models deploy``, which makes one."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import answer_json, json_option, plain_table, say, site_option
from hpctf.cli.help_groups import GroupedCommand, in_group
from hpctf.common.terminal import data
from hpctf.common.units import clock, seconds_of
from hpctf.errors import UsageError
from hpctf.estimator.parameter import OUTPUT, RESOURCES, SLURM
from hpctf.estimator.words import sbatch_options

if TYPE_CHECKING:
    from hpctf.serving.deploy import Deployment, InferenceConfig
    from hpctf.webservice import Webservice

_SERVICE = click.argument("name", metavar="SERVICE")
_LARGEST_PORT = 65535


@click.group()
def services() -> None:
    """List services, call them, show their logs, stop them.

    \b
    hpctf models deploy digits@champion --time 4:00:00
    hpctf services call digits --data '{"data": [[0, 0.5, 1]]}'
    hpctf services tunnel digits
    """


@click.command(cls=GroupedCommand)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@in_group(
    "Service",
    click.option("--name", metavar="SERVICE", help="The service's name (default: the model's)."),
    click.option(
        "--local", is_flag=True, help="Run it as a process on this machine instead of a job."
    ),
    click.option("--port", type=click.IntRange(1, _LARGEST_PORT), help="Port to listen on."),
    click.option("--stay-up", is_flag=True, help="Hand over to another job before the time limit."),
    click.option("--overwrite", is_flag=True, help="Stop a service of that name first."),
    click.option("--no-wait", is_flag=True, help="Do not wait until it answers."),
)
@in_group(
    "Entry script",
    click.option(
        "--entry-script",
        metavar="FILE",
        help="Script with init() and run(data), as in Azure ML; ONNX models need none.",
    ),
    click.option(
        "--source-directory", metavar="DIR", help="Folder to copy along with the entry script."
    ),
    click.option(
        "--environment",
        metavar="NAME|PYTHON",
        help="Environment of the entry script: one of hpctf env list, or an interpreter.",
    ),
)
@in_group(
    RESOURCES,
    click.option(
        *("-t", "--time", "time_limit"),
        metavar="TIME",
        help="How long each job may run, such as 4:00:00.",
    ),
    click.option("--target", help="Compute target of its job (default: the site's)."),
    click.option("--cpus-per-task", "cpus", type=click.IntRange(1), help="CPUs of its job."),
    click.option("--mem", metavar="SIZE", help="Memory of its job, as Slurm writes it."),
    click.option(
        "--use-gpu/--no-gpu",
        default=None,
        help="Run ONNX models on a GPU (default: if the target has GPUs).",
    ),
)
@in_group(
    SLURM,
    click.option(
        "--sbatch",
        multiple=True,
        metavar="KEY[=VALUE]",
        help="One more sbatch option; can be repeated.",
    ),
    site_option,
)
@in_group(OUTPUT, json_option)
def deploy(models: tuple[str, ...], name: str | None, site: str | None, **options: Any) -> None:
    """Deploy MODEL as a service, and wait until it answers.

    ONNX models are served by the Open Inference Protocol; for others, name an entry script.
    """
    from hpctf.webservice import deploy_service

    made = deploy_service(
        name or _name_of(models[0]),
        models,
        _script(options),
        _deployment(options),
        options["overwrite"],
        site=site,
    )
    if not options["no_wait"]:
        try:
            made.wait_for_deployment()
        except KeyboardInterrupt:
            say(f"Interrupted: service {made.name} continues: hpctf services list")
            raise
    _tell(made)
    if options["as_json"]:
        answer_json(made.get_details())
    else:
        click.echo(made.name)


def _name_of(model: str) -> str:
    """Return a service's name for a model's: small letters, digits and hyphens."""
    plain = re.split("[:@]", model)[0].lower()
    return re.sub("[^a-z0-9]+", "-", plain).strip("-")[:32].rstrip("-")


def _script(options: dict[str, Any]) -> InferenceConfig | None:
    from hpctf.serving.deploy import InferenceConfig

    script = options["entry_script"]
    if script is None:
        for option in ("source_directory", "environment"):
            if options[option] is not None:
                raise UsageError(f"--{option.replace('_', '-')} needs --entry-script.")
        return None
    return InferenceConfig(script, options["source_directory"], options["environment"])


def _deployment(options: dict[str, Any]) -> Deployment | None:
    from hpctf.planning.resources import Resources
    from hpctf.serving.deploy import Deployment

    time_limit = options["time_limit"]
    of_job = ("target", "time_limit", "cpus", "mem", "stay_up")
    given = [option for option in of_job if options[option]]
    if options["local"] and (given or options["sbatch"]):
        which = (given or ["sbatch"])[0].replace("_", "-").removesuffix("-limit")
        raise UsageError(f"--{which} is about a Slurm job, but --local starts none.")
    asked = Resources(
        target=options["target"],
        time_s=None if time_limit is None else seconds_of(time_limit),
        cpus=options["cpus"],
        mem=options["mem"],
        sbatch=sbatch_options(options["sbatch"]),
    )
    return Deployment(
        options["local"],
        options["port"],
        asked,
        options["stay_up"],
        use_gpu=options["use_gpu"],
    )


def _tell(service: Webservice) -> None:
    details = service.get_details()
    say(f"Service {service.name} is {details['state']}: {details['uri'] or 'not answering yet'}")
    if details["runs_on"] == "cpu" and service.folder.definition().asked.use_gpu:
        say(f"Its models run on CPUs, not on a GPU: 'hpctf services logs {service.name}' says why")
    if details["fingerprint"]:
        say(f"Its certificate: {details['certificate']}, SHA-256 {details['fingerprint']}")
    say(f"Its tokens: {details['tokens']}")
    if details["state"] == "ready":
        say(f"Call it: hpctf services call {service.name} --data '{{\"data\": ...}}'")


@services.command("list")
@site_option
@json_option
def list_(site: str | None, as_json: bool) -> None:
    """List services: where they answer, and what they serve."""
    from hpctf.errors import HpctfError
    from hpctf.webservice import Webservice

    found = []
    deployed = Webservice.list(site=site)
    for service, status in zip(deployed, Webservice.statuses(deployed), strict=True):
        try:
            found.append(service.get_details(status))
        except HpctfError as error:
            say(str(error))
    if as_json:
        answer_json(found)
        return
    rows = [
        (
            one["name"],
            one["state"],
            (one["uri"] if one["state"] == "ready" else None) or "-",
            " ".join(one["models"]),
            one["job_id"] or one["pid"] or "-",
            clock(one["created"], "%Y-%m-%d %H:%M"),
        )
        for one in found
    ]
    if rows:
        plain_table(("SERVICE", "STATE", "URI", "MODELS", "JOB", "DEPLOYED"), rows)
    else:
        say("There are no services. Deploy one: hpctf models deploy MODEL")


@services.command()
@_SERVICE
@click.option(
    "--data", "given", metavar="JSON|@FILE|-", help="Body of the request; - reads it from stdin."
)
@click.option("--path", default="/score", help="Path to call (default: /score).")
@site_option
def call(name: str, given: str | None, path: str, site: str | None) -> None:
    """Send a request to a service with its token, and print the answer.

    Without --data it is a GET: hpctf services call digits --path /metrics
    """
    body = None if given is None else _body(given)
    if body is None and path == "/score":
        raise UsageError("/score needs --data.", "Pass JSON: --data '{\"data\": [[0, 0.5]]}'")
    place = path if path.startswith("/") else f"/{path}"
    answer = _service(name, site).call("GET" if body is None else "POST", place, body)
    data(answer.body.decode("utf-8", "replace"))
    if not answer.body.endswith(b"\n"):
        click.echo()


def _body(given: str) -> bytes:
    if given == "-":
        return sys.stdin.buffer.read()
    if not given.startswith("@"):
        return given.encode("utf-8", "surrogateescape")
    try:
        return Path(given[1:]).read_bytes()
    except OSError as error:
        raise UsageError(
            f"Cannot read {given[1:]!r}: {error.strerror}.",
            "Name a file that you can read, or pass the JSON itself.",
        ) from None


@services.command()
@_SERVICE
@click.option(
    "--lines",
    type=click.IntRange(1),
    default=100,
    help="How many of the last lines to print (100).",
)
@site_option
def logs(name: str, lines: int, site: str | None) -> None:
    """Print the log of a service's latest server."""
    text = _service(name, site).get_logs(lines)
    data(f"{text}\n" if text else "")


@services.command()
@_SERVICE
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@site_option
def update(name: str, models: tuple[str, ...], site: str | None) -> None:
    """Restart a service, or let it serve other models.

    No request fails: the new server takes over once it is ready, and the old one answers what is
    still sent to it.
    """
    service = _service(name, site)
    service.update(models or None)
    service.wait_for_deployment()
    _tell(service)


@services.command()
@click.argument("names", metavar="SERVICE...", nargs=-1, required=True)
@click.option("--remove", is_flag=True, help="Also remove the service's folder and logs.")
@site_option
def stop(names: tuple[str, ...], remove: bool, site: str | None) -> None:
    """Stop services, by ending their jobs or processes."""
    found = [_service(name, site) for name in names]
    for service in found:
        if remove:
            service.delete()
        else:
            service.stop()
        say(f"Service {service.name} is {'removed' if remove else 'stopped'}.")


@services.command()
@_SERVICE
@click.option(
    "--port",
    type=click.IntRange(1, _LARGEST_PORT),
    default=8443,
    help="Port on your own machine (8443).",
)
@site_option
def tunnel(name: str, port: int, site: str | None) -> None:
    """Print the ssh line that lets your own machine call a service."""
    import socket
    from urllib.parse import urlsplit

    from hpctf.common.processes import user_name

    service = _service(name, site)
    service.check_goes_on()
    where = urlsplit(service.uri)
    login = socket.getfqdn()
    click.echo(f"ssh -N -L {port}:{where.hostname}:{where.port} {user_name()}@{login}")
    details = service.get_details()
    say(f"Then, on your own machine: https://localhost:{port}/score")
    say(f"Its certificate: {details['certificate']}, SHA-256 {details['fingerprint']}")
    say(f"Its tokens: {details['tokens']}")


def _service(name: str, site: str | None) -> Webservice:
    from hpctf.webservice import Webservice

    return Webservice(name, site=site)
