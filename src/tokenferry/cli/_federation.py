"""Options of a workload's account, else the variables that the official SDKs read."""

import os
from pathlib import Path
from typing import Final

from msgspec import Struct

from tokenferry.credentials import Federation
from tokenferry.errors import UsageError
from tokenferry.providers import Provider

_VENDORS: Final = ("anthropic", "sandbox")
_VARIABLES: Final = {
    "federation_rule_id": "ANTHROPIC_FEDERATION_RULE_ID",
    "organization_id": "ANTHROPIC_ORGANIZATION_ID",
    "service_account_id": "ANTHROPIC_SERVICE_ACCOUNT_ID",
    "workspace_id": "ANTHROPIC_WORKSPACE_ID",
}
_NEEDED: Final = ("federation_rule_id", "organization_id")
_TOKEN: Final = "ANTHROPIC_IDENTITY_TOKEN"  # noqa: S105  # a variable's name
_TOKEN_FILE: Final = f"{_TOKEN}_FILE"


class Federal(Struct, frozen=True):
    """The options of a workload's account, as given."""

    file: str | None = None
    variable: str | None = None
    parameters: tuple[str, ...] = ()


def federation_of(provider: Provider, given: Federal) -> Federation:
    """The federation that options and variables describe. Raises `UsageError`, which names the missing option."""
    file, variable = given.file, given.variable
    is_vendors = provider.provider_type in _VENDORS
    if file is None and variable is None and is_vendors:
        file = os.environ.get(_TOKEN_FILE) or None
        variable = None if file or not os.environ.get(_TOKEN) else _TOKEN
    if (file is None) == (variable is None):
        raise UsageError(
            "name the identity token with --identity-token-file or --identity-token-variable"
            + (f", or set {_TOKEN_FILE}" if is_vendors else "")
        )
    parameters: dict[str, str] = {}
    if is_vendors:
        parameters = {name: value for name, key in _VARIABLES.items() if (value := os.environ.get(key))}
    for one in given.parameters:
        name, _, value = one.partition("=")
        if not one.isascii() or not one.isprintable():
            raise UsageError(f"--federation takes printable ASCII, not {one!r}")
        if not name or not value:
            raise UsageError(f"--federation takes KEY=VALUE, as in {_NEEDED[0]}=…, not {one!r}")
        parameters[name] = value
    known = parameters.keys() | dict(provider.oauth.federation_parameters).keys()
    missing = [name for name in _NEEDED if name not in known] if is_vendors else []
    if missing:
        ways = " and ".join(f"--federation {name}=… (or {_VARIABLES[name]})" for name in missing)
        raise UsageError(f"the exchange of an identity token needs {ways}")
    absolute = None if file is None else str(Path(file).expanduser().absolute())
    return Federation(absolute, variable, tuple(parameters.items()))
