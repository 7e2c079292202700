"""Credentials found in other programs, and what importing each would mean."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.accounts._login import ORIGIN, free_name, valid_name
from tokenferry.credentials import CLIENT_KEY_PREFIXES, Credential, OAuthToken
from tokenferry.interchange import Entry, unread_expiry
from tokenferry.providers import Provider
from tokenferry.secret import Fields, Secret
from tokenferry.stores import Account, Document

Action: TypeAlias = Literal["store", "take-over", "attach", "none"]

_CLAUDE_CODES: Final = ("claude-code", "pool")
_OTHERS: Final = {
    "pool": "whatever else uses that pool file",
    "ccm": "claude-code-mux",
    "claude-code": "the Claude Code it was copied from",
    "profile": "ant, and every SDK program with that profile,",
}


class Found(Struct, frozen=True):
    """A credential found, or why none was.

    `source` is a format, or the store or program that has it. `account` is set if it can be attached in place; `hint`
    is a name for another account.
    """

    source: str
    where: str
    entry: Entry
    hint: str
    account: Account | None = None
    is_unread: bool = False
    """There may be a login that can't be read now."""


class Offer(Struct, frozen=True):
    """A found credential as the account it would become. With the action `none` the note says why not."""

    source: str
    where: str
    key: str
    action: Action
    note: str
    account: Account | None = None
    credential: Credential | None = None
    present: str | None = None
    """The account that has this login already."""
    is_limited: bool = False
    limited_until: int | None = None
    """The end of its limit according to a pool, in seconds since 1970 UTC."""

    @property
    def origin(self) -> Fields:
        """Where it is from, for the account's document."""
        refresh = getattr(self.credential, "refresh", None)
        return Fields(source=self.source, where=self.where, refresh=refresh and refresh.sha256)

    def to_json(self) -> dict[str, Any]:
        """Everything but the secrets; times in seconds since 1970 UTC."""
        token = self.credential if isinstance(self.credential, OAuthToken) else None
        return {
            "source": self.source,
            "where": self.where,
            "key": self.key or None,
            "action": self.action,
            "note": self.note,
            "present": self.present,
            "name": self.account and self.account.name,
            "provider": self.account and self.account.provider,
            "owner": self.account and self.account.owner,
            "kind": self.credential and self.credential.kind,
            "fingerprint": self.credential and self.credential.secret.fingerprint,
            "refresh_fingerprint": token and token.refresh and token.refresh.fingerprint,
            "expires_at": self.credential and self.credential.expires_at,
            "email": token and token.email,
            "subscription_type": token and token.subscription_type,
            "is_limited": self.is_limited,
            "limited_until": self.limited_until,
        }


class Holdings:
    """The known logins, by the sha256 of their tokens: those of accounts, and those offered before."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._accounts: dict[str, str] = {}
        self._used: dict[str, str] = {}
        self._offered: dict[str, str] = {}
        self._unread: set[str] = set()
        for document in documents:
            name, origin = document.account.name, document.unknown.get(ORIGIN)
            self._accounts |= dict.fromkeys(_digests(document.credential), name)
            if isinstance(origin, Mapping) and isinstance(origin.get("refresh"), str):
                self._used[origin["refresh"]] = name

    def known(self, credential: Credential) -> tuple[str, str | None] | None:
        """Describe how the login is known, and name the account that has it; None if it is unknown."""
        digests = _digests(credential)
        for one in digests:
            if name := self._accounts.get(one):
                return f"already here as {name}", name
            if name := self._used.get(one):
                return f"used up: taken over before, as {name}", name
        offered = next((self._offered[one] for one in digests if one in self._offered), None)
        return None if offered is None else (f"the same login as in {offered}", None)

    def is_unsure(self, provider: str) -> bool:
        """Whether a login of this provider could not be read, and so may be any."""
        return provider in self._unread

    def note_unread(self, provider: str) -> None:
        """Record that a login of this provider could not be read."""
        self._unread.add(provider)

    def note(self, credential: Credential, where: str) -> None:
        """Record it as offered."""
        for one in _digests(credential):
            self._offered.setdefault(one, where)


def judge(  # noqa: PLR0911  # a list of rules, one return each
    found: Found, holdings: Holdings, providers: Mapping[str, Provider], taken: set[str], now: float
) -> Offer:
    """Make the offer. `taken` are the names of accounts, case-folded; the offer's name is added."""
    entry, credential = found.entry, found.entry.credential
    is_limited = entry.is_limited and (entry.limited_until is None or entry.limited_until > now)
    nothing = Offer(
        *(found.source, found.where, entry.key, "none", entry.fault),
        credential=credential,
        is_limited=is_limited,
        limited_until=entry.limited_until if is_limited else None,
    )
    if found.is_unread and entry.provider:
        holdings.note_unread(entry.provider)
    if credential is None:
        return nothing
    if credential.secret.reveal().startswith(CLIENT_KEY_PREFIXES):
        return replace(nothing, note="a key of tokenferry's own gateway")
    if known := holdings.known(credential):
        return replace(nothing, note=known[0], present=known[1])
    holdings.note(credential, found.where)
    is_profile = found.account is not None and found.account.store != "claude-code"  # whose writer may renew it
    if not is_profile and (fault := _why_dead(credential, now)):
        return replace(nothing, note=fault)
    provider = found.account.provider if found.account else entry.provider
    if not provider:
        return replace(nothing, note="its issuer is unknown; import it by its path with --provider P")
    if provider not in providers:
        return replace(nothing, note=f"provider {provider!r} is not declared; add it under [[providers]]")
    if unfit := _why_unfit(found, credential, providers[provider]):
        return replace(nothing, note=unfit)
    action, note = _meaning(found, credential)
    note += _unread(credential)
    if action == "take-over" and holdings.is_unsure(provider):
        return replace(nothing, note="Claude Code's login can't be read, and this may be a copy of it; fix that first")
    account = found.account or Account("", provider, credential.kind)
    account = replace(account, name=free_name(valid_name(found.hint) or "imported", taken), created_at=int(now))
    taken.add(account.name.casefold())
    return replace(nothing, action=action, note=note, account=account)


def _unread(credential: Credential) -> str:
    field = unread_expiry(credential)
    return "" if field is None else f'; its expiry is unknown, for "{field}" is not a field that is read'


def _why_unfit(found: Found, credential: Credential, provider: Provider) -> str | None:
    """Say why the credential isn't for this provider; None if it can be."""
    is_claude_codes = found.source in _CLAUDE_CODES and isinstance(credential, OAuthToken)
    if is_claude_codes and not provider.suits_claude_code(credential):
        return f"a login of Claude Code, and provider {provider.name!r} is for other credentials"
    return provider.key_fault(credential)


def _meaning(found: Found, credential: Credential) -> tuple[Action, str]:
    if found.account is not None:
        if found.account.store == "claude-code":
            return "attach", "attached: the login stays Claude Code's, and is not copied"
        return "attach", "attached: read where it is, never renewed by tokenferry"
    if getattr(credential, "refresh", None) is not None:
        other = _OTHERS.get(found.source, "whatever else uses it")
        return "take-over", f"taken over: {other} must stop using this login"
    if isinstance(credential, OAuthToken):
        return "store", "stored: works until it expires, for there is no refresh token"
    return "store", "stored: a copy, and both stay valid"


def _why_dead(credential: Credential, now: float) -> str:
    """Say why it has expired and can't be renewed; empty if it works."""
    token = credential if isinstance(credential, OAuthToken) else None
    is_expired = credential.expires_at is not None and credential.expires_at <= now
    if token is not None and token.refresh is not None:
        lapsed = token.refresh_expires_at is not None and token.refresh_expires_at <= now
        return "expired, and its refresh token, too" if is_expired and lapsed else ""
    if is_expired:
        return "expired, and there is no refresh token" if token else "expired"
    return ""


def _digests(credential: Credential) -> tuple[str, ...]:
    """Return the digests that identify a login: of its refresh token, then of its access token."""
    secrets: tuple[Secret | None, ...] = (getattr(credential, "refresh", None), credential.secret)
    return tuple(secret.sha256 for secret in secrets if secret is not None)
