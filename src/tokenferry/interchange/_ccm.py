"""The files of claude-code-mux: `oauth_tokens.json`, logins by provider id, and its `config.toml`, which names keys."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from tokenferry.credentials import SETUP_TOKEN_PREFIX, ApiKey, OAuthToken
from tokenferry.errors import UsageError
from tokenferry.interchange._entry import Entry, refuse_fewer_tokens
from tokenferry.interchange._json import amend, read_expiry, read_secret, read_text, rfc3339, to_bytes
from tokenferry.secret import Fields, decode_text, parse_object, parse_secret

_VARIABLE: Final = re.compile(r"\$(\{)?([A-Za-z_][A-Za-z0-9_]*)(?(1)\})")
_OWN: Final = ("enterprise_url", "project_id")
_ANTHROPIC: Final = "anthropic"
_VENDOR_URL: Final = "https://api.anthropic.com"


def parse_ccm(raw: bytes | None) -> tuple[Entry, ...]:
    """Read the logins, in order; None means a missing file. Raises `UsageError` for another format.

    An `enterprise_url` and a `project_id` are stored with the login.
    """
    return tuple(_entry(key, section) for key, section in _root(raw).items())


def looks_like_ccm(value: Any) -> bool:
    """Return whether a JSON value can be an `oauth_tokens.json`."""
    is_map = isinstance(value, Fields) and bool(value)
    return is_map and all(isinstance(one, Fields) and "access_token" in one for one in value.values())


def upsert_ccm(raw: bytes | None, token: OAuthToken, provider_id: str) -> bytes:
    """Give the file with this login added or updated, secrets revealed. Everything else stays.

    Raises `UsageError` for another format, and if a refresh token would be lost.
    """
    root = _root(raw)
    section = root.get(provider_id, Fields())
    try:
        before = _meaning(section)
    except UsageError as fault:
        raise UsageError(f"the login {provider_id} in it can't be understood: {fault}") from None
    refuse_fewer_tokens(_token(section), token, f"the login {provider_id} in it")
    if token.expires_at is None:
        raise UsageError("the file wants an expiry for every login, and this one's is not known")
    wanted = Fields(_meaning_of(token), provider_id=provider_id)
    root[provider_id] = amend(section, before, wanted, {"expires_at": rfc3339})
    return to_bytes(root)


def parse_ccm_config(raw: bytes, environ: Mapping[str, str]) -> tuple[Entry, ...]:
    """Read the keys of its `[[providers]]`, by variable or literal. Raises `UsageError` if it is not valid TOML."""
    return tuple(_key(table, environ) for table in _tables(raw) if "api_key" in table)


def ccm_login_providers(raw: bytes) -> Mapping[str, str]:
    """Give, by the id of a login, our provider for the `[[providers]]` that use it. Raises `UsageError`."""
    return {
        login: _provider_of(table, "claude-max")
        for table in _tables(raw)
        if (login := read_text(table, "oauth_provider")) is not None
    }


def _root(raw: bytes | None) -> Fields:
    root = Fields() if raw is None or not raw.strip() else parse_object(raw)
    if root is None or not all(isinstance(one, Fields) for one in root.values()):
        raise UsageError("it isn't a JSON object of logins by provider id")
    return root


def _entry(key: str, section: Fields) -> Entry:
    try:
        token = _token(section)
    except UsageError as fault:
        return Entry(key, fault=str(fault))
    if token is None:
        return Entry(key, fault="logged out: both tokens are blank")
    is_claude = token.secret.reveal().startswith(SETUP_TOKEN_PREFIX)
    return Entry(key, token, provider="claude-max" if is_claude else key)


def _token(section: Fields) -> OAuthToken | None:
    access, refresh = read_secret(section, "access_token"), read_secret(section, "refresh_token")
    if access is None:
        if refresh is not None:
            raise UsageError('"access_token" is blank, though "refresh_token" is not')
        return None
    known_fields = Fields((key, section[key]) for key in _OWN if read_text(section, key))
    return OAuthToken(access, refresh, expires_at=read_expiry(section), unknown=known_fields)


def _meaning(section: Fields) -> Fields:
    token = _token(section)
    return Fields({} if token is None else _meaning_of(token), provider_id=read_text(section, "provider_id"))


def _meaning_of(token: OAuthToken) -> Fields:
    return Fields(
        access_token=token.secret.reveal(),
        refresh_token=token.refresh.reveal() if token.refresh else "",
        expires_at=token.expires_at,
        **{key: token.unknown[key] for key in _OWN if read_text(token.unknown, key)},
    )


def _tables(raw: bytes) -> Iterator[Fields]:
    try:
        tables = tomllib.loads(decode_text(raw)).get("providers", [])
    except (ValueError, RecursionError):
        tables = None  # a parser's error carries the text that it failed on
    if not isinstance(tables, list):
        del tables
        raise UsageError("it is not valid TOML with [[providers]]")
    yield from (Fields(table) for table in tables if isinstance(table, dict))


def _key(table: Fields, environ: Mapping[str, str]) -> Entry:
    name = read_text(table, "name") or ""
    provider = _provider_of(table, _ANTHROPIC)
    text = read_text(table, "api_key") or ""
    if variable := _VARIABLE.fullmatch(text):
        text = environ.get(variable[2], "")
        if not text:
            return Entry(name, fault=f"{variable[2]} is not set", provider=provider)
    try:
        return Entry(name, ApiKey(parse_secret(text)), provider=provider)
    except ValueError as fault:
        del text
        return Entry(name, fault=f'"api_key": {fault}', provider=provider)


def _provider_of(table: Fields, ours: str) -> str:
    """Give the provider that a table means: ours if it is the vendor's own API, else one with the table's name."""
    try:
        is_vendors = urlsplit(read_text(table, "base_url") or _VENDOR_URL).hostname == urlsplit(_VENDOR_URL).hostname
    except ValueError:
        is_vendors = False
    return ours if read_text(table, "provider_type") == _ANTHROPIC and is_vendors else read_text(table, "name") or ""
