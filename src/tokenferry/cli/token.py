from typing import Annotated

import typer

from tokenferry.cli._fast import MIN_TTL
from tokenferry.cli._home import open_broker
from tokenferry.cli._output import say
from tokenferry.cli._typer import examples, new_app
from tokenferry.errors import UsageError
from tokenferry.settings import Home
from tokenferry.state import local_key, read_local_key

app = new_app()


@app.command(
    "token",
    epilog=examples(
        "tokenferry token",
        "tokenferry token work --min-ttl 1800",
        'curl -H "x-api-key: $(tokenferry token work)" ...',
        "tokenferry token --gateway                      for Claude Code's apiKeyHelper",
    ),
)
def token(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The account.", show_default=False)] = None,
    *,
    account: Annotated[str | None, typer.Option("--account", metavar="NAME", help="The same.")] = None,
    min_ttl: Annotated[
        int, typer.Option("--min-ttl", metavar="SECONDS", min=0, help="How long it should live at least.")
    ] = MIN_TTL,
    gateway: Annotated[bool, typer.Option("--gateway", help="Print the gateway's local client key instead.")] = False,
) -> None:
    """Print a token or key that works now, and nothing else.

    It is renewed first where that is due; if that fails but it still lives, it is printed with a warning on stderr.
    """
    if name and account and name != account:
        raise UsageError(f"{name!r} and {account!r} are both named; name one account")
    if gateway:
        if name or account:
            raise UsageError("--gateway prints the gateway's own key, whatever the account; leave the account out")
        home = Home.from_environment()
        say((read_local_key(home) or local_key(home)).reveal())
        return
    say(open_broker().resolve(name or account, min_ttl=min_ttl).secret.reveal())
