from typing import Annotated

import typer

from tokenferry.cli._home import know, open_broker
from tokenferry.cli._output import moment, say, say_json
from tokenferry.cli._typer import JSON, examples, new_app

app = new_app()


@app.command(
    "refresh",
    epilog=examples(
        "tokenferry refresh",
        "tokenferry refresh work",
    ),
)
def refresh(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The account.", show_default=False)] = None,
    *,
    as_json: JSON = False,
) -> None:
    """Renew an account's token now, however fresh it is."""
    broker = open_broker()
    name = broker.book.choose(name)
    credential = broker.renew(name).credential
    know(credential)
    fingerprint, expires_at = credential.secret.fingerprint, credential.expires_at
    if as_json:
        say_json({"name": name, "fingerprint": fingerprint, "expires_at": expires_at})
    else:
        say(f"{name}  {fingerprint}  expires {moment(expires_at)}")
