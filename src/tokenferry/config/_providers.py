import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from tokenferry.config._files import is_there
from tokenferry.config._foreign import ignore
from tokenferry.config._pool import check_command
from tokenferry.config_key import ConfigKey
from tokenferry.credentials import ApiKey
from tokenferry.errors import UnsafeFile
from tokenferry.manifest import depend_on
from tokenferry.providers import Provider, Table, account_of_key, builtin_providers, declare, indistinct
from tokenferry.secret import parse_secret
from tokenferry.stores import ACCOUNT_NAME, read_private_file

_FOREIGN: Final = ("rate_limit_max_wait_ms", "supported_beta_options")
API_KEY: Final = ConfigKey(
    'Makes an account of the provider\'s name: "$VARIABLE", or the path of a 0600 file.',
    example='"$ZAI_API_KEY"',
    name="api_key",
)
_TWO_VENDORS: Final = "whose credential a client sends couldn't be distinguished"
VARIABLE: Final = re.compile(r"\$(\{)?([A-Za-z_][A-Za-z0-9_]*)(?(1)\})")


def read_providers(
    root: Table, path: Path, environ: Mapping[str, str], packaged: Mapping[str, Provider]
) -> tuple[dict[str, Provider], dict[str, ApiKey]]:
    """Give the providers, and the keys that they name. `packaged` are those that packages declare."""
    builtin = {**builtin_providers(), **packaged}
    declared: dict[str, Provider] = {}
    keys: dict[str, ApiKey] = {}
    for table in root.tables("providers"):
        provider = declare(table, builtin)
        key = _api_key(table, path, environ, is_enabled=provider is None or provider.enabled)
        if provider is not None:
            provider = _with_google_file(provider, path)
            _check_keys(table, provider, keys)
        if provider and key:
            if fault := provider.key_fault(key):
                table.note("api_key", f"leads to another key: {fault}, so that account is missing")
            else:
                keys[provider.name] = key
        ignore(table, _FOREIGN)
        ignore(table, ("rate_limit_rpm",), instead="write requests_per_minute")
        table.done()
        if provider is None:
            continue
        if provider.name in declared:
            table.problem("name", "is declared twice; give each provider a name of its own")
        _note_format(table, provider)
        declared[provider.name] = provider
    if doubtful := indistinct(declared.values()):
        root.problem("providers", f"with passthrough must be of one vendor: {_TWO_VENDORS} ({', '.join(doubtful)})")
    return {**declared, **{name: one for name, one in builtin.items() if name not in declared}}, keys


def _with_google_file(provider: Provider, config: Path) -> Provider:
    """Give the provider with the absolute path of its file, relative to the configuration."""
    if provider.google_credentials in {None, "default"}:
        return provider
    named = Path(provider.google_credentials or "")
    try:
        return replace(provider, google_credentials=str(config.parent.absolute() / named.expanduser()))
    except RuntimeError:
        return provider


def _check_keys(table: Table, provider: Provider, keys: Mapping[str, ApiKey]) -> None:
    """Note a fault unless the provider's table names at most one source of a key, and one that it accepts."""
    given = [
        name
        for name, is_given in (
            ("api_key", "api_key" in table),
            ("command", provider.command),
            ("google_credentials", provider.google_credentials),
        )
        if is_given
    ]
    if not given:
        return
    _check_account(table, provider, keys)
    check_command(table, provider.command)
    for other in given[1:]:
        table.problem(other, f"and {given[0]} say the same thing; keep one of them")
    if provider.oauth.token_exchange:
        table.problem(given[0], f"can't be exchanged; take it out, and run: tokenferry account add {provider.name}")


def _note_format(table: Table, provider: Provider) -> None:
    if not provider.enabled or provider.serves_mapped:
        return
    address = "give it the address of its API, as in https://api.openai.com/v1"
    table.note("base_url", f"is missing, so the provider is declared and not served; {address}")


def _check_account(table: Table, provider: Provider, keys: Mapping[str, ApiKey]) -> None:
    """Note a fault if the account of the `api_key` can't have a name of its own."""
    name = provider.key_account
    if not ACCOUNT_NAME.fullmatch(name):
        table.problem("name", "with an api_key also names an account: letters, digits and . _ @ + - only")
    elif any(name == account_of_key(other) for other in keys if other != provider.name):
        table.problem("name", f"with an api_key also names an account, {name}, as another provider's does")
    elif name != provider.name:
        table.note("api_key", f"makes the account {name}")


def _api_key(table: Table, path: Path, environ: Mapping[str, str], *, is_enabled: bool) -> ApiKey | None:
    """Read `api_key`: `"$VAR"` or the path of a 0600 file, never the key itself."""
    where = table.get(API_KEY, None)
    if where is None:
        return None
    value: str | None
    if variable := VARIABLE.fullmatch(where):
        depend_on("variable", variable[2])
        value = environ.get(variable[2])
        if not value:
            if is_enabled:
                table.note("api_key", f"names {variable[2]}, which is not set, so that account is missing")
            return None
    else:
        try:
            value = read_private_file(path.parent / Path(where).expanduser()).decode("ascii", "replace")
        except (OSError, RuntimeError, UnsafeFile, ValueError) as fault:
            # What names no file may be a key, so only the path of one that is there is shown.
            reason = f"; {fault}" if isinstance(fault, UnsafeFile) and is_there(path.parent / where) else ""
            table.problem(
                "api_key",
                'must be "$VARIABLE" or the path of a file that can be read; '
                f"a key itself does not belong here, but into an account: tokenferry import PATH-OF-THIS-FILE{reason}",
            )
            return None
    try:
        return ApiKey(parse_secret(value))
    except ValueError as fault:
        table.problem("api_key", f"leads to no usable key: {fault}")
        return None
