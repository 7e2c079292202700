from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from tokenferry.cli._output import moment, note, say, say_json, table
from tokenferry.cli._typer import JSON, examples, new_app
from tokenferry.settings import Home
from tokenferry.state import ClientKey, State

app = new_app(
    "Make, list and revoke the gateway's client keys.",
    "tokenferry key create laptop",
    "tokenferry key list",
)


@contextmanager
def _keys() -> Iterator[State]:
    with State(Home.from_environment().state) as state:
        yield state


@app.command(
    "create",
    epilog=examples(
        "tokenferry key create laptop",
        "KEY=$(tokenferry key create ci)",
    ),
)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.", show_default=False)],
    *,
    admin: Annotated[bool, typer.Option("--admin", help="A key for the admin API, and for nothing else.")] = False,
    as_json: JSON = False,
) -> None:
    """Make a client key and show it, this once."""
    with _keys() as state:
        key, secret = state.keys.create(name, admin=admin)
    if as_json:
        say_json({"key": secret.reveal(), **_to_json(key)})
        return
    say(secret.reveal())
    note(f"this is client key {key.name} ({key.id}); keep it now, for it is not shown again")


@app.command(
    "list",
    epilog=examples(
        "tokenferry key list",
    ),
)
def list_(*, as_json: JSON = False) -> None:
    """List every client key, revoked ones too."""
    with _keys() as state:
        keys = state.keys.list()
    if as_json:
        say_json([_to_json(key) for key in keys])
    elif keys:
        table(("name", "id", "for", "created", "last used", "revoked", "fingerprint"), [_cells(key) for key in keys])
    else:
        note("there is no client key yet; make one with: tokenferry key create NAME")


@app.command(
    "revoke",
    epilog=examples(
        "tokenferry key revoke laptop",
    ),
)
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name or id.", show_default=False)],
    *,
    as_json: JSON = False,
) -> None:
    """Make a client key worthless, in running gateways within a second."""
    with _keys() as state:
        key = state.keys.revoke(name)
    if as_json:
        say_json(_to_json(key))
    else:
        say(f"revoked client key {key.name} ({key.id})")


def _cells(key: ClientKey) -> tuple[str, ...]:
    use = "admin" if key.admin else "inference"
    times = (key.created_at, key.last_used_at, key.revoked_at)
    return key.name, key.id, use, *map(moment, times), key.fingerprint


def _to_json(key: ClientKey) -> dict[str, Any]:
    names = ("name", "id", "admin", "created_at", "last_used_at", "revoked_at", "fingerprint")
    return {name: getattr(key, name) for name in names}
