import logging
from collections.abc import AsyncGenerator, Generator
from typing import Final

import httpx2

from tokenferry.anthropic_beta import merge_beta
from tokenferry.broker import Broker
from tokenferry.errors import TokenferryError

logger = logging.getLogger(__name__)

_CREDENTIAL_HEADERS: Final = ("authorization", "x-api-key")
_BETA: Final = "anthropic-beta"
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403


class Auth(httpx2.Auth):
    """Adds an account's credential to requests, and refreshes a rejected one once."""

    def __init__(self, broker: Broker, name: str | None) -> None:
        self._broker = broker
        self._name = name

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Raises what `Broker.resolve` raises, unless it can return a rejection instead."""
        first = self._broker.resolve(self._name)
        response = yield _presenting(request, first.headers())
        if response.status_code == _FORBIDDEN:
            response.read()
        if not _is_refusal(response):
            return
        self._broker.invalidate(self._name, first.secret)
        try:
            other = self._broker.resolve(self._name)
        except TokenferryError as fault:
            _log(fault)
            return
        if other.secret != first.secret and _can_be_sent_again(request):
            yield _presenting(request, other.headers())

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """The same with `Broker.aresolve`."""
        first = await self._broker.aresolve(self._name)
        response = yield _presenting(request, first.headers())
        if response.status_code == _FORBIDDEN:
            await response.aread()
        if not _is_refusal(response):
            return
        self._broker.invalidate(self._name, first.secret)
        try:
            other = await self._broker.aresolve(self._name)
        except TokenferryError as fault:
            _log(fault)
            return
        if other.secret != first.secret and _can_be_sent_again(request):
            yield _presenting(request, other.headers())


def _is_refusal(response: httpx2.Response) -> bool:
    """Whether the response rejects the credential: a 401, or a 403 that names an invalid or revoked token."""
    if response.status_code != _FORBIDDEN:
        return response.status_code == _UNAUTHORIZED
    from tokenferry.limits import classify  # noqa: PLC0415  # few responses need it

    headers = {name: value for name, value in response.headers.items() if name != "content-encoding"}
    return classify(_FORBIDDEN, headers, response.content, now=0.0, provider_format="anthropic").action == "refresh"


def _presenting(request: httpx2.Request, presented: tuple[tuple[str, str], ...]) -> httpx2.Request:
    """Make these the request's only credential, and add the beta names that it needs."""
    headers = request.headers
    for name in _CREDENTIAL_HEADERS:
        headers.pop(name, None)
    for name, value in presented:
        headers[name] = merge_beta(headers.get_list(name), (value,)) if name == _BETA else value
    return request


def _can_be_sent_again(request: httpx2.Request) -> bool:
    """Whether the body can be sent again: one read from a file or an iterator is used up."""
    try:
        return request.content is not None
    except httpx2.RequestNotRead:
        return False


def _log(fault: TokenferryError) -> None:
    logger.warning("the credential was refused, and another can't be had: %s", fault)
