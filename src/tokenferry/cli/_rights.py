"""The rights of a client key as a command line gives them, and as they are shown."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, TypeAlias

import typer

from tokenferry.actions import KnownNames
from tokenferry.cli._complete import account_names, model_names, provider_names
from tokenferry.cli._home import open_broker
from tokenferry.databases import has_state, open_state
from tokenferry.errors import TokenferryError, UsageError
from tokenferry.settings import Caps, Home
from tokenferry.state import KEY_CAPS, Rights, key_caps

Models: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="A model it may ask for, * for any characters; may be repeated.",
        show_default=False,
        autocompletion=model_names,
    ),
]
Providers: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="A provider that may serve it; may be repeated.",
        show_default=False,
        autocompletion=provider_names,
    ),
]
Accounts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--account",
        metavar="NAME",
        help="An account that may serve it; may be repeated.",
        show_default=False,
        autocompletion=account_names,
    ),
]
Pin: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--pin",
        metavar="ACCOUNT",
        help="The one account that serves it, and no other.",
        show_default=False,
        autocompletion=account_names,
    ),
]

Rpm: TypeAlias = Annotated[
    float | None,
    typer.Option("--rpm", metavar="N", help="Requests a minute; 0 is no limit.", min=0, show_default=False),
]
Tpm: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--tpm",
        metavar="N",
        help="Tokens a minute: input, cache writes and output; 0 is no limit.",
        min=0,
        show_default=False,
    ),
]
Concurrency: TypeAlias = Annotated[
    int | None,
    typer.Option("--max-concurrency", metavar="N", help="Requests at a time; 0: no limit.", min=0, show_default=False),
]


Budgets: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="LIMIT",
        help="How much it may use: 20usd/day, 1Mtokens/week; may be repeated.",
        show_default=False,
    ),
]


def changed(
    *,
    models: Sequence[str] | None,
    providers: Sequence[str] | None,
    accounts: Sequence[str] | None,
    pin: str | None,
    freed: Iterable[str] = (),
) -> Callable[[Rights], Rights]:
    """What makes of a key's rights the ones asked for; `freed` names those that shall be without limit.

    Raises, when called, `UnknownName` and `UsageError`.
    """
    given: dict[str, Any] = {
        name: tuple(dict.fromkeys(value))
        for name, value in (("models", models), ("providers", providers), ("accounts", accounts))
        if value
    }
    if pin is not None:
        given["pin"] = pin
    for name in freed:
        if name in given:
            option = name.removesuffix("s")
            raise UsageError(f"--{option} and its opposite contradict each other; give one of them")
    given |= {name: None if name == "pin" else () for name in freed}
    known = KnownNames.of(open_broker()) if given.keys() & {"providers", "accounts", "pin"} else None

    def change(rights: Rights) -> Rights:
        values = {name: getattr(rights, name) for name in ("models", "providers", "accounts", "pin")}
        new = Rights(**{**values, **given})
        if known is not None:
            known.check(new)
        return new

    return change


def limited(rpm: float | None, tpm: float | None, concurrency: int | None) -> Callable[[Caps], Caps]:
    """What makes of a key's caps the ones asked for; None leaves one as it is."""
    given = {name: most for name, most in zip(KEY_CAPS, (rpm, tpm, concurrency), strict=True) if most is not None}
    return lambda caps: key_caps(**{name: getattr(caps, name) for name in KEY_CAPS} | given)


def caps_json(caps: Caps) -> dict[str, float | None]:
    """Null is no limit."""
    return {name: getattr(caps, name) or None for name in KEY_CAPS}


def keys_bound_to(account: str) -> tuple[str, ...]:
    """The client keys of this home that the account alone may serve; none where the keys can't be read."""
    home = Home.from_environment()
    if not has_state(home):
        return ()
    with contextlib.suppress(TokenferryError), open_state(home) as state:
        return state.keys.bound_to(account)
    return ()


def rights_words(rights: Rights) -> str:
    """All of it in a cell of a table."""
    parts = [
        f"{what}={'|'.join(names)}"
        for what, names in (("models", rights.models), ("providers", rights.providers), ("accounts", rights.accounts))
        if names
    ]
    if rights.pin is not None:
        parts.append(f"pin={rights.pin}")
    return ",".join(parts) or "-"


def rights_json(rights: Rights) -> dict[str, Any]:
    """Empty lists allow everything."""
    return {
        "models": list(rights.models),
        "providers": list(rights.providers),
        "accounts": list(rights.accounts),
        "pin": rights.pin,
    }
