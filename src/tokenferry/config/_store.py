import re
from typing import Final
from urllib.parse import parse_qs, urlsplit

from tokenferry.config._files import is_there
from tokenferry.providers import Table
from tokenferry.settings import StoreSettings

_FLEET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST: Final = r"(?:\[[^\[\]@]*\]|[^:@,\[\]]*)(?::[0-9]*)?"
_AUTHORITY: Final = re.compile(rf"(?:[^:@]*@)?{_HOST}(?:,{_HOST})*")
_SECRETS: Final = frozenset(("password", "sslpassword"))


def read_store(table: Table) -> StoreSettings:
    """Read `[store]`."""
    settings = table.read(StoreSettings())
    for name, url in (("url", settings.url), ("listen_url", settings.listen_url)):
        if url and (fault := store_url_fault(url)):
            table.problem(name, fault)
    if settings.listen_url and not settings.url:
        table.problem("listen_url", "needs url")
    if not _FLEET.fullmatch(settings.fleet):
        table.problem("fleet", "must be 1 to 64 of A-Z a-z 0-9 . _ -, a letter or digit first")
    if settings.password_file is not None and not is_there(settings.password_file):
        table.note("password_file", f"is {settings.password_file}, which does not exist, so the database can't be used")
    for name in ("unsealed", "password_file"):
        if getattr(settings, name) and not settings.url:
            table.note(name, "does nothing: no url names a database")
    table.done()
    return settings


def store_url_fault(url: str) -> str:
    """Say why a URL can't be used as `[store] url`; empty if it can. It quotes no part of the URL."""
    try:
        parts = urlsplit(url)
        asked = parse_qs(parts.query)
    except ValueError:
        return "must be a URL"
    if parts.scheme not in {"postgresql", "postgres"}:
        return "must begin with postgresql://"
    # A password with / ? or # in it ends the authority, and would be part of a host or a name in messages.
    if _AUTHORITY.fullmatch(parts.netloc) is None or "@" in parts.path + parts.fragment or _SECRETS & asked.keys():
        return "must not hold a password; put it into a file of mode 0600 and name that with password_file"
    return ""
