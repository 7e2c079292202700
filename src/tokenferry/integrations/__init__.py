"""Credentials for the HTTP client and the SDKs that a program uses already. Each library is imported when it is needed.

`broker` is the default one where none is given; `name` picks the account as in `Broker.resolve`.
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
"""The oldest version of each SDK that this works with."""
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
    """An `httpx2.Auth` for clients of both kinds: `httpx2.Client(auth=tokenferry.auth("work"))`.

    The account's credential takes the place of any other in the request. A refused one (401) is renewed, and the
    request sent once more if there is another and its body can be sent again; else the caller gets the 401.
    """
    from tokenferry.integrations._httpx2 import Auth  # noqa: PLC0415  # httpx2 costs 80 ms

    return Auth(broker or default_broker(), name)


def anthropic_credentials(name: str | None = None, *, broker: Broker | None = None) -> "Credentials":
    """What `Anthropic(credentials=...)` takes, for what its provider takes as a bearer token.

    The SDK sends what it gets here as one, so for a key that goes into `x-api-key` a request raises `UsageError`: give
    that to `Anthropic(api_key=...)`. Raises `UsageError` where the SDK is missing.
    """
    need_package("anthropic")
    from tokenferry.integrations._anthropic import Credentials  # noqa: PLC0415  # the SDK costs a second

    return Credentials(broker or default_broker(), name)


def async_anthropic_credentials(name: str | None = None, *, broker: Broker | None = None) -> "AsyncCredentials":
    """What `AsyncAnthropic(credentials=...)` takes. It takes the synchronous kind as well, at the cost of a thread."""
    need_package("anthropic")
    from tokenferry.integrations._anthropic import AsyncCredentials  # noqa: PLC0415  # the SDK costs a second

    return AsyncCredentials(broker or default_broker(), name)


def openai_api_key(name: str | None = None, *, broker: Broker | None = None) -> "ApiKeyProvider":
    """What `OpenAI(api_key=...)` takes: it is asked before every request.

    That SDK does not tell of refused tokens; `auth` as the `auth` of its `http_client` would.
    """
    from tokenferry.integrations._openai import ApiKeyProvider  # noqa: PLC0415  # like its siblings

    return ApiKeyProvider(broker or default_broker(), name)


def async_openai_api_key(name: str | None = None, *, broker: Broker | None = None) -> "AsyncApiKeyProvider":
    """What `AsyncOpenAI(api_key=...)` takes; see `openai_api_key`."""
    from tokenferry.integrations._openai import AsyncApiKeyProvider  # noqa: PLC0415  # like its siblings

    return AsyncApiKeyProvider(broker or default_broker(), name)


def need_package(package: str) -> None:
    """Raise `UsageError`, which names the command that installs it, where an SDK is missing."""
    try:
        is_there = find_spec(_MODULES.get(package, package)) is not None
    except ModuleNotFoundError:  # of the package around it
        is_there = False
    if not is_there:
        raise UsageError(
            f"this needs the package {package}; install it with: pip install '{package}>={OLDEST_SDKS[package]}'"
        )
