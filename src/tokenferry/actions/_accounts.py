"""Accounts: list, add, change, remove; and the state of the gateway."""

import contextlib
import json
import math
import time
from functools import partial
from typing import Literal

from msgspec import UNSET

from tokenferry.accounts import AccountChanges, read_credential
from tokenferry.actions._actor import Actor
from tokenferry.actions._context import ActionContext
from tokenferry.actions._cooldowns import list_cooldowns, list_limits
from tokenferry.actions._login_service import LoginService
from tokenferry.actions._models import (
    AccountAdded,
    AccountChange,
    AccountInfo,
    AccountRemoved,
    AccountReplaced,
    AccountRequest,
    ApiKeyRequest,
    Done,
    PolicyInfo,
    StatusInfo,
    moment,
)
from tokenferry.audit import note_change
from tokenferry.broker import Broker, Revocation, Verification
from tokenferry.credentials import API_KEY_PREFIX, Credential, OAuthToken
from tokenferry.databases import has_state
from tokenferry.errors import Conflict, TokenferryError, UnknownProvider, UsageError
from tokenferry.providers import Provider
from tokenferry.state import Cooldown, Scope
from tokenferry.stores import COMMAND, Account, Document, check_account_name


def list_accounts(context: ActionContext) -> list[AccountInfo]:
    """List the accounts in order, then the unreadable ones."""
    states, active = context.states(), _active(context.broker)
    listing = context.broker.book.listing()
    broken = dict(listing.broken)
    found = []
    for account in listing.accounts:
        try:
            document = context.broker.book.read(account.name)
            found.append(_info(context.broker, document, states.get(account.name, ""), active))
        except TokenferryError as fault:
            broken[account.name] = fault
    return found + [
        AccountInfo(name=name, state=states.get(name, "broken"), fault=str(fault), active=name == active)
        for name, fault in broken.items()
    ]


def add_account(context: ActionContext, by: Actor, asked: AccountRequest) -> AccountAdded:
    """Store a credential as an account; the answer is `AccountReplaced` if it replaced one."""
    broker = context.broker
    name = check_account_name(asked.name)
    raw = _raw(asked)
    provider = _provider(broker, asked.provider, raw)
    credential = read_credential(raw, asked.kind, provider.kind)
    del raw
    if name in broker.book.store.names() and not asked.replace:
        raise Conflict(f'account {name!r} exists already; give "replace": true to replace it')
    credential = broker.exchanged(provider, credential)
    account = Account(name, provider.name, credential.kind, created_at=int(time.time()))
    has_replaced = broker.add(account, credential, replacing=asked.replace)
    note_change(
        context.home,
        "account.replace" if has_replaced else "account.add",
        name,
        provider=provider.name,
        kind=credential.kind,
        fingerprint=credential.secret.fingerprint,
        client=by.name or None,
    )
    verb, policy = "replaced" if has_replaced else "stored", _policy(broker, account, credential)
    doubt = f"; {warning}" if (warning := provider.key_warning(name, credential)) else ""
    kind = AccountReplaced if has_replaced else AccountAdded
    return kind(message=f"{verb} account {name}{policy}{doubt}", account=account_info(context, name))


def create_api_key(context: ActionContext, by: Actor, name: str, asked: ApiKeyRequest) -> AccountAdded:
    """Create an API key with the account's login, and store it as another account; the login stays."""
    broker = context.broker
    if asked.name in broker.book.store.names():
        raise Conflict(f"account {asked.name!r} exists already; give the key another name")
    key = broker.create_api_key(check_account_name(name), check_account_name(asked.name))
    account = account_info(context, asked.name)
    note_change(
        context.home,
        "account.add",
        asked.name,
        provider=account.provider,
        kind="api-key",
        fingerprint=key.secret.fingerprint,
        made_by=name,
        client=by.name or None,
    )
    return AccountAdded(message=f"stored account {asked.name}, an API key made by {name}", account=account)


def change_account(context: ActionContext, by: Actor, name: str, asked: AccountChange) -> AccountAdded:
    """Change an account's priority and labels, pause it, or put it back into service."""
    until = None if asked.paused_until is None else math.ceil(asked.paused_until.timestamp())
    max_age: int | Literal["none"] | None = None if asked.max_age is UNSET else asked.max_age or "none"
    changes = AccountChanges(
        priority=asked.priority, labels=asked.labels, paused=asked.paused, paused_until=until, max_age=max_age
    )
    account = context.broker.amend(check_account_name(name), changes)
    note = partial(note_change, context.home, name=account.name, client=by.name or None)
    if asked.paused is not None:
        note("account.pause" if account.paused else "account.resume", paused_until=account.paused_until)
    if asked.max_age is not UNSET:
        note("account.max-age", max_age=account.max_age)
    if asked.priority is not None or asked.labels:
        labels = ",".join(f"{label}={value}" for label, value in account.labels.items())
        note("account.set", priority=account.priority, labels=labels or None)
    return AccountAdded(message=f"changed account {account.name}", account=account_info(context, account.name))


def confirm_account(context: ActionContext, by: Actor, name: str) -> Done:
    """Confirm that a copied login is used on this machine alone, so that it is refreshed here."""
    context.broker.book.confirm(check_account_name(name), context.broker.machine)
    note_change(context.home, "account.confirm", name, client=by.name or None)
    return Done(message=f"account {name} belongs to this machine now")


def remove_account(context: ActionContext, by: Actor, name: str, *, keeps_login: bool = False) -> AccountRemoved:
    """Remove an account, after revoking a login of tokenferry's own, unless `keeps_login`.

    The message says what happens to its login, and to keys that no other account serves.
    """
    check_account_name(name)
    if name not in context.broker.book.store.names():
        context.broker.book.remove(name)  # which says why it can't
    revocation = Revocation() if keeps_login else context.broker.revoke(name)
    default = context.broker.remove(name)
    revoked, client = revocation.is_done or None, by.name or None
    note_change(context.home, "account.remove", name, revoked=revoked, default_provider=default, client=client)
    lives_on = f"; its login could not be revoked at the provider: {revocation.reason}" if revocation.reason else ""
    bound: tuple[str, ...] = ()
    with contextlib.suppress(TokenferryError):  # the keys can't be read
        bound = context.keys.bound_to(name) if has_state(context.home) else ()
    idle = f"; no account serves these keys now: {', '.join(bound)}" if bound else ""
    moved = f"; {default} is the default provider now" if default else ""
    return AccountRemoved(
        message=f"removed account {name}{lives_on}{idle}{moved}",
        revoked=revocation.is_done,
        still_valid=revocation.reason or None,
        unserved_keys=list(bound),
        default_provider=default,
    )


def verify_account(context: ActionContext, name: str) -> Verification:
    """Ask the account's provider once, on a free route, whether it accepts the credential. Raises as `Broker.verify`.

    A refused key doesn't serve until it is replaced or accepted; a refused login is refreshed at its next use.
    """
    document = context.broker.book.read(check_account_name(name))
    credential, scope = document.credential, Scope("account", name)
    found = context.broker.verify(document.account, credential)
    if found.result == "accepted":
        context.state.cooldowns.clear(scope, "refused")
    elif found.result == "refused" and (isinstance(credential, OAuthToken) or document.account.store == COMMAND):
        context.broker.invalidate(name, credential.secret)
        found = Verification(found.result, f"{found.reason}, so another one is fetched at its next use")
    elif found.result == "refused":
        evidence = f"{found.reason}: {credential.secret.fingerprint}."
        context.state.cooldowns.put(Cooldown(scope, "refused", "check", None, evidence), is_better_informed=True)
    return found


def gateway_status(context: ActionContext, service: LoginService) -> StatusInfo:
    """Report the accounts, the policy and the gateway's addresses."""
    from importlib.metadata import version  # noqa: PLC0415  # 10 ms of a start

    broker = context.broker
    return StatusInfo(
        version=version("tokenferry"),
        listening=list(context.urls),
        policy=PolicyInfo(subscriptions=broker.policy.subscriptions),
        active=_active(broker),
        accounts=list_accounts(context),
        cooldowns=list_cooldowns(context),
        limits=list_limits(context),
        logins=["max", *service.providers()],
        refreshing=list(broker.refreshing()),
    )


def account_info(context: ActionContext, name: str) -> AccountInfo:
    """Return one account without its secrets. Raises `UnknownAccount`, and what reading it raises."""
    document = context.broker.book.read(name)
    return _info(context.broker, document, context.states().get(name, ""), _active(context.broker))


def _active(broker: Broker) -> str | None:
    try:
        return broker.book.active()
    except TokenferryError:  # reported by `tokenferry doctor`
        return None


def _info(broker: Broker, document: Document, state: str, active: str | None) -> AccountInfo:
    account, credential = broker.book.effective(document.account), document.credential
    return AccountInfo(
        name=account.name,
        state=state,
        active=account.name == active,
        provider=account.provider,
        kind=account.kind,
        owner=account.owner,
        store=account.store,
        priority=account.priority,
        paused=account.paused,
        paused_until=moment(account.paused_until),
        labels=dict(account.labels),
        created_at=moment(account.created_at or None),
        fingerprint=credential.secret.fingerprint,
        expires_at=moment(credential.expires_at),
        email=credential.email if isinstance(credential, OAuthToken) else None,
    )


def _raw(asked: AccountRequest) -> bytes:
    """Return the credential as a person would paste it. Raises `UsageError`."""
    if (asked.key is None) == (asked.login is None):
        raise UsageError("give either key (an API key or setup token) or login (the tokens of an OAuth login)")
    if asked.key is not None:
        return asked.key.reveal().encode("utf-8", "replace")
    return json.dumps(asked.login).encode("ascii")


def _provider(broker: Broker, name: str | None, raw: bytes) -> Provider:
    if name is None and raw.strip().startswith(API_KEY_PREFIX.encode("ascii")):
        name = "anthropic"
    del raw  # a traceback shows the locals of this frame
    known = ", ".join(broker.providers)
    if name is None:
        raise UsageError(f"say who issued it with provider, one of: {known}")
    if name not in broker.providers:
        raise UnknownProvider(f"there is no provider {name!r}; known: {known}; declare others in config.toml")
    return broker.providers[name]


def _policy(broker: Broker, account: Account, credential: Credential) -> str:
    if broker.policy.subscriptions == "own-use" or not broker.bills_subscription(account, credential):
        return ""
    return (
        "; it is billed to a Claude subscription, so it is for Claude Code alone until you state "
        "that it is yours alone, with: tokenferry policy set own-use"
    )
