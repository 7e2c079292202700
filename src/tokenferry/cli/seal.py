from typing import Annotated

import typer

from tokenferry.accounts import SealResult
from tokenferry.audit import note_change
from tokenferry.broker import open_sealing
from tokenferry.cli._output import note, say
from tokenferry.cli._sealing import end_with, place_in_words
from tokenferry.cli._typer import examples, new_app
from tokenferry.errors import UsageError
from tokenferry.sealing import KeyPlace
from tokenferry.settings import Home
from tokenferry.stores import key_place

app = new_app()


@app.command(
    "seal",
    epilog=examples(
        "tokenferry seal                                              the key goes into the system's keyring",
        "TOKENFERRY_SEAL_KEY_FILE=/media/stick/key tokenferry seal    or into a file",
        "tokenferry seal --rotate                                     another key for everything",
        "tokenferry seal --accept work                                a document that was put back in clear",
    ),
)
def seal(
    *,
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new key, and seal everything with that.")] = False,
    forget_key: Annotated[
        bool, typer.Option("--forget-key", help="With --rotate: remove the old key from its place when it is done.")
    ] = False,
    accept: Annotated[
        list[str] | None,
        typer.Option("--accept", metavar="NAME", help="Seal this account, found in clear in a sealed home, too."),
    ] = None,
) -> None:
    """Encrypt what is kept of all accounts, those that are added later among them.

    The key goes into the system's keyring, or into the file that TOKENFERRY_SEAL_KEY_FILE names (made if it isn't
    there). Keep a copy of that file: without the key, sealed logins are lost for good. What a run could not seal, and
    what was cut short, the same command goes on with.
    """
    if forget_key and not rotate:
        raise UsageError("--forget-key is about the key that --rotate replaces; give both, or see: tokenferry unseal")
    if accept and rotate:
        raise UsageError("--accept goes without --rotate; run: tokenferry seal --accept NAME, then the other")
    home, place = Home.from_environment(), key_place()
    sealing = open_sealing(home)
    result = sealing.rotate(place) if rotate else sealing.seal(place, accept=accept or ())
    assert result.marker is not None
    note_change(
        home,
        "seal.rotate" if rotate else "seal",
        "home",
        key=result.marker.current,
        accepted=",".join(accept or ()) or None,
    )
    done = f"sealed {len(result.changed)} accounts" if result.changed else "everything is sealed already"
    if not result.faults:
        say(f"{done} with key {result.marker.current} in {place_in_words(result.marker.place)}")
        _tell_of_key(result.marker.place)
        _tell_of_old(result, forget_key=forget_key)
        if forget_key:
            sealing.forget(result)
    end_with(result, "tokenferry seal")


def _tell_of_key(place: KeyPlace) -> None:
    if place.path is not None:
        note(f"keep a copy of {place.path} in a safe place: without it nobody can open what is sealed")


def _tell_of_old(result: SealResult, *, forget_key: bool) -> None:
    for key, place in result.old:
        if forget_key:
            say(f"the old key {key} is removed from {place_in_words(place)}")
        else:
            note(f"the old key {key} stays in {place_in_words(place)}, for backups and exports sealed with it")
