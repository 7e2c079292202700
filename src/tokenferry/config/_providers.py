import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tokenferry.config._files import is_there
from tokenferry.credentials import ApiKey
from tokenferry.errors import UnsafeFile
from tokenferry.providers import Provider, Table, builtin_providers, declare
from tokenferry.secret import Secret
from tokenferry.stores import ACCOUNT_NAME, read_private_file

_VARIABLE: Final = re.compile(r"\$(\{)?([A-Za-z_][A-Za-z0-9_]*)(?(1)\})")


def read_providers(
    tables: Iterable[Table], path: Path, environ: Mapping[str, str], warnings: list[str]
) -> tuple[dict[str, Provider], dict[str, ApiKey]]:
    builtin = builtin_providers()
    declared: dict[str, Provider] = {}
    keys: dict[str, ApiKey] = {}
    for table in tables:
        provider = declare(table, builtin)
        key = _api_key(table, path, environ, warnings)
        if provider and "api_key" in table and not ACCOUNT_NAME.fullmatch(provider.name):
            table.problem("name", "with an api_key also names an account: letters, digits and . _ @ + - only")
        if provider and key:
            keys[provider.name] = key
        if table.ignore("models"):
            warnings.append(f"{path}: {table.path}.models accepted but without effect: this version does not route")
        table.done()
        if provider is None:
            continue
        if provider.name in declared:
            table.problem("name", "is declared twice; give each provider a name of its own")
        declared[provider.name] = provider
    return {**declared, **{name: one for name, one in builtin.items() if name not in declared}}, keys


def _api_key(table: Table, path: Path, environ: Mapping[str, str], warnings: list[str]) -> ApiKey | None:
    """`api_key = "$VAR"` or the path of a 0600 file; never the key itself."""
    where = table.text("api_key")
    if where is None:
        return None
    value: str | None
    if variable := _VARIABLE.fullmatch(where):
        value = environ.get(variable[2])
        if not value:
            warnings.append(f"{path}: {table.path}.api_key: {variable[2]} is not set, so that account is missing")
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
                f"a key itself does not belong here{reason}",
            )
            return None
    try:
        return ApiKey(Secret(value.strip()))
    except ValueError as fault:
        table.problem("api_key", f"leads to no usable key: {fault}")
        return None
