"""The gateway inside a program's own process, without a port or a separate server.

    client = anthropic.Anthropic(api_key="unused", http_client=httpx2.Client(transport=tokenferry.transport()))

Requests get the routing, failover, refresh, limits and translation of `tokenferry serve`. httpx2 and the SDKs are
imported on first use.
"""

import weakref
from typing import TYPE_CHECKING, Any, Final

from tokenferry.config import load
from tokenferry.integrations import need_package
from tokenferry.settings import Home

if TYPE_CHECKING:
    import anthropic as anthropic_sdk
    import httpx2
    import openai as openai_sdk
    from google import genai as genai_sdk

    from tokenferry.in_process._transports import AsyncTransport, Transport
    from tokenferry.serve import PrivateGateway

__all__ = [
    "anthropic",
    "async_anthropic",
    "async_httpx_client",
    "async_openai",
    "async_transport",
    "genai",
    "httpx_client",
    "openai",
    "private_gateway",
    "transport",
]

_PLACEHOLDER: Final = "tokenferry"
"""The key that the SDKs demand; it never leaves the process."""
_TIMEOUT: Final = 600.0
_CONNECT_TIMEOUT: Final = 5.0


def transport(*, account: str | None = None, home: Home | None = None) -> "Transport":
    """Give a transport for `httpx2.Client(transport=...)`. `account` pins one account.

    `home` defaults to TOKENFERRY_HOME's. The first request raises `ConfigError`, `PolicyRefused`, `UnsafeFile` or
    `CorruptFile` if the home can't be used.
    """
    from tokenferry.in_process._transports import Transport  # noqa: PLC0415  # httpx2 costs 80 ms

    return Transport(home or Home.from_environment(), account)


def async_transport(*, account: str | None = None, home: Home | None = None) -> "AsyncTransport":
    """Give a transport for `httpx2.AsyncClient(transport=...)`; see `transport`."""
    from tokenferry.in_process._transports import AsyncTransport  # noqa: PLC0415  # httpx2 costs 80 ms

    return AsyncTransport(home or Home.from_environment(), account)


def httpx_client(*, account: str | None = None, home: Home | None = None, **options: Any) -> "httpx2.Client":
    """Give an `httpx2.Client` with the transport. `options` are its other arguments; the timeout is 600 seconds."""
    import httpx2  # noqa: PLC0415  # it costs 80 ms

    timeout = httpx2.Timeout(_TIMEOUT, connect=_CONNECT_TIMEOUT)
    return httpx2.Client(**{"timeout": timeout, **options}, transport=transport(account=account, home=home))


def async_httpx_client(*, account: str | None = None, home: Home | None = None, **options: Any) -> "httpx2.AsyncClient":
    """Give an `httpx2.AsyncClient` with the transport; see `httpx_client`."""
    import httpx2  # noqa: PLC0415  # it costs 80 ms

    timeout = httpx2.Timeout(_TIMEOUT, connect=_CONNECT_TIMEOUT)
    return httpx2.AsyncClient(**{"timeout": timeout, **options}, transport=async_transport(account=account, home=home))


def anthropic(*, account: str | None = None, home: Home | None = None, **options: Any) -> "anthropic_sdk.Anthropic":
    """Give an `anthropic.Anthropic` that sends through this process's gateway and ignores the environment.

    `options` are its other arguments. Raises `UsageError` if the SDK is missing.
    """
    need_package("anthropic")
    import anthropic  # noqa: PLC0415  # the SDK costs a second

    given = {**_ANTHROPIC, **options}
    return anthropic.Anthropic(**given, http_client=httpx_client(account=account, home=home))


def async_anthropic(
    *, account: str | None = None, home: Home | None = None, **options: Any
) -> "anthropic_sdk.AsyncAnthropic":
    """Give an `anthropic.AsyncAnthropic` that sends through this process's gateway; see `anthropic`."""
    need_package("anthropic")
    import anthropic  # noqa: PLC0415  # the SDK costs a second

    given = {**_ANTHROPIC, **options}
    return anthropic.AsyncAnthropic(**given, http_client=async_httpx_client(account=account, home=home))


def openai(*, account: str | None = None, home: Home | None = None, **options: Any) -> "openai_sdk.OpenAI":
    """Give an `openai.OpenAI` that sends through this process's gateway and ignores the environment.

    `options` are its other arguments. Raises `UsageError` if the SDK is missing.
    """
    need_package("openai")
    import openai  # noqa: PLC0415  # the SDK costs a second

    return openai.OpenAI(**{**_OPENAI, **options}, http_client=httpx_client(account=account, home=home))


def async_openai(*, account: str | None = None, home: Home | None = None, **options: Any) -> "openai_sdk.AsyncOpenAI":
    """Give an `openai.AsyncOpenAI` that sends through this process's gateway; see `openai`."""
    need_package("openai")
    import openai  # noqa: PLC0415  # the SDK costs a second

    return openai.AsyncOpenAI(**{**_OPENAI, **options}, http_client=async_httpx_client(account=account, home=home))


def genai(*, account: str | None = None, home: Home | None = None, **options: Any) -> "genai_sdk.Client":
    """Give a `google.genai.Client` that sends through this process's gateway and ignores the environment.

    Its `aio` does the same on asyncio. `options` are its other arguments, `http_options` included. Raises `UsageError`
    if the SDK is missing. The SDK does not close a client that it is given, so the gateway's thread ends when this
    client is garbage-collected.
    """
    need_package("google-genai")
    import httpx2  # noqa: PLC0415  # it costs 80 ms
    from google import genai  # noqa: PLC0415  # the SDK costs a second

    timeout = httpx2.Timeout(_TIMEOUT, connect=_CONNECT_TIMEOUT)
    own, other = transport(account=account, home=home), async_transport(account=account, home=home)
    client = httpx2.Client(timeout=timeout, transport=own)
    async_client = httpx2.AsyncClient(timeout=timeout, transport=other)
    for one, close in ((client, own.close), (async_client, other.close)):
        weakref.finalize(one, close).atexit = False  # at exit all gateways are stopped
    given = genai.types.HttpOptions.model_validate(options.pop("http_options", None) or {})
    http = given.model_copy(
        update={
            "base_url": given.base_url or _GENAI_URL,
            "httpx_client": client,
            "httpx_async_client": async_client,
        }
    )
    return genai.Client(**{"api_key": _PLACEHOLDER, "vertexai": False, **options}, http_options=http)


def private_gateway(*, account: str | None = None, home: Home | None = None) -> "PrivateGateway":
    """Give a gateway on a random port of 127.0.0.1, for clients that take no transport. Use it in a `with` statement.

    A client needs its `url` and `key`; the key exists only in memory. Entering raises what `serve` raises.
    """
    from tokenferry.serve import PrivateGateway  # noqa: PLC0415  # it imports the server

    home = home or Home.from_environment()
    return PrivateGateway(home, load(home.config, statement=home.statement), account=account)


_ANTHROPIC: Final = {"api_key": _PLACEHOLDER, "base_url": "https://api.anthropic.com"}
_GENAI_URL: Final = "https://generativelanguage.googleapis.com"
_OPENAI: Final = {"api_key": _PLACEHOLDER, "base_url": "https://api.openai.com/v1"}
