"""The decisions of one exchange: which account, what to do with a refused token, what the client may see."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from tokenferry.credentials import Credential, OAuthToken
from tokenferry.errors import TokenferryError
from tokenferry.gateway._answers import Refusal, combined
from tokenferry.gateway._credentials import CredentialSource, KeyRing
from tokenferry.gateway._headers import Header, Presentations, down, up, without_retry
from tokenferry.gateway._record import Attempt, Decision, Record
from tokenferry.gateway._request import Request
from tokenferry.gateway._routing import Choice, choose
from tokenferry.gateway._upstreams import Upstreams
from tokenferry.gateway.upstream import Response
from tokenferry.settings import GatewaySettings
from tokenferry.stores import Account

logger = logging.getLogger(__name__)

_MULTIPLE_CHOICES: Final = 300
_NOT_MODIFIED: Final = 304
_BAD_REQUEST: Final = 400
_UNAUTHORIZED: Final = 401
_REFUSAL_LIMIT: Final = 1024 * 1024


class Answer(Protocol):
    """An upstream's answer on its way to the client. `abort` comes in any case, also after the body's end."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> list[Header]: ...

    def body(self) -> AsyncIterator[bytes]:
        """Raises `UpstreamError` where the upstream cuts it."""
        ...

    def abort(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Passing:
    """An answer that is passed on while it comes."""

    headers: list[Header]
    response: Response

    @property
    def status(self) -> int:
        return self.response.status

    def body(self) -> AsyncIterator[bytes]:
        return self.response.body()

    def abort(self) -> None:
        self.response.abort()


@dataclass(frozen=True, slots=True)
class Held:
    """An answer that was read whole before it was known that it would be passed on."""

    status: int
    headers: list[Header]
    content: bytes = field(repr=False)

    async def body(self) -> AsyncIterator[bytes]:
        yield self.content

    def abort(self) -> None:
        """There is nothing to end."""


class Relay:
    """Takes requests whose caller is known to where their account lives."""

    def __init__(
        self, *, source: CredentialSource, settings: GatewaySettings, keys: KeyRing, upstreams: Upstreams
    ) -> None:
        self._source = source
        self._settings = settings
        self._keys = keys
        self._upstreams = upstreams
        self._presentations = Presentations()
        self._chosen_from: list[Account] | None = None
        self._choice: Choice | None = None

    async def open(self, request: Request, record: Record, *, is_inference: bool) -> Answer:
        """Send the request and give the answer as soon as its head is there.

        Raises `Refusal`, and `TokenferryError` (`UpstreamError` among them) where no answer can be had.
        """
        decision = record.decision = Decision()
        choice = self._choose()
        record.provider = choice.provider.name
        decision.choice = choice
        account, credential = await self._credential(choice, decision)
        record.account = account.name
        response = await self._send(
            request, record, choice, account, credential, decision=decision, identity=is_inference
        )
        if response.status != _UNAUTHORIZED:
            return self._pass(response)
        if not isinstance(credential, OAuthToken):
            logger.warning("account %s: its %s was refused by the provider", account.name, credential.kind)
            return self._pass(response)
        refused = await self._hold(response)
        renewed = await self._renewed(account, credential)
        if renewed is None:
            return refused
        response = await self._send(request, record, choice, account, renewed, decision=decision, identity=is_inference)
        if response.status == _UNAUTHORIZED:
            logger.warning("account %s: its renewed token was refused, too", account.name)
        return self._pass(response)

    def _choose(self) -> Choice:
        """The choice among the present accounts; it stays the same until they change."""
        accounts = self._source.accounts()
        if self._choice is None or accounts != self._chosen_from:
            self._choice = choose(self._settings, self._source.providers, accounts)
            self._chosen_from = accounts
        return self._choice

    async def _credential(self, choice: Choice, decision: Decision) -> tuple[Account, Credential]:
        """Give the first account that has a credential; nothing was sent yet, so the next one may be asked."""
        faults: list[TokenferryError] = []
        for account in choice.accounts:
            try:
                return account, await self._source.aresolve(account.name)
            except TokenferryError as fault:
                logger.warning("account %s is passed over: %s", account.name, fault)
                decision.passed_over.append((account.name, str(fault)))
                faults.append(fault)
        raise combined(faults)

    async def _send(
        self,
        request: Request,
        record: Record,
        choice: Choice,
        account: Account,
        credential: Credential,
        *,
        decision: Decision,
        identity: bool,
    ) -> Response:
        upstream = self._upstreams.get(choice.provider.base_url)
        presented = self._presentations.of(account.name, credential)
        record.attempts += 1
        record.upstream_status = None
        attempt = Attempt(account.name, credential.secret.fingerprint)
        decision.attempts.append(attempt)
        response = await upstream.request(
            request.method,
            request.target,
            up(request.headers, presented, identity=identity),
            request.body.chunks,
            stream=identity and request.wants_stream,
        )
        record.upstream_status = attempt.status = response.status
        return response

    async def _renewed(self, account: Account, refused: OAuthToken) -> Credential | None:
        """Give another credential than the refused one, if there is one now."""
        self._source.invalidate(account.name, refused.secret)
        try:
            credential = await self._source.aresolve(account.name)
        except TokenferryError as fault:
            logger.warning("account %s: its token was refused by the provider: %s", account.name, fault)
            return None
        if credential.secret == refused.secret:
            logger.warning("account %s: its token was refused by the provider, and there is no other", account.name)
            return None
        return credential

    def _pass(self, response: Response) -> Passing:
        if _MULTIPLE_CHOICES <= response.status < _BAD_REQUEST and response.status != _NOT_MODIFIED:
            response.abort()
            raise Refusal(
                502,
                "api_error",
                f"the upstream answered with a redirect ({response.status}), which is never followed; "
                "mend the provider's base_url in config.toml",
                cause="upstream_redirect",
            )
        return Passing(self._headers(response), response)

    async def _hold(self, response: Response) -> Held:
        try:
            return Held(response.status, self._headers(response), await response.read(_REFUSAL_LIMIT))
        finally:
            response.abort()

    def _headers(self, response: Response) -> list[Header]:
        is_the_callers = self._keys.is_sole() and len(self._source.accounts()) == 1
        headers = down(response.headers, with_limits=is_the_callers)
        if response.status == _NOT_MODIFIED:
            # The length of what was not sent again (RFC 9110, 8.6), which uvicorn would wait for.
            headers = [header for header in headers if header[0] != b"content-length"]
        # Nothing a client does mends an account's credential: it would only ask again, for minutes.
        return without_retry(headers) if response.status == _UNAUTHORIZED else headers
