"""The rights of a client key: options, and how they are shown."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeAlias

import typer

from tokenferry.cli._complete import account_names, model_names, provider_names
from tokenferry.errors import UsageError
from tokenferry.settings import Caps
from tokenferry.state import KEY_CAPS, Rights

Models: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Allow only this model; * matches any characters; may be repeated.",
        show_default=False,
        autocompletion=model_names,
    ),
]
Providers: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="Allow only this provider; may be repeated.",
        show_default=False,
        autocompletion=provider_names,
    ),
]
Accounts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--account",
        metavar="NAME",
        help="Allow only this account; may be repeated.",
        show_default=False,
        autocompletion=account_names,
    ),
]
Pin: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--pin",
        metavar="ACCOUNT",
        help="Let only this account serve the key.",
        show_default=False,
        autocompletion=account_names,
    ),
]

Rpm: TypeAlias = Annotated[
    float | None,
    typer.Option("--rpm", metavar="N", help="Requests per minute; 0 means no limit.", min=0, show_default=False),
]
Tpm: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--tpm",
        metavar="N",
        help="Tokens per minute (input, cache writes and output); 0 means no limit.",
        min=0,
        show_default=False,
    ),
]
Concurrency: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--max-concurrency", metavar="N", help="Concurrent requests; 0 means no limit.", min=0, show_default=False
    ),
]


Budgets: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="LIMIT",
        help="A spending limit: 20usd/day, 1Mtokens/week; may be repeated.",
        show_default=False,
    ),
]


def given_rights(
    *,
    models: Sequence[str] | None,
    providers: Sequence[str] | None,
    accounts: Sequence[str] | None,
    pin: str | None,
    freed: Iterable[str] = (),
) -> dict[str, Any]:
    """The given rights. `freed` names those to lift. Raises `UsageError`."""
    lists = (("models", models), ("providers", providers), ("accounts", accounts))
    given: dict[str, Any] = {name: list(dict.fromkeys(value)) for name, value in lists if value}
    if pin is not None:
        given["pin"] = pin
    for name in freed:
        if name in given:
            option = name.removesuffix("s")
            raise UsageError(f"--{option} and its opposite exclude each other; give one of them")
    return given | dict.fromkeys(freed)


def given_limits(rpm: float | None, tpm: float | None, concurrency: int | None) -> dict[str, Any]:
    """The given limits; 0 lifts one."""
    return {name: most for name, most in zip(KEY_CAPS, (rpm, tpm, concurrency), strict=True) if most is not None}


def caps_json(caps: Caps) -> dict[str, float | None]:
    """Limits as JSON; null is no limit."""
    return {name: getattr(caps, name) or None for name in KEY_CAPS}


def rights_json(rights: Rights) -> dict[str, Any]:
    """Rights as JSON; an empty list allows everything."""
    return {
        "models": list(rights.models),
        "providers": list(rights.providers),
        "accounts": list(rights.accounts),
        "pin": rights.pin,
    }
