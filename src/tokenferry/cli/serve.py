import logging
import os
import signal
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace

from tokenferry.cli._describe import rows
from tokenferry.cli._home import find, know, open_broker
from tokenferry.cli._logs import level_asked, set_level, write_log
from tokenferry.cli._output import say
from tokenferry.cli._typer import examples, new_app
from tokenferry.config import Config, ConfigSource
from tokenferry.config_key import format_duration, parse_duration
from tokenferry.errors import UsageError
from tokenferry.serve import serve as serve_gateway
from tokenferry.settings import LONGEST_DRAIN, MOST_WORKERS

logger = logging.getLogger("tokenferry.serve")
app = new_app()


def _drain_timeout(text: str) -> float:
    """Parse --drain, within the limits of `[server] drain_timeout`."""
    seconds = parse_duration(text)
    if seconds is None or not 0 <= seconds <= LONGEST_DRAIN:
        raise typer.BadParameter(f'must be a time from 0s to {format_duration(LONGEST_DRAIN)}, as in "30s" or "5m"')
    return seconds


@app.command(
    "serve",
    epilog=examples(
        "tokenferry serve",
        "tokenferry serve --detach",
        "tokenferry serve --port 0 --port-file gateway.port",
        "tokenferry serve --uds ~/.local/share/tokenferry/gateway.sock",
        "tokenferry serve --workers 4",
    ),
)
def serve(
    context: typer.Context,
    *,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once it listens, and leave it running; see: tokenferry stop")
    ] = False,
    host: Annotated[
        str | None,
        typer.Option(
            "--host", metavar="ADDRESS", help="The address to listen on; by default [server] host. See --allow-remote."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="PORT", min=0, max=65535, help="The port; by default [server] port. 0 takes a free one."
        ),
    ] = None,
    port_file: Annotated[
        Path | None, typer.Option("--port-file", metavar="FILE", help="Write the port to this file while it listens.")
    ] = None,
    uds: Annotated[
        Path | None,
        typer.Option(
            "--uds", metavar="PATH", help="Listen on this Unix socket, and on TCP only with --host or --port."
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="Use TLS on TCP, with this certificate (PEM).")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="The certificate's key (PEM, mode 0600).")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            max=MOST_WORKERS,
            help="The number of processes; by default [server] workers (1).",
        ),
    ] = None,
    drain: Annotated[
        float | None,
        typer.Option(
            "--drain",
            metavar="SPAN",
            parser=_drain_timeout,
            help="Time for requests to finish at the end; by default [server] drain_timeout (30s).",
        ),
    ] = None,
    allow_remote: Annotated[
        bool,
        typer.Option("--allow-remote", help="Allow an address that other machines reach; they need client keys."),
    ] = False,
    log_json: Annotated[
        bool, typer.Option("--log-json", help='Log one JSON object per line, as [log] format = "json" does.')
    ] = False,
) -> int:
    """Run the gateway until a signal or `tokenferry stop` ends it.

    After Ctrl-C or TERM, requests and refreshes in flight finish first. A second signal ends streams with an error; a
    refresh still finishes.

    The gateway follows config.toml within two seconds, or at once after a HUP. If the file has faults, the previous
    configuration stays in use.
    """
    home, settings = find()
    if (tls_cert is None) != (tls_key is None):
        raise UsageError("--tls-cert and --tls-key need each other; give both")
    if tls_cert is not None and uds is not None and host is None and port is None:
        raise UsageError("TLS needs a TCP port, and --uds opens none; add --port, or leave out --tls-cert")
    if detach:
        from tokenferry.cli._detach import begin_detached  # noqa: PLC0415  # few users ask for it

        return begin_detached(context, home)
    asked = level_asked()

    def with_options(settings: Config) -> Config:
        server = settings.server
        server = replace(
            server,
            uds=uds or server.uds,
            tcp=server.tcp and uds is None,
            tls_cert=tls_cert or server.tls_cert,
            tls_key=tls_key or server.tls_key,
            tls_by_option=tls_cert is not None,
            workers=workers or server.workers,
            drain_timeout=server.drain_timeout if drain is None else drain,
            allow_remote=allow_remote or server.allow_remote,
        )
        return replace(settings, server=server)

    def tell(line: str) -> None:
        """Write a log record, whatever its level."""
        logger.handle(logger.makeRecord(logger.name, logging.INFO, __file__, 0, line, (), None))

    def adopt(settings: Config) -> None:
        set_level(settings.log.level, asked)
        write_log(replace(settings.log, format="json") if log_json else settings.log)
        for key in settings.keys.values():
            know(key)

    settings = with_options(settings)
    adopt(settings)
    for warning in settings.warnings:
        tell(warning)
    if os.environ.get("TOKENFERRY_ACCOUNT"):
        tell(
            "TOKENFERRY_ACCOUNT is set, and serve ignores it; to use only one account set account under "
            "[router] in config.toml"
        )
    broker = open_broker(home, settings)
    ended = serve_gateway(
        home,
        settings,
        host=host,
        port=port,
        port_file=port_file,
        say=say,
        tell=tell,
        broker=broker,
        states=lambda: {row.name: row.state for row in rows(broker)},
        source=ConfigSource(home.config, lambda: with_options(find()[1])),
        adopted=adopt,
    )
    return 130 if ended == signal.SIGINT else 0
