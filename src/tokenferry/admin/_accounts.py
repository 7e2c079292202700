"""`/api/accounts` and `/api/status`."""

import json
import time
from dataclasses import replace
from importlib.metadata import version

import msgspec
from fastapi import APIRouter, Response

from tokenferry.accounts import AccountChanges, read_credential
from tokenferry.actions import ActionContext, LoginService
from tokenferry.admin._cooldowns import cooldowns_of, limits_of
from tokenferry.admin._key import Key
from tokenferry.admin._models import (
    AccountAdded,
    AccountChange,
    AccountInfo,
    AccountRequest,
    Done,
    PolicyInfo,
    StatusInfo,
    moment,
)
from tokenferry.audit import note_change
from tokenferry.broker import Broker
from tokenferry.credentials import API_KEY_PREFIX, Credential, OAuthToken
from tokenferry.errors import Conflict, TokenferryError, UnknownProvider, UsageError
from tokenferry.providers import Provider
from tokenferry.readiness import RouteQuestion
from tokenferry.state import ClientKey
from tokenferry.stores import Account, Document, check_account_name


def account_routes(parts: ActionContext, service: LoginService) -> APIRouter:
    routes = APIRouter(prefix="/api")
    broker = parts.broker

    @routes.get("/accounts", response_model_exclude_none=True)
    def accounts() -> list[AccountInfo]:
        """List the accounts in order, then those whose document can't be read."""
        return _accounts(parts)

    @routes.post("/accounts", status_code=201, response_model_exclude_none=True, responses={200: _REPLACED})
    def add_account(key: Key, asked: AccountRequest, response: Response) -> AccountAdded:
        """Store a credential as an account."""
        name = check_account_name(asked.name)
        raw = _raw(asked)
        provider = _provider(broker, asked.provider, raw)
        credential = _owned(read_credential(raw, asked.kind, provider.kind))
        del raw
        if name in broker.book.store.names() and not asked.replace:
            raise Conflict(f'account {name!r} exists already; give "replace": true to put this in its place')
        account = Account(name, provider.name, credential.kind, created_at=int(time.time()))
        has_replaced = broker.add(account, credential, replacing=asked.replace)
        note_change(
            parts.home,
            "account.replace" if has_replaced else "account.add",
            name,
            provider=provider.name,
            kind=credential.kind,
            fingerprint=credential.secret.fingerprint,
            client=key.name,
        )
        if has_replaced:
            response.status_code = 200
        added = _info(broker, broker.book.read(name), parts.states().get(name, ""), _active(broker))
        return AccountAdded(
            message=f"{_verb(has_replaced)} account {name}{_policy(broker, account, credential)}", account=added
        )

    @routes.patch("/accounts/{id}", response_model_exclude_none=True)
    def change_account(key: Key, id: str, asked: AccountChange) -> AccountAdded:  # noqa: A002  # the path's name
        """Change an account's priority and labels, pause it, or put it back into service."""
        changes = AccountChanges(priority=asked.priority, labels=asked.labels, paused=asked.paused)
        account = broker.amend(check_account_name(id), changes)
        told = {"priority": account.priority, "paused": account.paused}
        note_change(parts.home, "account.set", account.name, client=key.name, **told)
        changed = _info(broker, broker.book.read(account.name), parts.states().get(account.name, ""), _active(broker))
        return AccountAdded(message=f"changed account {account.name}", account=changed)

    @routes.delete("/accounts/{id}")
    def remove_account(key: Key, id: str) -> Done:  # noqa: A002  # see above
        """Remove an account; a login of tokenferry's own is ended at its provider first."""
        return remove(parts, check_account_name(id), key)

    @routes.get("/status", response_model_exclude_none=True)
    def status() -> StatusInfo:
        """Tell the accounts, the policy and where the gateway listens."""
        return StatusInfo(
            version=version("tokenferry"),
            listening=list(parts.urls),
            policy=PolicyInfo(subscriptions=broker.policy.subscriptions),
            active=_active(broker),
            accounts=_accounts(parts),
            cooldowns=cooldowns_of(parts),
            limits=limits_of(parts),
            logins=["max", *service.providers()],
            refreshing=list(broker.refreshing()),
        )

    @routes.get("/readiness", include_in_schema=False)
    def readiness(key: Key) -> Response:
        """What requests with this client key get now; it needs no admin key, and is asked by this home's commands."""
        return Response(json.dumps(parts.readiness(key)), media_type="application/json")

    @routes.post("/route", include_in_schema=False)
    async def explain_route(key: Key, asked: RouteQuestion) -> Response:
        """Say where a request would go, by the pool of this worker; nothing is sent. For this home's commands too."""
        return Response(msgspec.json.encode(await parts.explain(key, asked)), media_type="application/json")

    return routes


def remove(parts: ActionContext, name: str, key: ClientKey) -> Done:
    """Remove the account, and tell what becomes of its login and of the keys that it alone could serve."""
    if name not in parts.broker.book.store.names():
        parts.broker.book.remove(name)  # which says why it can't
    revocation = parts.broker.revoke(name)
    parts.broker.remove(name)
    note_change(parts.home, "account.remove", name, revoked=revocation.is_done or None, client=key.name)
    lives_on = f"; its login could not be revoked at the provider: {revocation.reason}" if revocation.reason else ""
    bound = parts.keys.bound_to(name)
    idle = f"; no account serves these keys now: {', '.join(bound)}" if bound else ""
    return Done(message=f"removed account {name}{lives_on}{idle}")


_REPLACED: dict[str, object] = {"model": AccountAdded, "description": "What the account held was replaced."}


def _verb(has_replaced: bool) -> str:  # noqa: FBT001  # it is named by the function
    return "replaced" if has_replaced else "stored"


def _accounts(parts: ActionContext) -> list[AccountInfo]:
    states, active = parts.states(), _active(parts.broker)
    listing = parts.broker.book.listing()
    broken = dict(listing.broken)
    found = []
    for account in listing.accounts:
        try:
            document = parts.broker.book.read(account.name)
            found.append(_info(parts.broker, document, states.get(account.name, ""), active))
        except TokenferryError as fault:
            broken[account.name] = fault
    return found + [
        AccountInfo(name=name, state=states.get(name, "broken"), fault=str(fault), active=name == active)
        for name, fault in broken.items()
    ]


def _active(broker: Broker) -> str | None:
    try:
        return broker.book.active()
    except TokenferryError:  # which `tokenferry doctor` tells
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
        labels=dict(account.labels),
        created_at=moment(account.created_at or None),
        fingerprint=credential.secret.fingerprint,
        expires_at=moment(credential.expires_at),
        email=credential.email if isinstance(credential, OAuthToken) else None,
    )


def _raw(asked: AccountRequest) -> bytes:
    """The credential as a person would paste it. Raises `UsageError`."""
    if (asked.key is None) == (asked.login is None):
        raise UsageError("give either key (an API key or setup token) or login (the tokens of an OAuth login)")
    if asked.key is not None:
        return asked.key.get_secret_value().encode("utf-8", "replace")
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


def _owned(credential: Credential) -> Credential:
    """An OAuth login that doesn't say where it came from was added by hand."""
    if isinstance(credential, OAuthToken) and credential.source is None:
        return replace(credential, source="added")
    return credential


def _policy(broker: Broker, account: Account, credential: Credential) -> str:
    if broker.policy.subscriptions == "own-use" or not broker.bills_subscription(account, credential):
        return ""
    return (
        "; it is billed to a Claude subscription, so it is for Claude Code alone until you state "
        "that it is yours alone, with: tokenferry policy set own-use"
    )
