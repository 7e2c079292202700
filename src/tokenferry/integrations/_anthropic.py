from typing import Final

from anthropic.lib.credentials import AccessToken

from tokenferry.broker import Broker
from tokenferry.credentials import ApiKey, Credential
from tokenferry.errors import TokenferryError, UsageError
from tokenferry.integrations._sdk_errors import for_sdks

_ASK_EVERY_TIME: Final = 0
"""The value of `expires_at`: the SDK caches nothing, so changes by other processes take effect at once.

A warm answer costs less than the SDK's own cache.
"""


class _Provider:
    def __init__(self, broker: Broker, name: str | None) -> None:
        self._broker = broker
        self._name = name
        self._last: tuple[Credential, AccessToken] | None = None

    def _is_refused(self, credential: Credential) -> bool:
        """Whether a 401 that the SDK saw means this credential. If so, the broker learns of it, and refreshes it.

        The SDK doesn't say which token was rejected; it may be an earlier one. A token that was not handed out yet
        can't be the one, and one granted a moment ago is assumed to be valid.
        """
        last = self._last
        is_new_here = last is not None and last[0].secret != credential.secret
        if is_new_here or self._broker.was_just_granted(credential):
            return False
        self._broker.invalidate(self._name, credential.secret)
        return True

    def _access_token(self, credential: Credential) -> AccessToken:
        last = self._last
        if last is not None and last[0] is credential:
            return last[1]
        if isinstance(credential, ApiKey) and credential.header != "authorization":
            raise UsageError(
                f"account {self._name or 'in use'!r} holds an API key, which this SDK takes in another place: "
                "Anthropic(api_key=tokenferry.resolve(NAME).secret.reveal())"
            )
        token = AccessToken(credential.secret.reveal(), _ASK_EVERY_TIME)
        self._last = (credential, token)
        return token


class Credentials(_Provider):
    """An `AccessTokenProvider` of the anthropic SDK."""

    def __call__(self, *, force_refresh: bool = False) -> AccessToken:
        """Raises what `Broker.resolve` raises, also as an `AnthropicError`, which the SDK doesn't retry."""
        try:
            credential = self._broker.resolve(self._name)
            if force_refresh and self._is_refused(credential):
                credential = self._broker.resolve(self._name)
            return self._access_token(credential)
        except TokenferryError as fault:
            raise for_sdks(fault) from None


class AsyncCredentials(_Provider):
    """An `AsyncAccessTokenProvider` of the anthropic SDK."""

    async def __call__(self, *, force_refresh: bool = False) -> AccessToken:
        """Raises what `Broker.aresolve` raises, also as an `AnthropicError`, which the SDK doesn't retry."""
        try:
            credential = await self._broker.aresolve(self._name)
            if force_refresh and self._is_refused(credential):
                credential = await self._broker.aresolve(self._name)
            return self._access_token(credential)
        except TokenferryError as fault:
            raise for_sdks(fault) from None
