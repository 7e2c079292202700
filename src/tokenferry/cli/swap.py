from typing import Annotated, Literal

import typer

from tokenferry.audit import note_change
from tokenferry.broker import swap_to_next_available_account
from tokenferry.cli._home import open_broker
from tokenferry.cli._output import say
from tokenferry.cli._typer import examples, new_app
from tokenferry.settings import Home

app = new_app()


@app.command(
    "swap",
    epilog=examples(
        "tokenferry swap --for claude-code",
        'tokenferry swap --for claude-code --reset-at "$(date -d 18:00 +%s)"',
    ),
)
def swap(
    *,
    program: Annotated[  # noqa: ARG001  # there is one yet, and it is named on purpose
        Literal["claude-code"], typer.Option("--for", help="The program that is to have another account.")
    ],
    reset_at: Annotated[
        int | None,
        typer.Option(
            "--reset-at", metavar="SECONDS", help="When the limit ends, in seconds since 1970.", show_default=False
        ),
    ] = None,
) -> None:
    """Give Claude Code the next account, because the one it has is limited.

    The one it has is marked until the limit ends. The next is the first in order that isn't marked, else the first
    whose mark has ended; its e-mail address is printed, or its name. Needs subscriptions = "own-use" under [policy].
    """
    label = swap_to_next_available_account(reset_at, open_broker())
    note_change(Home.from_environment(), "account.swap", label, to="claude-code")
    say(label)
