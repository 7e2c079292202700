from typing import Annotated

import typer

from tokenferry.audit import note_change
from tokenferry.broker import open_sealing
from tokenferry.cli._output import note, say
from tokenferry.cli._sealing import end_with, place_in_words
from tokenferry.cli._typer import examples, new_app
from tokenferry.settings import Home

app = new_app()


@app.command(
    "unseal",
    epilog=examples(
        "tokenferry unseal",
        "tokenferry unseal --forget-key     remove the key, too: sealed backups can't be opened any more",
    ),
)
def unseal(
    *,
    forget_key: Annotated[
        bool, typer.Option("--forget-key", help="Remove the key from its place when everything is unsealed.")
    ] = False,
) -> None:
    """Write in clear again what is kept of all accounts.

    Nothing is unsealed while the key of an account is lost: remove that account first, with "tokenferry accounts remove
    NAME", and log in again.
    """
    home = Home.from_environment()
    sealing = open_sealing(home)
    result = sealing.unseal()
    note_change(home, "unseal", "home")
    if not result.faults:
        say(f"unsealed {len(result.changed)} accounts")
        if forget_key:
            sealing.forget(result)
        for key, place in result.old:
            if forget_key:
                say(f"the key {key} is removed from {place_in_words(place)}")
            else:
                note(f"the key {key} stays in {place_in_words(place)}, for backups and exports sealed with it")
    end_with(result, "tokenferry unseal")
