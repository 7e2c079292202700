import os
from typing import Annotated

import typer

from tokenferry.audit import note_change
from tokenferry.cli._account_json import account_json
from tokenferry.cli._complete import AccountName
from tokenferry.cli._home import open_broker, what_serves
from tokenferry.cli._output import note, say
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.settings import Home

app = new_app()


@app.command(
    "use",
    epilog=examples(
        "tokenferry use work",
        "tokenferry use work --default-provider",
    ),
)
def use(
    name: AccountName,
    *,
    default_provider: Annotated[
        bool,
        typer.Option("--default-provider", help="Also make its provider the default for unmapped models."),
    ] = False,
    as_json: JSON = False,
) -> None:
    """Prefer an account in commands that name none, in its provider's pool, and in running gateways within a second.

    If it is limited or can't serve, the next account of its provider is used. --account and TOKENFERRY_ACCOUNT pin one
    account instead.
    """
    with account_json(name, wanted=as_json):
        home, broker = Home.from_environment(), open_broker()
        broker.book.use(name)
        note_change(home, "account.use", name)
        say(f"account {name} is in use")
        if default_provider:
            provider = broker.book.read(name).account.provider
            broker.set_default_provider(provider)
            note_change(home, "provider.default", provider)
            say(f"provider {provider} is the default provider")
        named = os.environ.get("TOKENFERRY_ACCOUNT")
        if named and named != name:
            note(f"TOKENFERRY_ACCOUNT is set to {named!r} here and overrides it for token and run")
        say(what_serves(name, broker))
