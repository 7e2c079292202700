import signal
from pathlib import Path
from typing import Annotated

import typer

from tokenferry.cli._home import find, open_broker
from tokenferry.cli._logs import set_level
from tokenferry.cli._output import note, say
from tokenferry.cli._typer import examples, new_app
from tokenferry.serve import serve as serve_gateway

app = new_app()


@app.command(
    "serve",
    epilog=examples(
        "tokenferry serve",
        "tokenferry serve --port 0 --port-file gateway.port",
    ),
)
def serve(
    *,
    host: Annotated[str | None, typer.Option("--host", help="A loopback address; [server] host by default.")] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="[server] port by default; 0 takes a free one."),
    ] = None,
    port_file: Annotated[
        Path | None, typer.Option("--port-file", metavar="F", help="Write the port here once it listens.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="F", help="Read this instead of the home's config.toml.")
    ] = None,
) -> None:
    """Run the gateway until it is told to end.

    Ctrl-C, TERM and HUP let requests and a refresh in flight finish first; a second signal ends it at once.
    """
    home, settings = find(config)
    set_level(settings.server.log_level)
    for warning in settings.warnings:
        note(warning)
    broker = open_broker(home, settings)
    ended = serve_gateway(home, settings, host=host, port=port, port_file=port_file, say=say, broker=broker)
    if ended == signal.SIGINT:
        raise typer.Exit(130)
