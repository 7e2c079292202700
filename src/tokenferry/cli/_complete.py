"""Shell completion of accounts, providers, models and client keys. Unreadable files complete nothing."""

import contextlib
from collections.abc import Iterable
from typing import Annotated, TypeAlias

import typer

from tokenferry.databases import has_state, open_state
from tokenferry.errors import TokenferryError


def account_names(incomplete: str) -> list[str]:
    from tokenferry.broker import Broker  # noqa: PLC0415  # as above
    from tokenferry.cli._home import find  # noqa: PLC0415  # only completion needs it

    with contextlib.suppress(TokenferryError):
        return _starting(incomplete, Broker.from_home(*find()).book.names())
    return []


def provider_names(incomplete: str) -> list[str]:
    from tokenferry.cli._home import find  # noqa: PLC0415  # as above

    with contextlib.suppress(TokenferryError):
        return _starting(incomplete, find()[1].providers)
    return []


def preset_names(incomplete: str) -> list[str]:
    from tokenferry.providers import presets  # noqa: PLC0415  # as above

    return _starting(incomplete, presets())


def providers_and_presets(incomplete: str) -> list[str]:
    return sorted({*provider_names(incomplete), *preset_names(incomplete)})


def model_names(incomplete: str) -> list[str]:
    from tokenferry.cli._home import find  # noqa: PLC0415  # as above

    with contextlib.suppress(TokenferryError):
        return _starting(incomplete, [one.name for one in find()[1].models])
    return []


def key_names(incomplete: str) -> list[str]:
    from tokenferry.settings import Home  # noqa: PLC0415  # as above

    with contextlib.suppress(TokenferryError):
        home = Home.from_environment()
        if has_state(home):
            with open_state(home) as state:
                return _starting(incomplete, [one.name for one in state.keys.list() if one.revoked_at is None])
    return []


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


AccountName: TypeAlias = Annotated[
    str, typer.Argument(metavar="NAME", help="The account.", show_default=False, autocompletion=account_names)
]
OptionalAccountName: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="NAME", help="The account.", show_default=False, autocompletion=account_names)
]
ProviderName: TypeAlias = Annotated[
    str, typer.Argument(metavar="NAME", help="The provider.", show_default=False, autocompletion=provider_names)
]
ModelName: TypeAlias = Annotated[
    str, typer.Argument(metavar="NAME", help="The name.", show_default=False, autocompletion=model_names)
]
KeyName: TypeAlias = Annotated[
    str, typer.Argument(metavar="NAME", help="Its name or id.", show_default=False, autocompletion=key_names)
]
