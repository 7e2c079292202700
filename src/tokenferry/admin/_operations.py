"""Every operation of the REST API: a method, a path, and its action."""

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final, get_type_hints

from msgspec import Struct

from tokenferry.actions import (
    ActionContext,
    Actor,
    Done,
    TokenDone,
    TokenRef,
    add_account,
    authorize,
    change_account,
    change_key,
    create_api_key,
    create_key,
    delete_token,
    end_cooldowns,
    exchange,
    gateway_status,
    list_accounts,
    list_cooldowns,
    list_keys,
    list_limits,
    list_tokens,
    refresh_token,
    remove_account,
    revoke_key,
)


class Operation(Struct, frozen=True, dict=True):
    """The action's signature says its input and answer: any of `context`, `service`, `by`, `asked` and `name`."""

    method: str
    path: str
    """It has at most one placeholder, which is the action's `name`."""
    action: Callable[..., Any]
    status: int = 200
    omits_none: bool = False
    """Whether the answer leaves out what is null."""
    may_be_empty: bool = False
    """Whether a request without a body asks for the defaults."""

    @cached_property
    def parameters(self) -> frozenset[str]:
        return frozenset(inspect.signature(self.action).parameters)

    @cached_property
    def takes(self) -> Any:
        """The type of the body, or None."""
        return get_type_hints(self.action).get("asked")

    @cached_property
    def gives(self) -> Any:
        """The type of the answer."""
        return get_type_hints(self.action)["return"]


def _refresh_token(context: ActionContext, by: Actor, asked: TokenRef) -> TokenDone:
    return refresh_token(context, by, asked.provider_id)


def _delete_token(context: ActionContext, by: Actor, asked: TokenRef) -> Done:
    return delete_token(context, by, asked.provider_id)


_refresh_token.__doc__ = refresh_token.__doc__
_delete_token.__doc__ = delete_token.__doc__

OPERATIONS: Final = (
    Operation("POST", "/api/oauth/authorize", authorize, omits_none=True, may_be_empty=True),
    Operation("POST", "/api/oauth/exchange", exchange),
    Operation("GET", "/api/oauth/tokens", list_tokens),
    Operation("POST", "/api/oauth/tokens/refresh", _refresh_token),
    Operation("POST", "/api/oauth/tokens/delete", _delete_token),
    Operation("DELETE", "/api/oauth/tokens/{id}", delete_token),
    Operation("GET", "/api/accounts", list_accounts, omits_none=True),
    Operation("POST", "/api/accounts", add_account, status=201, omits_none=True),
    Operation("PATCH", "/api/accounts/{id}", change_account, omits_none=True),
    Operation("DELETE", "/api/accounts/{id}", remove_account),
    Operation("POST", "/api/accounts/{id}/api-keys", create_api_key, status=201, omits_none=True),
    Operation("GET", "/api/status", gateway_status, omits_none=True),
    Operation("GET", "/api/cooldowns", list_cooldowns, omits_none=True),
    Operation("DELETE", "/api/cooldowns/{name}", end_cooldowns),
    Operation("GET", "/api/limits", list_limits, omits_none=True),
    Operation("GET", "/api/keys", list_keys),
    Operation("POST", "/api/keys", create_key, status=201),
    Operation("PATCH", "/api/keys/{id}", change_key),
    Operation("DELETE", "/api/keys/{id}", revoke_key),
)
