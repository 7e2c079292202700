"""The gateway in a program's own process: no port, no server beside it.

    client = anthropic.Anthropic(api_key="unused", http_client=httpx2.Client(transport=tokenferry.transport()))

Requests get routing, failover, refresh, limits and translation as from `tokenferry serve`. httpx2 and the SDKs are
imported when they are needed.
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
"""In place of a key, which an SDK demands; it never leaves the process."""
_TIMEOUT: Final = 600.0
_CONNECT_TIMEOUT: Final = 5.0


def transport(*, account: str | None = None, home: Home | None = None) -> "Transport":
    """A transport for `httpx2.Client(transport=...)`. `account` pins one account.

    `home` is TOKENFERRY_HOME's by default. The first request raises `ConfigError`, `PolicyRefused`, `UnsafeFile` or
    `CorruptFile` where the home can't be used.
    """
    from tokenferry.in_process._transports import Transport  # noqa: PLC0415  # httpx2 costs 80 ms

    return Transport(home or Home.from_environment(), account)


def async_transport(*, account: str | None = None, home: Home | None = None) -> "AsyncTransport":
    """A transport for `httpx2.AsyncClient(transport=...)`, as `transport` gives for the synchronous client."""
    from tokenferry.in_process._transports import AsyncTransport  # noqa: PLC0415  # like its sibling

    return AsyncTransport(home or Home.from_environment(), account)


def httpx_client(*, account: str | None = None, home: Home | None = None, **options: Any) -> "httpx2.Client":
    """An `httpx2.Client` with the transport; `options` are its other arguments. It waits 600 seconds for an answer."""
    import httpx2  # noqa: PLC0415  # it costs 80 ms

    timeout = httpx2.Timeout(_TIMEOUT, connect=_CONNECT_TIMEOUT)
    return httpx2.Client(**{"timeout": timeout, **options}, transport=transport(account=account, home=home))


def async_httpx_client(*, account: str | None = None, home: Home | None = None, **options: Any) -> "httpx2.AsyncClient":
    """An `httpx2.AsyncClient` with the transport, as `httpx_client` gives the synchronous one."""
    import httpx2  # noqa: PLC0415  # it costs 80 ms

    timeout = httpx2.Timeout(_TIMEOUT, connect=_CONNECT_TIMEOUT)
    return httpx2.AsyncClient(**{"timeout": timeout, **options}, transport=async_transport(account=account, home=home))


def anthropic(*, account: str | None = None, home: Home | None = None, **options: Any) -> "anthropic_sdk.Anthropic":
    """An `anthropic.Anthropic` that sends through this process's gateway, whatever the environment holds.

    `options` are its other arguments. Raises `UsageError` where the SDK is missing.
    """
    need_package("anthropic")
    import anthropic  # noqa: PLC0415  # the SDK costs a second

    given = {**_ANTHROPIC, **options}
    return anthropic.Anthropic(**given, http_client=httpx_client(account=account, home=home))


def async_anthropic(
    *, account: str | None = None, home: Home | None = None, **options: Any
) -> "anthropic_sdk.AsyncAnthropic":
    """An `anthropic.AsyncAnthropic` that sends through this process's gateway; see `anthropic`."""
    need_package("anthropic")
    import anthropic  # noqa: PLC0415  # the SDK costs a second

    given = {**_ANTHROPIC, **options}
    return anthropic.AsyncAnthropic(**given, http_client=async_httpx_client(account=account, home=home))


def openai(*, account: str | None = None, home: Home | None = None, **options: Any) -> "openai_sdk.OpenAI":
    """An `openai.OpenAI` that sends through this process's gateway, whatever the environment holds.

    `options` are its other arguments. Raises `UsageError` where the SDK is missing.
    """
    need_package("openai")
    import openai  # noqa: PLC0415  # the SDK costs a second

    return openai.OpenAI(**{**_OPENAI, **options}, http_client=httpx_client(account=account, home=home))


def async_openai(*, account: str | None = None, home: Home | None = None, **options: Any) -> "openai_sdk.AsyncOpenAI":
    """An `openai.AsyncOpenAI` that sends through this process's gateway; see `openai`."""
    need_package("openai")
    import openai  # noqa: PLC0415  # the SDK costs a second

    return openai.AsyncOpenAI(**{**_OPENAI, **options}, http_client=async_httpx_client(account=account, home=home))


def genai(*, account: str | None = None, home: Home | None = None, **options: Any) -> "genai_sdk.Client":
    """A `google.genai.Client` that sends through this process's gateway, whatever the environment holds.

    Its `aio` does so, too, on asyncio. `options` are its other arguments, `http_options` among them. Raises
    `UsageError` where the SDK is missing. The SDK closes no client that it is given: the gateway's thread ends when
    nothing refers to this one any more.
    """
    need_package("google-genai")
    import httpx2  # noqa: PLC0415  # it costs 80 ms
    from google import genai  # noqa: PLC0415  # the SDK costs a second

    timeout = httpx2.Timeout(_TIMEOUT, connect=_CONNECT_TIMEOUT)
    own, other = transport(account=account, home=home), async_transport(account=account, home=home)
    client = httpx2.Client(timeout=timeout, transport=own)
    async_client = httpx2.AsyncClient(timeout=timeout, transport=other)
    for one, close in ((client, own.close), (async_client, other.close)):
        weakref.finalize(one, close).atexit = False  # there all gateways end
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
    """A gateway on a random port of 127.0.0.1 for what takes no transport; use it in a `with`.

    `url` and `key` are what a client needs; the key is in memory alone. Raises what `serve` raises, on entering.
    """
    from tokenferry.serve import PrivateGateway  # noqa: PLC0415  # it imports the server

    home = home or Home.from_environment()
    return PrivateGateway(home, load(home.config, statement=home.statement), account=account)


_ANTHROPIC: Final = {"api_key": _PLACEHOLDER, "base_url": "https://api.anthropic.com"}
_GENAI_URL: Final = "https://generativelanguage.googleapis.com"
_OPENAI: Final = {"api_key": _PLACEHOLDER, "base_url": "https://api.openai.com/v1"}
