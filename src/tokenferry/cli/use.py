import os
from typing import Annotated

import typer

from tokenferry.cli._home import open_broker
from tokenferry.cli._output import note, say
from tokenferry.cli._typer import examples, new_app

app = new_app()


@app.command(
    "use",
    epilog=examples(
        "tokenferry use work",
    ),
)
def use(name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)]) -> None:
    """Make an account the one that is meant where none is named."""
    open_broker().book.use(name)
    say(f"account {name} is in use")
    named = os.environ.get("TOKENFERRY_ACCOUNT")
    if named and named != name:
        note(f"TOKENFERRY_ACCOUNT is set to {named!r} here and goes before it")
