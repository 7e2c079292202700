"""Logins: start, finish, list, refresh and revoke them, with the field names of existing tools."""

import time
from typing import Final

from tokenferry.actions._accounts import remove_account
from tokenferry.actions._actor import Actor
from tokenferry.actions._context import ActionContext
from tokenferry.actions._login_service import LoginInProgress, LoginService
from tokenferry.actions._models import (
    AuthorizeAnswer,
    AuthorizeRequest,
    Done,
    ExchangeRequest,
    TokenDone,
    TokenInfo,
    moment,
)
from tokenferry.audit import note_change
from tokenferry.credentials import OAuthToken
from tokenferry.errors import TokenferryError, UnknownAccount, UsageError
from tokenferry.stores import Document, check_account_name

_SUCCESS: Final = "OAuth authentication successful! Token saved."
_VENDORS_CLIENT: Final = (
    "It uses the public client id of the Claude Code CLI, which belongs to Anthropic; the vendor's own login command "
    "({command}) serves as well. "
)


def authorize(service: LoginService, by: Actor, asked: AuthorizeRequest) -> AuthorizeAnswer:
    """Start a login, and return the address where a person logs in."""
    begun = service.begin(asked.oauth_type, by, asked.provider_id)
    return AuthorizeAnswer(
        url=begun.url,
        state=begun.state.reveal(),
        instructions=_instructions(begun),
        expires_in=begun.expires_in,
        verifier=begun.handle.reveal(),
        login_url=begun.login_url,
    )


def exchange(service: LoginService, by: Actor, asked: ExchangeRequest) -> TokenDone:
    """Finish a login with the code that its last page shows, and store it as an account."""
    stored = service.exchange(asked.code, check_account_name(asked.provider_id), by)
    known = f" It is already account {stored.name}, which was updated." if stored.name != asked.provider_id else ""
    return TokenDone(message=_SUCCESS + known, provider_id=stored.name, expires_at=moment(stored.token.expires_at))


def list_tokens(context: ActionContext) -> list[TokenInfo]:
    """List the readable OAuth logins."""
    states, found = context.states(), []
    for account in context.broker.book.listing().accounts:
        if account.kind != "oauth":
            continue
        try:
            document = context.broker.book.read(account.name)
            found.append(_token_info(document, states.get(account.name, ""), context))
        except TokenferryError:  # reported by `list_accounts`
            continue
    return found


def refresh_token(context: ActionContext, by: Actor, name: str) -> TokenDone:
    """Refresh a login now, however fresh it is."""
    name = _login_of(context, name)
    expires_at = context.broker.renew(name).credential.expires_at
    note_change(context.home, "account.refresh", name, client=by.name or None)
    return TokenDone(message="Token refreshed successfully", provider_id=name, expires_at=moment(expires_at))


def delete_token(context: ActionContext, by: Actor, name: str) -> Done:
    """Remove an OAuth login, after revoking one of tokenferry's own at its provider."""
    name = _login_of(context, name)
    rest = remove_account(context, by, name).message.removeprefix(f"removed account {name}")
    return Done(message=f"Token for '{name}' deleted{rest}")


def _login_of(context: ActionContext, name: str) -> str:
    """Return the name, if it is an OAuth login's. Raises `UnknownAccount`."""
    fault = f"there is no OAuth login {name[:64]!r}; see: GET /api/oauth/tokens"
    try:
        check_account_name(name)
    except UsageError:
        raise UnknownAccount(fault) from None
    accounts = context.broker.book.listing()
    if any(one.name == name and one.kind == "oauth" for one in accounts.accounts) or name in accounts.broken:
        return name
    raise UnknownAccount(fault)


def _token_info(document: Document, state: str, context: ActionContext) -> TokenInfo:
    account, token = document.account, document.credential
    assert isinstance(token, OAuthToken)
    left = float("inf") if token.expires_at is None else token.expires_at - time.time()
    return TokenInfo(
        provider_id=account.name,
        expires_at=moment(token.expires_at),
        is_expired=left <= 0,
        needs_refresh=left <= context.broker.settings.advisory,
        provider=account.provider,
        owner=account.owner,
        state=state,
        fingerprint=token.secret.fingerprint,
        refresh_fingerprint=token.refresh and token.refresh.fingerprint,
    )


def _instructions(begun: LoginInProgress) -> str:
    provider = begun.provider
    vendors = ""
    if provider.uses_vendors_client:
        vendors = _VENDORS_CLIENT.format(command="claude /login" if provider.subscription else "ant auth login")
    minutes = begun.expires_in // 60
    home = ""
    if begun.login_url is not None:
        home = "Open login_url once in a browser of this machine, and the login finishes by itself. Or: "
    return (
        f"{vendors}{home}Visit the URL above and log in. Then give the code that the last page shows, CODE#STATE, to "
        f"POST /api/oauth/exchange, with the same key, within {minutes} minutes."
    )
