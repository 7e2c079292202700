"""Credentials for a program's HTTP client or SDK. Each library is imported on first use.

`broker` is the default broker unless one is given; `name` picks the account as in `Broker.resolve`.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from tokenferry.broker import Broker, default_broker
from tokenferry.errors import UsageError
from tokenferry.integrations._environment import (
    ANTHROPIC_URL,
    Variables,
    assignments,
    sample_request,
    setup_lines,
    variables_of,
    variables_of_gateway,
)
from tokenferry.integrations._sdk_errors import for_sdks

if TYPE_CHECKING:
    from tokenferry.integrations._anthropic import AsyncCredentials, Credentials
    from tokenferry.integrations._httpx2 import Auth
    from tokenferry.integrations._openai import ApiKeyProvider, AsyncApiKeyProvider

OLDEST_SDKS: Final = {"anthropic": "2.11", "google-genai": "3.6", "openai": "3"}
"""The oldest supported version of each SDK."""
_MODULES: Final = {"google-genai": "google.genai"}

__all__ = [
    "ANTHROPIC_URL",
    "Variables",
    "anthropic_credentials",
    "assignments",
    "async_anthropic_credentials",
    "async_openai_api_key",
    "auth",
    "for_sdks",
    "need_package",
    "openai_api_key",
    "sample_request",
    "setup_lines",
    "variables_of",
    "variables_of_gateway",
]


def auth(name: str | None = None, *, broker: Broker | None = None) -> "Auth":
    """An `httpx2.Auth` for synchronous and asynchronous clients: `httpx2.Client(auth=tokenferry.auth("work"))`.

    It replaces every other credential in the request. After a 401 it refreshes the credential and sends the request
    once more, if there is another credential and the body can be sent again; otherwise the caller gets the 401.
    """
    from tokenferry.integrations._httpx2 import Auth  # noqa: PLC0415  # httpx2 costs 80 ms

    return Auth(broker or default_broker(), name)


def anthropic_credentials(name: str | None = None, *, broker: Broker | None = None) -> "Credentials":
    """Pass it as `Anthropic(credentials=...)`, for providers that take a bearer token.

    The SDK sends every such credential as a bearer token. For a key that belongs in `x-api-key` a request raises
    `UsageError`; pass that key as `Anthropic(api_key=...)`. Raises `UsageError` if the SDK is missing.
    """
    need_package("anthropic")
    from tokenferry.integrations._anthropic import Credentials  # noqa: PLC0415  # the SDK costs a second

    return Credentials(broker or default_broker(), name)


def async_anthropic_credentials(name: str | None = None, *, broker: Broker | None = None) -> "AsyncCredentials":
    """Pass it as `AsyncAnthropic(credentials=...)`, which accepts the synchronous kind, too, on a thread."""
    need_package("anthropic")
    from tokenferry.integrations._anthropic import AsyncCredentials  # noqa: PLC0415  # the SDK costs a second

    return AsyncCredentials(broker or default_broker(), name)


def openai_api_key(name: str | None = None, *, broker: Broker | None = None) -> "ApiKeyProvider":
    """Pass it as `OpenAI(api_key=...)`: the SDK calls it before every request.

    This SDK doesn't report rejected tokens. To refresh them, use `auth` as the `auth` of its `http_client`.
    """
    from tokenferry.integrations._openai import ApiKeyProvider  # noqa: PLC0415  # like its siblings

    return ApiKeyProvider(broker or default_broker(), name)


def async_openai_api_key(name: str | None = None, *, broker: Broker | None = None) -> "AsyncApiKeyProvider":
    """Pass it as `AsyncOpenAI(api_key=...)`; see `openai_api_key`."""
    from tokenferry.integrations._openai import AsyncApiKeyProvider  # noqa: PLC0415  # like its siblings

    return AsyncApiKeyProvider(broker or default_broker(), name)


def need_package(package: str) -> None:
    """Raise `UsageError` if an SDK is missing, with the command that installs it."""
    try:
        is_there = find_spec(_MODULES.get(package, package)) is not None
    except ModuleNotFoundError:  # the enclosing package is missing
        is_there = False
    if not is_there:
        raise UsageError(
            f"this needs the package {package}; install it with: pip install '{package}>={OLDEST_SDKS[package]}'"
        )
