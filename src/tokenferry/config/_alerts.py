from collections.abc import Mapping
from typing import Final, get_args
from urllib.parse import urlsplit

from msgspec.structs import replace

from tokenferry.config._files import is_there
from tokenferry.config._providers import VARIABLE
from tokenferry.config_key import ConfigKey
from tokenferry.manifest import depend_on
from tokenferry.providers import Table, is_loopback
from tokenferry.secret import Secret
from tokenferry.settings import AlertKind, AlertSettings

WEBHOOK: Final = ConfigKey(
    'Where alerts are posted: an https address, or http on this machine; "$VARIABLE" if its path is a secret.',
    name="webhook",
    is_optional=True,
)


def read_alerts(table: Table, environ: Mapping[str, str]) -> AlertSettings:
    """Read `[alerts]`."""
    webhook = _webhook(table, environ)
    settings = table.read(AlertSettings())
    if unknown := [kind for kind in settings.on if kind not in get_args(AlertKind)]:
        table.problem("on", f"names {unknown[0]!r}; it may name {', '.join(get_args(AlertKind))}")
    if (secret := settings.secret_file) is not None:
        if webhook is None:
            table.note("secret_file", "signs nothing, for there is no webhook")
        elif not is_there(secret):
            table.note("secret_file", f"is {secret}, which does not exist, so no alert is delivered")
    table.done()
    return replace(settings, webhook=webhook)


def _webhook(table: Table, environ: Mapping[str, str]) -> Secret | None:
    stated: str | None = table.get(WEBHOOK, None)
    if stated is not None and (variable := VARIABLE.fullmatch(stated)):
        depend_on("variable", variable[2])
        stated = environ.get(variable[2])
        if not stated:
            table.note("webhook", f"names {variable[2]}, which is not set, so alerts are only logged")
    if not stated:
        return None
    if fault := _fault(stated):
        table.problem("webhook", fault)
        return None
    return Secret(stated)


def _fault(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        _ = Secret(url)
    except ValueError:
        return "must be a URL in ASCII without blanks"
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
        return "must begin with https://; plain http is for this machine alone"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password; sign alerts with secret_file"
    return None
