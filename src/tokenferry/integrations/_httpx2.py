import asyncio
import logging
from collections.abc import AsyncGenerator, Generator
from typing import Final, TypeAlias

import httpx2

from tokenferry.broker import Broker
from tokenferry.credentials import ApiKey, Credential, merge_beta
from tokenferry.errors import TokenferryError
from tokenferry.providers import headers_of

logger = logging.getLogger(__name__)

Headers: TypeAlias = tuple[tuple[str, str], ...]

_CREDENTIAL_HEADERS: Final = ("authorization", "x-api-key")
_BETA: Final = "anthropic-beta"
_REFUSED: Final = 401


class Auth(httpx2.Auth):
    """Puts an account's credential into requests, and renews a refused one once."""

    def __init__(self, broker: Broker, name: str | None) -> None:
        self._broker = broker
        self._name = name
        self._last: tuple[Credential, object, Headers] | None = None

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Raises what `Broker.resolve` raises, unless there is a 401 to give back instead."""
        first = self._broker.resolve(self._name)
        response = yield _presenting(request, self._headers(first))
        if response.status_code != _REFUSED:
            return
        self._broker.invalidate(self._name, first.secret)
        try:
            other = self._broker.resolve(self._name)
        except TokenferryError as fault:
            _log(fault)
            return
        if other.secret != first.secret and _can_be_sent_again(request):
            yield _presenting(request, self._headers(other))

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """The same with `Broker.aresolve`."""
        first = await self._broker.aresolve(self._name)
        response = yield _presenting(request, await self._aheaders(first))
        if response.status_code != _REFUSED:
            return
        self._broker.invalidate(self._name, first.secret)
        try:
            other = await self._broker.aresolve(self._name)
        except TokenferryError as fault:
            _log(fault)
            return
        if other.secret != first.secret and _can_be_sent_again(request):
            yield _presenting(request, await self._aheaders(other))

    def _known(self, credential: Credential) -> Headers | None:
        """How it is presented, as far as that can be told without a look at anything."""
        if not isinstance(credential, ApiKey):
            return credential.headers()
        last = self._last
        return last[2] if last is not None and last[0] is credential and last[1] is self._broker.providers else None

    def _headers(self, credential: Credential) -> Headers:
        return self._known(credential) or self._look(credential)

    async def _aheaders(self, credential: Credential) -> Headers:
        known = self._known(credential)
        return await asyncio.to_thread(self._look, credential) if known is None else known

    def _look(self, credential: Credential) -> Headers:
        """How an API key is presented, which is up to its account's provider. It reads files."""
        providers = self._broker.providers
        document = self._broker.book.read(self._broker.book.choose(self._name))
        headers = headers_of(credential, self._broker.provider_of(document.account).key_header)
        if document.credential.secret == credential.secret:  # else the account meant is another one by now
            self._last = (credential, providers, headers)
        return headers


def _presenting(request: httpx2.Request, presented: Headers) -> httpx2.Request:
    """Make these the request's only credential; the beta names that it needs join those asked for."""
    headers = request.headers
    for name in _CREDENTIAL_HEADERS:
        headers.pop(name, None)
    for name, value in presented:
        headers[name] = merge_beta(headers.get_list(name), (value,)) if name == _BETA else value
    return request


def _can_be_sent_again(request: httpx2.Request) -> bool:
    """A body that is read as it is sent, from a file or an iterator, is used up."""
    try:
        return request.content is not None
    except httpx2.RequestNotRead:
        return False


def _log(fault: TokenferryError) -> None:
    logger.warning("the credential was refused, and another can't be had: %s", fault)
