import socket
from typing import Annotated
from urllib.parse import quote, urlsplit

import typer

from tokenferry.audit import note_change
from tokenferry.cli._complete import account_names
from tokenferry.cli._output import note, say, say_json
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.databases import open_state
from tokenferry.errors import TryLater, UsageError
from tokenferry.login import open_browser
from tokenferry.settings import Home
from tokenferry.state import GatewayRecord, Role, gateway_records

app = new_app()


@app.command(
    "dashboard",
    epilog=examples(
        "tokenferry dashboard",
        "tokenferry dashboard --account work       at the account's page, to log in again",
        "tokenferry dashboard --print              print the address, for a browser elsewhere",
        "tokenferry dashboard --viewer --print     an address without the right to change anything",
    ),
)
def dashboard(
    *,
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the address instead of opening a browser.")
    ] = False,
    viewer: Annotated[bool, typer.Option("--viewer", help="Sign in without the right to change anything.")] = False,
    account: Annotated[
        str | None,
        typer.Option("--account", metavar="NAME", help="Open this account's page.", autocompletion=account_names),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Open the dashboard of the running gateway in your browser, signed in.

    The address works once, for a minute. The browser then stays signed in for 12 hours after its last request.
    """
    home = Home.from_environment()
    gateway = _gateway(home)
    page = "" if account is None else f"&/dashboard/accounts/{quote(account, safe='')}"
    role: Role = "viewer" if viewer else "admin"
    with open_state(home) as state:
        code = state.sessions.make_code(role=role)
    note_change(home, "dashboard.open", "dashboard", role=role)
    address = f"{gateway.dashboard}/dashboard/enter#{code.reveal()}{page}"
    if as_json:
        say_json({"url": address})
    elif not print_only and open_browser(address):
        say(f"opened {gateway.dashboard} in your browser")
    else:
        say(address)
        note("\n".join(("It works once, for a minute, in a browser of this machine.", *_from_elsewhere(gateway))))


def _gateway(home: Home) -> GatewayRecord:
    """The running gateway with a dashboard. Raises `TryLater`, `UsageError`."""
    running = [record for record in gateway_records(home) if record.is_running]
    if not running:
        raise TryLater("no gateway of this home runs, so there is no dashboard; start it with: tokenferry serve")
    found = next((record for record in running if record.dashboard is not None), None)
    if found is None:
        raise UsageError(
            f"the gateway at {running[0]} has no dashboard: [dashboard] in config.toml turns it off, it listens only "
            "on a Unix socket, or other machines reach it without https; see: tokenferry help dashboard"
        )
    return found


def _from_elsewhere(gateway: GatewayRecord) -> tuple[str, ...]:
    """How to reach the address from another machine, if it is a loopback address."""
    where = urlsplit(gateway.dashboard or "")
    if where.scheme == "https" or not (where.hostname or "").endswith((".localhost", "127.0.0.1")):
        return ()
    port = where.port or 80
    return (f"From another machine, first: ssh -L {port}:127.0.0.1:{port} {socket.gethostname()}",)
