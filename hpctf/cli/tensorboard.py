"""``hpctf tensorboard``: TensorBoard on runs, and how to see it from one's own machine."""

from __future__ import annotations

import click

from hpctf.cli.common import open_runs, say, site_option


@click.command()
@click.argument("names", metavar="RUN|EXPERIMENT...", nargs=-1, required=True)
@click.option("--port", type=click.IntRange(1, 65535), help="Port (default: a free one).")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; any other lets other people in.",
)
@click.option("--python", metavar="EXE", help="A Python that has TensorBoard.")
@site_option
def tensorboard(
    names: tuple[str, ...], port: int | None, host: str, python: str | None, site: str | None
) -> None:
    """Start TensorBoard on what runs have logged, and on the event files that they wrote.

    Runs that have not ended are followed. Ctrl-C stops TensorBoard, and not the runs.
    """
    from hpctf.export.tensorboard import show, ssh_line

    def ready(host: str, port: int) -> None:
        say("On your own machine type:")
        say(f"  {ssh_line(host, port)}")
        say(f"and open http://localhost:{port}/   (Ctrl-C here ends TensorBoard, not the runs)")
        click.echo(f"http://{host}:{port}/")

    show(open_runs(names, site), host, port, python, ready)
