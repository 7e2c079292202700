"""The pool file `oauth_pool.json`: Claude Code logins by e-mail, as `{"accounts": {EMAIL: {...}}}`.

A bare map of e-mails and a list, bare or under "accounts", are also read, and keep their form.
"""

from collections.abc import Iterator
from typing import Any, Final

from tokenferry.credentials import OAuthToken
from tokenferry.errors import UsageError
from tokenferry.interchange._entry import Entry, refuse_fewer_tokens
from tokenferry.interchange._json import amend, read_expiry, read_scopes, read_secret, read_text, read_time, to_bytes
from tokenferry.secret import Fields, parse_json

_PROVIDER: Final = "claude-max"
_TOKENS: Final = ("accessToken", "refreshToken")
_TIMES: Final = ("expiresAt", "rateLimitResetAt")


def parse_pool(raw: bytes | None) -> tuple[Entry, ...]:
    """Read the accounts, in order; None means a missing file, which is an empty pool.

    Raises `UsageError` if it isn't a pool; a fault of an account is its entry's.
    """
    return tuple(_entry(key, section) for key, section in _sections(_root(raw)))


def looks_like_pool(value: Any) -> bool:
    """Return whether a JSON value can be a pool file."""
    if isinstance(value, Fields) and isinstance(value.get("accounts"), Fields | list):
        return True
    return isinstance(value, Fields | list) and any(_is_account(one) for _, one in _sections(value))


def upsert_pool(
    raw: bytes | None,
    token: OAuthToken,
    *,
    email: str | None = None,
    rate_limited: bool | None = None,
    rate_limit_reset_at: int | None = None,
) -> bytes:
    """Give the pool with this account added or updated, by e-mail, secrets revealed. Everything else stays.

    A `rate_limited` of None keeps the stored limits. Raises `UsageError` if it isn't a pool, without an e-mail, and if
    a refresh token would be lost.
    """
    email = email or token.email
    if not email:
        raise UsageError("the pool file knows its accounts by e-mail, and this one's is not known: name it with --key")
    root = _root(raw)
    accounts = _accounts(root)
    found = next(((key, one) for key, one in _sections(root) if _is_of(email, key, one)), None)
    section = Fields(found[1]) if found else Fields()
    try:
        present, before = _token(section, ""), _meaning(section)
    except UsageError as fault:
        raise UsageError(f"the account {email} in it can't be understood: {fault}") from None
    refuse_fewer_tokens(present, token, f"the account {email} in it")
    wanted = Fields(_meaning_of(token), email=email)
    if rate_limited is not None:
        wanted.update(rateLimited=rate_limited or None, rateLimitResetAt=rate_limit_reset_at)
    new = amend(section, before, wanted, dict.fromkeys(_TIMES, _milliseconds))
    if isinstance(accounts, Fields):
        accounts[found[0] if found else email] = new
    elif found:
        accounts[next(place for place, one in enumerate(accounts) if one is found[1])] = new
    else:
        accounts.append(new)
    return to_bytes(root)


def _root(raw: bytes | None) -> Any:
    value = Fields(accounts=Fields()) if raw is None or not raw.strip() else parse_json(raw)
    accounts = value.get("accounts", value) if isinstance(value, Fields) else value
    if isinstance(accounts, Fields):
        is_pool = "accounts" not in value or all(isinstance(one, Fields) for one in accounts.values())
    else:
        is_pool = isinstance(accounts, list) and all(isinstance(one, Fields) for one in accounts)
    if not is_pool:
        del value, accounts
        raise UsageError("it isn't JSON of accounts by e-mail")
    return value


def _accounts(root: Any) -> Any:
    """Give the part of a document with the accounts, which may be the whole document."""
    if isinstance(root, Fields) and "accounts" not in root and not any(True for _ in _sections(root)):
        root["accounts"] = Fields()
    return root["accounts"] if isinstance(root, Fields) and "accounts" in root else root


def _sections(root: Any) -> Iterator[tuple[str, Fields]]:
    """Yield each account with its key. In a bare map only entries that look like an account count."""
    if isinstance(root, Fields) and "accounts" in root:
        root = root["accounts"]
    elif isinstance(root, Fields):
        root = Fields((key, one) for key, one in root.items() if _is_account(one))
    if isinstance(root, Fields):
        yield from root.items()
    else:
        for place, one in enumerate(root, 1):
            yield read_text(one, "email") or str(place), one


def _is_account(value: Any) -> bool:
    return isinstance(value, Fields) and any(key in value for key in _TOKENS)


def _is_of(email: str, key: str, section: Fields) -> bool:
    return email.casefold() in {key.casefold(), (read_text(section, "email") or "").casefold()}


def _entry(key: str, section: Fields) -> Entry:
    try:
        token = _token(section, key)
        until = read_time(section, "rateLimitResetAt")
    except UsageError as fault:
        return Entry(key, fault=str(fault), provider=_PROVIDER)
    if token is None:
        return Entry(key, fault="logged out: both tokens are blank", provider=_PROVIDER)
    return Entry(key, token, "", _PROVIDER, _is_limited(section), until)


def _token(section: Fields, key: str) -> OAuthToken | None:
    access, refresh = (read_secret(section, name) for name in _TOKENS)
    if access is None:
        if refresh is not None:
            raise UsageError('"accessToken" is blank, though "refreshToken" is not')
        return None
    return OAuthToken(
        access,
        refresh,
        expires_at=read_expiry(section) or None,
        scopes=read_scopes(section, "scopes"),
        subscription_type=read_text(section, "subscriptionType"),
        rate_limit_tier=read_text(section, "rateLimitTier"),
        email=read_text(section, "email") or (key if "@" in key else None),
    )


def _meaning(section: Fields) -> Fields:
    token = _token(section, "")
    return Fields(
        {} if token is None else _meaning_of(token),
        email=read_text(section, "email"),
        rateLimited=_is_limited(section) or None,
        rateLimitResetAt=read_time(section, "rateLimitResetAt"),
    )


def _meaning_of(token: OAuthToken) -> Fields:
    known_fields = {
        "scopes": list(token.scopes) or None,
        "subscriptionType": token.subscription_type,
        "rateLimitTier": token.rate_limit_tier,
    }
    return Fields(
        accessToken=token.secret.reveal(),
        refreshToken=token.refresh.reveal() if token.refresh else "",
        expiresAt=token.expires_at or 0,  # its readers want a number; 0 says that it isn't known
        **{key: value for key, value in known_fields.items() if value is not None},  # what we don't know is no news
    )


def _is_limited(section: Fields) -> bool:
    return section.get("rateLimited") is True


def _milliseconds(seconds: int) -> int:
    return seconds * 1000
