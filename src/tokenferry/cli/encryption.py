from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from tokenferry.accounts import SealResult
from tokenferry.audit import note_change
from tokenferry.broker import open_sealing
from tokenferry.cli._output import note, say, say_json, sentences_on_stderr
from tokenferry.cli._sealing import place_in_words, seal_json, seal_line
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.databases import store_settings
from tokenferry.sealing import KeyPlace
from tokenferry.settings import Home
from tokenferry.stores import key_place

app = new_app(
    "Encrypt the credentials on disk.",
    "tokenferry encryption enable",
    "tokenferry encryption status",
)

ForgetKey = Annotated[bool, typer.Option("--forget-key", help="Delete the old key when everything is done.")]


@app.command("status", epilog=examples("tokenferry encryption status", "tokenferry encryption status --json"))
def status(*, as_json: JSON = False) -> None:
    """Show how many accounts are encrypted, and where the key is."""
    home = Home.from_environment()
    if as_json:
        say_json(seal_json(home))
    else:
        say(seal_line(home))


@app.command(
    "enable",
    epilog=examples(
        "tokenferry encryption enable                                 the key goes into the system's keyring",
        "TOKENFERRY_SEAL_KEY_FILE=/media/stick/key tokenferry encryption enable    or into a file",
        "tokenferry encryption enable --accept work                   also one that was restored in clear",
    ),
)
def enable(
    *,
    accept: Annotated[
        list[str] | None,
        typer.Option("--accept", metavar="NAME", help="Also encrypt this account, which was found in clear."),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Encrypt the credentials of all accounts, including those added later.

    The key goes into the system's keyring, or into the file that TOKENFERRY_SEAL_KEY_FILE names, which is created if
    needed. Keep a copy of that file: without the key, encrypted logins are lost for good. After an interruption run the
    same command again.
    """
    with _state_json(wanted=as_json):
        home = Home.from_environment()
        sealing = open_sealing(home, store_settings(home))
        result = sealing.seal(key_place(), accept=accept or ())
        _tell(result, "seal", "tokenferry encryption enable", accepted=",".join(accept or ()) or None)


@app.command(
    "rotate-key",
    epilog=examples("tokenferry encryption rotate-key", "tokenferry encryption rotate-key --forget-key"),
)
def rotate_key(*, forget_key: ForgetKey = False, as_json: JSON = False) -> None:
    """Create a new key, and encrypt everything with it."""
    with _state_json(wanted=as_json):
        home = Home.from_environment()
        sealing = open_sealing(home, store_settings(home))
        if forget_key:
            sealing.check_forgettable()
        result = sealing.rotate(key_place())
        if forget_key and not result.faults:
            sealing.forget(result)
        _tell(result, "seal.rotate", "tokenferry encryption rotate-key", forget_key=forget_key)


@app.command(
    "disable",
    epilog=examples(
        "tokenferry encryption disable",
        "tokenferry encryption disable --forget-key     delete the key, too: encrypted backups are lost",
    ),
)
def disable(*, forget_key: ForgetKey = False, as_json: JSON = False) -> None:
    """Decrypt the credentials of all accounts.

    It does not begin while the key of an account is lost: remove that account first, with "tokenferry account remove
    NAME", and log in again.
    """
    with _state_json(wanted=as_json):
        home = Home.from_environment()
        sealing = open_sealing(home, store_settings(home))
        if forget_key:
            sealing.check_forgettable()
        result = sealing.unseal()
        note_change(home, "unseal", "home")
        if not result.faults:
            say(f"decrypted {len(result.changed)} accounts")
            if forget_key:
                sealing.forget(result)
            _tell_of_old(result, "key", forget_key=forget_key)
        _end_with(result, "tokenferry encryption disable")


@contextmanager
def _state_json(*, wanted: bool) -> Iterator[None]:
    """Send the block's sentences to stderr if JSON is `wanted`; then print the state, unless the block raised."""
    with sentences_on_stderr(wanted=wanted):
        yield
    if wanted:
        say_json(seal_json(Home.from_environment()))


def _tell(
    result: SealResult, action: str, command: str, *, accepted: str | None = None, forget_key: bool = False
) -> None:
    assert result.marker is not None
    note_change(Home.from_environment(), action, "home", key=result.marker.current, accepted=accepted)
    done = f"encrypted {len(result.changed)} accounts" if result.changed else "everything is encrypted already"
    if not result.faults:
        say(f"{done} with key {result.marker.current} in {place_in_words(result.marker.place)}")
        _tell_of_key(result.marker.place)
        _tell_of_old(result, "old key", forget_key=forget_key)
    _end_with(result, command)


def _tell_of_key(place: KeyPlace) -> None:
    if place.path is not None:
        note(f"keep a copy of {place.path} in a safe place: without it, encrypted logins are lost")


def _tell_of_old(result: SealResult, what: str, *, forget_key: bool) -> None:
    for key, place in result.old:
        if forget_key:
            say(f"the {what} {key} is removed from {place_in_words(place)}")
        else:
            note(f"the {what} {key} stays in {place_in_words(place)}, for backups and exports encrypted with it")


def _end_with(result: SealResult, command: str) -> None:
    """Note each account that failed; if any did, exit with the highest of their codes."""
    for name, fault in result.faults.items():
        note(f"account {name}: {fault}")
    if result.faults:
        note(f"the others are done; fix that, then run again: {command}")
        raise typer.Exit(max(fault.exit_code for fault in result.faults.values()))
