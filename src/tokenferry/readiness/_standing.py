"""The state of an account: a word for programs, a sentence for people."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from tokenferry.accounts import CONFIGURATION, ENVIRONMENT, Aging, aging, too_old_at
from tokenferry.broker import Broker
from tokenferry.config_key import format_duration
from tokenferry.credentials import Credential, ExchangedToken, FederatedToken, OAuthToken
from tokenferry.errors import NeedsUnlock, TokenferryError, UnknownAccount, UnsafeFile
from tokenferry.readiness._cooldowns import active_cooldowns, ends, models
from tokenferry.refresh import RefreshAttempt, RefreshFailure, log_in_again, seconds_left
from tokenferry.state import Cooldown
from tokenferry.stores import COMMAND, GOOGLE, Account, Document, Header, ProcessIdentity, Sealable
from tokenferry.units import moment, span

AccountState: TypeAlias = Literal[
    "fresh",
    "expired",
    "refreshing",
    "backing-off",
    "uncertain",
    "copied",
    "limited",
    "refused",
    "needs-login",
    "locked",
    "broken",
]
Standing: TypeAlias = tuple[AccountState, str]

Tell: TypeAlias = Callable[[str], None]
Known: TypeAlias = tuple[list[Cooldown], Mapping[str, str]]

_MOST_TRIES: Final = 2
_QUIET: Final = frozenset(("fresh", "expired", "refreshing", "backing-off", "uncertain", "limited"))
"""States in which an account works, or recovers by itself."""
TONES: Final[Mapping[str, Literal["warning", "bad"]]] = {
    "needs-login": "bad",
    "broken": "bad",
    "refused": "bad",
    "limited": "warning",
    "locked": "warning",
    "copied": "warning",
    "uncertain": "warning",
    "backing-off": "warning",
}
"""How serious a state is, by `AccountState`; those that are missing need no look."""
_BILLED: Final = "overage"  # it serves all the same
_OF_CREDENTIALS: Final = ("refused", "claude-code-only")
_RENEWS: Final = "expired, refreshed at its next use"
_PLACES: Final = {
    ENVIRONMENT: "from the environment",
    CONFIGURATION: "from config",
    COMMAND: "from a command",
    GOOGLE: "from Google",
}


def unheard(_: str) -> None:
    """Drop a sentence."""


class AccountRow(Struct, frozen=True):
    """An account as listings show it. `text` is the state for people, `note` has further remarks."""

    name: str
    state: AccountState
    text: str
    is_active: bool = False
    note: str = ""
    document: Document | None = None
    fault: TokenferryError | None = None
    profiles: tuple[str, ...] = ()
    """The profiles of the official SDKs that it is published as."""
    aging: Aging | None = None
    """The end of its credential, if renewal doesn't postpone it."""
    header: Header | None = None
    """The clear header of a sealed account that can't be opened now."""
    limit: Cooldown | None = None
    """The cooldown that its text is about: the longest for all models, else the longest for some."""

    @property
    def word(self) -> str:
        """The state for people: `paused` and, also if only for some models, `limited` take precedence over `fresh`."""
        if self.is_paused and self.state in _QUIET:
            return "paused"
        return self.state if self.limit is None else "limited"

    @property
    def is_paused(self) -> bool:
        return self.document is not None and self.document.account.paused

    @property
    def until(self) -> int | None:
        """When the state that `word` names ends by itself, in seconds since 1970 UTC; None if unknown."""
        if self.word == "paused" and self.document is not None:
            return self.document.account.paused_until
        return self.limit.until if self.word == "limited" and self.limit is not None else None

    @property
    def credential(self) -> Credential | None:
        return self.document.credential if self.document else None

    def to_json(self) -> dict[str, Any]:
        """Everything but the secrets; times in seconds since 1970 UTC."""
        data: dict[str, Any] = {"name": self.name, "state": self.state, "text": self.text, "active": self.is_active}
        if self.header is not None:
            account = self.header.account
            return data | {
                "provider": account.provider,
                "kind": account.kind,
                "owner": account.owner,
                "fingerprint": self.header.fingerprint,
                "expires_at": self.header.expires_at,
            }
        if self.document is None:
            return data
        account, credential = self.document.account, self.document.credential
        data |= {
            "note": self.note or None,
            "provider": account.provider,
            "kind": account.kind,
            "owner": account.owner,
            "store": account.store,
            "priority": account.priority,
            "paused": account.paused,
            "paused_until": account.paused_until,
            "labels": dict(account.labels),
            "profiles": list(self.profiles),
            "created_at": account.created_at or None,
            "fingerprint": credential.secret.fingerprint,
            "expires_at": credential.expires_at,
            "max_age": account.max_age,
            "aging": None if self.aging is None else _aging_json(self.aging, time.time()),
        }
        if isinstance(credential, OAuthToken):
            data |= {
                "obtained_at": credential.obtained_at,
                "refresh_fingerprint": credential.refresh and credential.refresh.fingerprint,
                "refresh_expires_at": credential.refresh_expires_at,
                "scopes": list(credential.scopes),
                "email": credential.email,
                "subscription_type": credential.subscription_type,
                "source": credential.source,
            }
        if isinstance(credential, ExchangedToken):
            data |= {"subject_fingerprint": credential.subject.fingerprint, "endpoint": credential.endpoint}
        if isinstance(credential, FederatedToken):
            federation = credential.federation
            data |= {
                "identity_token_file": federation.file,
                "identity_token_variable": federation.variable,
                "federation": dict(federation.parameters),
            }
        return data


def account_rows(broker: Broker, now: float | None = None, *, tell: Tell = unheard) -> list[AccountRow]:
    """Return every account in order, then unreadable ones with the reason.

    `tell` gets a sentence about anything else that can't be read.
    """
    active = active_account(broker, tell)
    listing, documents = broker.book.read_all()
    known = _cooldowns(broker, now, tell)
    rows = (_row(broker, one.name, active, now, known, document=documents.get(one.name)) for one in listing.accounts)
    found = [row for row in rows if row is not None]
    broken = [_broken(broker, name, active, fault) for name, fault in listing.broken.items()]
    return [*found, *broken]


def account_row(broker: Broker, name: str, now: float | None = None, *, tell: Tell = unheard) -> AccountRow:
    """Return one account. Raises `UnknownAccount`, `UnsafeFile`, `CorruptFile`."""
    return _describe(broker, broker.book.read(name), active_account(broker, tell), now, _cooldowns(broker, now, tell))


def active_account(broker: Broker, tell: Tell = unheard) -> str | None:
    """Return the account in `use`; None if the file can't be trusted, and `tell` gets the reason."""
    try:
        return broker.book.active()
    except TokenferryError as fault:
        tell(str(fault))
        return None


def _cooldowns(broker: Broker, now: float | None, tell: Tell) -> Known:
    """Return the active cooldowns and the accounts' organizations; empty if they can't be read."""
    if broker.home is None:
        return [], {}
    try:
        return active_cooldowns(broker.home, time.time() if now is None else now)
    except TokenferryError as fault:
        tell(str(fault))
        return [], {}


def _row(
    broker: Broker, name: str, active: str | None, now: float | None, known: Known, *, document: Document | None
) -> AccountRow | None:
    try:
        return _describe(broker, document or broker.book.read(name), active, now, known)
    except UnknownAccount:
        return None  # removed since the listing was made
    except TokenferryError as fault:
        return _broken(broker, name, active, fault)


def _broken(broker: Broker, name: str, active: str | None, fault: TokenferryError) -> AccountRow:
    store = broker.book.store
    if isinstance(fault, NeedsUnlock | UnsafeFile) and isinstance(store, Sealable):
        with contextlib.suppress(TokenferryError):
            header = store.header(name)
            return AccountRow(name, "locked", f"locked: {fault}", name == active, fault=fault, header=header)
    return AccountRow(name, "broken", f"broken: {fault}", is_active=name == active, fault=fault)


def _describe(broker: Broker, document: Document, active: str | None, now: float | None, known: Known) -> AccountRow:
    account = broker.book.effective(document.account)
    document = replace(document, account=account)
    now = time.time() if now is None else now
    is_active = account.name == active
    try:
        broker.provider_of(account)
        attempt = broker.journal.attempt(account.name)
    except TokenferryError as fault:
        return AccountRow(account.name, "broken", f"broken: {fault}", is_active, document=document, fault=fault)
    failure = broker.journal.failure(account.name)
    against = _against(account.name, known)
    is_gone = broker.backend.is_gone
    refused = any(_is_refused(one, document) for one in against)
    state, text = standing(document, attempt, failure, broker.machine, now, is_refused=refused, is_gone=is_gone)
    if _is_too_old(document, now):
        state, text = "needs-login", "older than its account allows"
    limit = _limit(against) if state == "fresh" else None
    if limit is not None and limit.scope.family:
        text = f"limited {ends(limit, now)}{models(limit)}; {text}"
    elif limit is not None:
        state, text = "limited", f"limited {ends(limit, now)}: {limit.evidence.rstrip('.') or limit.cause}"
    is_quiet = state in _QUIET
    if account.paused and is_quiet:
        text = f"{_pause(account, now)}; {text}"
    remarks = [_pause(account, now)] if account.paused and not is_quiet else []
    remarks += [_PLACES[account.store]] if account.store in _PLACES else []
    if broker.policy.subscriptions == "claude-code-only" and broker.bills_subscription(account, document.credential):
        remarks.append("for Claude Code alone")
    end = aging(document)
    if end is not None and (remark := end.text(now)):
        remarks.append(remark)
    remarks += [f"limited {ends(one, now)}{models(one)}" for one in against if one.scope.family and one is not limit]
    profiles = tuple(one.profile for one in broker.publisher.profiles_of(account.name))
    remarks += [f"published as profile {profile}" for profile in profiles]
    note = ", ".join(remarks)
    return AccountRow(account.name, state, text, is_active, note, document, profiles=profiles, aging=end, limit=limit)


def _pause(account: Account, now: float) -> str:
    """Say that it is paused, and until when."""
    until = account.paused_until
    return "paused" if until is None else f"paused until {moment(until)} ({span(until - now)})"


def is_presentable(broker: Broker, document: Document, now: float) -> bool:
    """Whether the present token or key may still be presented: not expired, too old or refused. UTC seconds."""
    failure = broker.journal.failure(document.account.name)
    expires_at = document.credential.expires_at
    is_alive = expires_at is None or expires_at > now
    return is_alive and not _is_too_old(document, now) and not _was_refused(document, failure)


def _is_too_old(document: Document, now: float) -> bool:
    oldest = too_old_at(document)
    return oldest is not None and oldest <= now


def _was_refused(document: Document, failure: RefreshFailure | None) -> bool:
    """Whether the provider refused the present token, and no refresh has replaced it."""
    return failure is not None and failure.refused == document.credential.secret.sha256


def _limit(against: Sequence[Cooldown]) -> Cooldown | None:
    """Return the cooldown to show: one for all models first, then the longest."""
    limits = [one for one in against if one.cause not in _OF_CREDENTIALS]
    return max(limits, key=lambda one: (not one.scope.family, one.until is None, one.until or 0), default=None)


def _aging_json(end: Aging, now: float) -> dict[str, Any]:
    return {
        "cause": end.cause,
        "at": end.at,
        "left": int(end.at - now),
        "stage": end.stage(now),
        "estimate": end.is_estimate,
    }


def _against(name: str, known: Known) -> list[Cooldown]:
    """Return the cooldowns of an account and of its organization."""
    cooldowns, organizations = known
    scopes = {("account", name), ("organization", organizations.get(name))}
    return [one for one in cooldowns if (one.scope.kind, one.scope.name) in scopes and one.cause != _BILLED]


def _is_refused(one: Cooldown, document: Document) -> bool:
    """Whether it says that the provider refuses the account's present credential."""
    return one.cause in _OF_CREDENTIALS and document.credential.secret.fingerprint in one.evidence


def standing(
    document: Document,
    attempt: RefreshAttempt | None,
    failure: RefreshFailure | None,
    machine: str,
    now: float,
    *,
    is_refused: bool = False,
    is_gone: Callable[[ProcessIdentity], bool] = ProcessIdentity.is_gone,
) -> Standing:
    """Return the state of a readable account, by its attempt and failure. `now` is in seconds since 1970 UTC.

    `is_refused` says that the provider refused the present token or key, `is_gone` whether a process has provably
    ended.
    """
    is_open = attempt is not None and attempt.answer is None and attempt.state in {"begun", "open"}
    if attempt is not None and is_open and is_gone(attempt.process):
        attempt = replace(attempt, state="uncertain") if attempt.may_be_spent else None  # else no byte was sent
    is_refused = is_refused or _was_refused(document, failure)
    state, text = _standing(document, attempt, failure, machine, now, is_refused=is_refused)
    if is_refused and state in {"fresh", "expired"}:
        return "refused", f"refused by its provider; {_replacement(document)}"
    return state, text


def _replacement(document: Document) -> str:
    account = document.account
    if isinstance(document.credential, OAuthToken):
        return log_in_again(account)
    if account.store in _PLACES:
        return "replace it there"
    return f"replace it with: tokenferry account add {account.name} --provider {account.provider} --replace"


def _standing(  # noqa: PLR0911  # a list of rules, one return each
    document: Document,
    attempt: RefreshAttempt | None,
    failure: RefreshFailure | None,
    machine: str,
    now: float,
    *,
    is_refused: bool,
) -> Standing:
    credential = document.credential
    if not isinstance(credential, OAuthToken):
        return _standing_of_fixed(credential.expires_at, now)
    left = 0.0 if is_refused else seconds_left(credential, now)
    if credential.is_exchanged:
        about_it = _about_exchange(credential, failure)
        return _trouble(None, about_it, left, now) or (_fresh(left) if left > 0 else ("expired", _RENEWS))
    if credential.refresh is not None and document.account.owner == "tokenferry":
        token = credential.refresh.sha256
        trouble = _copied(document, machine, left) or _trouble(
            attempt if attempt is not None and attempt.token == token else None,
            failure if failure is not None and failure.token == token else None,
            left,
            now,
        )
        if trouble is not None:
            return trouble
        if credential.refresh_expires_at is not None and credential.refresh_expires_at <= now:
            return "needs-login", _while_it_lives("needs login: its refresh token has expired", left)
        if credential.expires_at is None:
            return "expired", "its expiry is unknown, refreshed at its next use"
        return _fresh(left) if left > 0 else ("expired", _RENEWS)
    if left > 0:
        return _fresh(left)
    if document.account.owner == "claude-code" and credential.refresh is not None:
        return "expired", _RENEWS
    if document.account.owner == "tokenferry":
        return "needs-login", "needs login: expired, and there is no refresh token"
    return "expired", f"expired; {document.account.owner} refreshes it"


def _standing_of_fixed(expires_at: int | None, now: float) -> Standing:
    if expires_at is None:
        return _fresh(float("inf"))
    return _fresh(expires_at - now) if expires_at > now else ("needs-login", "needs login: expired")


def _about_exchange(token: OAuthToken, failure: RefreshFailure | None) -> RefreshFailure | None:
    """Return the failure, if the next exchange would present the same token.

    An identity token may have changed: then the failure no longer counts at the next use.
    """
    if failure is None:
        return None
    is_about = failure.token == token.subject.sha256 if isinstance(token, ExchangedToken) else failure.kind == "failed"
    return failure if is_about else None


def _fresh(left: float) -> Standing:
    return "fresh", "fresh" if left == float("inf") else f"fresh, expires in {span(left)}"


def _copied(document: Document, machine: str, left: float) -> Standing | None:
    if document.machine in {None, machine}:
        return None
    name = document.account.name
    return "copied", _while_it_lives(f"copied from another machine; see: tokenferry account confirm {name}", left)


def _trouble(  # noqa: PLR0911  # a list of rules, one return each
    attempt: RefreshAttempt | None, failure: RefreshFailure | None, left: float, now: float
) -> Standing | None:
    """Return the state that an earlier grant of this refresh token left behind."""
    if failure is not None and failure.kind == "needs-login":
        return "needs-login", _while_it_lives(f"needs login: {failure.reason}", left)
    if attempt is not None and (attempt.answer is None or attempt.state in {"answered", "uncertain"}):
        if attempt.state == "denied":
            return "needs-login", _while_it_lives("needs login: the provider says that its refresh token is dead", left)
        if attempt.state in {"begun", "open"}:
            return "refreshing", _while_it_lives(f"process {attempt.process.pid} is refreshing it", left)
        if attempt.state != "closed" and attempt.tries >= _MOST_TRIES:
            return "needs-login", _while_it_lives("needs login: the answers to two refreshes were lost", left)
        if attempt.answer is not None:
            unread = "the server gave no readable refresh token, so the old one is presented once more then"
            return "uncertain", _while_it_lives(f"needs login when it expires: {unread}", left)
        return "uncertain", _while_it_lives("uncertain: the answer to its last refresh was lost", left)
    if failure is not None and failure.kind == "failed" and failure.until > now:
        wait = span(failure.until - now)
        return "backing-off", _while_it_lives(f"backing off for {wait}: {failure.reason}", left)
    return None


def _while_it_lives(text: str, left: float) -> str:
    if left <= 0:
        return text
    return f"{text}; the present token works" + ("" if left == float("inf") else f" for {span(left)}")


def cure_of(row: AccountRow) -> str:
    """Return the command that fixes an account's state; empty if none does."""
    name = row.name
    match row.state:
        case "needs-login" | "refused":
            is_claude_codes = row.document is not None and row.document.account.owner == "claude-code"
            return "claude /login" if is_claude_codes else replacement_of(row)
        case "uncertain":
            return f"nothing to do while its token works; then: tokenferry refresh {name}"
        case "copied":
            return f"tokenferry account confirm {name}, if the login is in use on this machine alone"
        case "backing-off":
            return f"wait, or: tokenferry refresh {name}"
    return ""


def replacement_of(row: AccountRow) -> str:
    """Return the command that gives an account another login or key."""
    is_login = row.document is not None and row.document.account.kind == "oauth"
    return f"tokenferry login {row.name}" if is_login else f"tokenferry account add {row.name} --replace"


def account_details(row: AccountRow, broker: Broker) -> Iterator[tuple[str, str]]:
    """Yield everything known about an account, as pairs of label and value."""
    assert row.document is not None
    account, credential = row.document.account, row.document.credential
    override, says = broker.book.overrides.get(account.name), f", as [accounts.{account.name}] in config.toml says"
    yield "name", account.name + ("  (in use)" if row.is_active else "")
    yield "provider", account.provider
    yield "kind", account.kind
    yield "owner", account.owner
    yield "state", f"{row.text} ({row.note})" if row.note else row.text
    yield "fingerprint", credential.secret.fingerprint
    if credential.expires_at is not None:
        yield "expires", moment(credential.expires_at)
    if isinstance(credential, OAuthToken):
        yield from _oauth_details(credential)
    if account.paused:
        until = "yes" if account.paused_until is None else f"until {moment(account.paused_until)}"
        cure = f"; resume it with: tokenferry account resume {account.name}"
        yield "paused", until + (says if override and override.paused else cure)
    if account.max_age is not None:
        yield "max age", format_duration(account.max_age)
    if row.aging is not None:
        yield "ends", moment(row.aging.at) + (" (an estimate)" if row.aging.is_estimate else "")
    if account.labels:
        yield "labels", ", ".join(f"{key}={value}" for key, value in account.labels.items())
    yield "priority", f"{account.priority}{says if override and override.priority is not None else ''}"
    if account.created_at:
        yield "created", moment(account.created_at)
    yield "kept in", str(_place(broker, account))


def _oauth_details(token: OAuthToken) -> Iterator[tuple[str, str]]:
    if isinstance(token, FederatedToken):
        yield "identity", token.federation.source
        if token.federation.parameters:
            yield "federation", ", ".join(f"{key}={value}" for key, value in token.federation.parameters)
    elif isinstance(token, ExchangedToken):
        yield "exchange", f"of its long-lived token, fingerprint {token.subject.fingerprint}"
        if token.endpoint is not None:
            yield "endpoint", token.endpoint
    else:
        yield "refresh", "no refresh token" if token.refresh is None else f"fingerprint {token.refresh.fingerprint}"
    for label, value in (
        ("email", token.email),
        ("subscription", token.subscription_type),
        ("scopes", " ".join(token.scopes)),
        ("obtained", token.obtained_at and moment(token.obtained_at)),
        ("source", token.source),
    ):
        if value:
            yield label, str(value)


def _place(broker: Broker, account: Account) -> str:
    store = broker.book.store
    if account.store != "file" or not isinstance(store, Sealable):
        return _PLACES.get(account.store, account.store)
    return store.place(account.name)
