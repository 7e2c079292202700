import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from msgspec.structs import asdict, replace

from tokenferry.providers import Provider, Table
from tokenferry.settings import AccountSettings, Caps, PoolSettings
from tokenferry.stores import ACCOUNT_NAME

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")


def read_pool(table: Table, accounts: Table, providers: Mapping[str, Provider]) -> PoolSettings:
    """Read `[pool]`, the different settings of `[accounts.NAME]`, and the caps of `[[providers]]`."""
    settings = table.read(PoolSettings())
    caps = table.read(Caps())
    header = settings.affinity_header
    if header is not None and not _HEADER.fullmatch(header):
        table.problem("affinity_header", "must be the name of a request header, as in x-conversation-id")
    table.done()
    return replace(
        settings,
        affinity_header=None if header is None else header.lower(),
        caps=caps,
        accounts=MappingProxyType(_accounts(accounts, caps, providers)),
        providers=MappingProxyType({name: one.caps for name, one in providers.items() if one.caps.is_limited}),
    )


def check_command(table: Table, command: Sequence[str]) -> None:
    """Note a fault unless the program is found by its name or path."""
    if command and "/" in command[0] and not command[0].startswith("/"):
        table.problem("command", "must begin with the name of a program, or with an absolute path")


def _accounts(accounts: Table, caps: Caps, providers: Mapping[str, Provider]) -> dict[str, AccountSettings]:
    defaults = AccountSettings(**asdict(caps))
    found: dict[str, AccountSettings] = {}
    for name in accounts.names():
        if not ACCOUNT_NAME.fullmatch(name):
            accounts.problem(name, "can't be an account's name")
        one = accounts.table(name)
        settings = found[name] = one.read(defaults)
        if settings.provider is not None and settings.provider not in providers:
            one.problem(
                "provider", f"names {settings.provider!r}, which is not a provider; known: {', '.join(providers)}"
            )
        if settings.command and settings.provider is None:
            one.problem("provider", "is missing: an account whose key a command prints needs one")
        elif settings.provider is not None and not settings.command:
            one.note("provider", "does nothing without command, which prints the account's key")
        check_command(one, settings.command)
        one.done()
    return found
