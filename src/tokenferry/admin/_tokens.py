"""`/api/oauth/tokens`: the logins that there are, by the paths and fields that existing tools of this kind have."""

import time

from fastapi import APIRouter

from tokenferry.actions import ActionContext
from tokenferry.admin._accounts import remove
from tokenferry.admin._key import Key
from tokenferry.admin._models import Done, TokenDone, TokenInfo, TokenRef, moment
from tokenferry.audit import note_change
from tokenferry.credentials import OAuthToken
from tokenferry.errors import TokenferryError, UnknownAccount, UsageError
from tokenferry.state import ClientKey
from tokenferry.stores import Document, check_account_name


def token_routes(parts: ActionContext) -> APIRouter:
    routes = APIRouter(prefix="/api/oauth")
    broker = parts.broker

    @routes.get("/tokens")
    def tokens() -> list[TokenInfo]:
        """List the OAuth logins that can be read."""
        states = parts.states()
        found = []
        for account in broker.book.listing().accounts:
            if account.kind != "oauth":
                continue
            try:
                found.append(_token_info(broker.book.read(account.name), states.get(account.name, ""), parts))
            except TokenferryError:  # which /api/accounts tells
                continue
        return found

    @routes.post("/tokens/refresh")
    def refresh(key: Key, asked: TokenRef) -> TokenDone:
        """Renew a login now, however fresh it is: one grant."""
        name = _login_of(parts, asked.provider_id)
        expires_at = broker.renew(name).credential.expires_at
        note_change(parts.home, "account.refresh", name, client=key.name)
        return TokenDone(message="Token refreshed successfully", provider_id=name, expires_at=moment(expires_at))

    @routes.post("/tokens/delete")
    def delete(key: Key, asked: TokenRef) -> Done:
        """Remove an OAuth login; one of tokenferry's own is ended at its provider first."""
        return _delete(parts, asked.provider_id, key)

    @routes.delete("/tokens/{id}")
    def delete_token(key: Key, id: str) -> Done:  # noqa: A002  # the parameter's name in the path
        """Do the same."""
        return _delete(parts, id, key)

    return routes


def _login_of(parts: ActionContext, name: str) -> str:
    """The name, if it is an OAuth login's. Raises `UnknownAccount`."""
    fault = f"there is no OAuth login {name[:64]!r}; see: GET /api/oauth/tokens"
    try:
        check_account_name(name)
    except UsageError:
        raise UnknownAccount(fault) from None
    accounts = parts.broker.book.listing()
    if any(one.name == name and one.kind == "oauth" for one in accounts.accounts) or name in accounts.broken:
        return name
    raise UnknownAccount(fault)


def _delete(parts: ActionContext, name: str, key: ClientKey) -> Done:
    name = _login_of(parts, name)
    rest = remove(parts, name, key).message.removeprefix(f"removed account {name}")
    return Done(message=f"Token for '{name}' deleted{rest}")


def _token_info(document: Document, state: str, parts: ActionContext) -> TokenInfo:
    account, token = document.account, document.credential
    assert isinstance(token, OAuthToken)
    left = float("inf") if token.expires_at is None else token.expires_at - time.time()
    return TokenInfo(
        provider_id=account.name,
        expires_at=moment(token.expires_at),
        is_expired=left <= 0,
        needs_refresh=left <= parts.broker.settings.advisory,
        provider=account.provider,
        owner=account.owner,
        state=state,
        fingerprint=token.secret.fingerprint,
        refresh_fingerprint=token.refresh and token.refresh.fingerprint,
    )
