"""The only code that talks to authorization servers: a blocking call that returns an outcome and never raises."""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from tokenferry.errors import TokenferryError
from tokenferry.oauth import MAX_ANSWER, HttpOutcome, NotSent, TokenRequest, TokenResponse, TokenResponseLost
from tokenferry.providers import is_loopback, proxy_exemptions, proxy_variable
from tokenferry.secret import Fields

if TYPE_CHECKING:
    import httpx2

_CONNECT_TIMEOUT: Final = 10.0
_PORTS: Final = {"https": 443, "http": 80}
_FIRST_BYTE: Final = frozenset({"http11.send_request_headers.started", "http2.send_request_headers.started"})


def send(
    request: TokenRequest,
    timeout: float,
    sending: Callable[[], None] = lambda: None,
    *,
    monotonic: Callable[[], float] = time.monotonic,
) -> HttpOutcome:
    """Send it once, within `timeout` seconds. Redirects are not followed: a 307 would send the body again.

    `sending` is called right before the first byte of the request leaves; if it raises, none leaves. A failure before
    that is `NotSent`, also during a proxy's CONNECT, which carries nothing of the request; a failure after it is
    `TokenResponseLost`. Nothing is sent again, and no connection is reused: on a reused one the peer's silent close
    looks like a lost answer.
    """
    is_sent = False

    def trace(event: str, info: dict[str, Any]) -> None:
        nonlocal is_sent
        if event in _FIRST_BYTE and info["request"].method != b"CONNECT" and not is_sent:
            sending()
            is_sent = True

    host, variable = "the server", None
    deadline = monotonic() + timeout
    try:
        import httpx2  # noqa: PLC0415  # 80 ms that only a refresh should cost

        host = urlsplit(request.url).hostname or host
        variable = _proxy_variable(request.url)
        with _client(request.url, variable, timeout) as client:
            return _exchange(client, request, trace, deadline, monotonic)
    except Exception as fault:  # noqa: BLE001  # what it means depends on how far the request came, not on its kind
        if not is_sent:
            return NotSent(_unsent(host, variable, fault))
        if isinstance(fault, httpx2.TimeoutException):
            return TokenResponseLost(f"{host} did not answer within {timeout:g} seconds")
        if isinstance(fault, TimeoutError):
            return TokenResponseLost(f"{host} did not finish its answer within {timeout:g} seconds")
        return TokenResponseLost(f"the connection to {host} broke ({_reason(fault)})")


def _proxy_variable(url: str) -> str | None:
    """Return the environment variable with the proxy for this URL; None for none, and for loopback addresses."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
    environ = Fields(os.environ)  # whose repr shows no password
    if is_loopback(host) or any(exemption.covers(host, port) for exemption in proxy_exemptions(environ)):
        return None
    return proxy_variable(parts.scheme, environ)


def _client(url: str, variable: str | None, timeout: float) -> "httpx2.Client":
    import httpx2  # noqa: PLC0415  # see `send`

    proxy = None
    if variable is not None:
        text = os.environ[variable].strip()
        proxy = httpx2.Proxy(text if "://" in text else f"http://{text}")
        del text  # a traceback shows the locals of this frame, and a proxy's URL may hold a password
    transport = httpx2.HTTPTransport(
        proxy=proxy,
        trust_env=not is_loopback(urlsplit(url).hostname),
        limits=httpx2.Limits(max_keepalive_connections=0),
        retries=0,
    )
    limits = httpx2.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT))
    return httpx2.Client(transport=transport, trust_env=False, timeout=limits, follow_redirects=False)


def _exchange(
    client: "httpx2.Client",
    request: TokenRequest,
    trace: Callable[[str, dict[str, Any]], None],
    deadline: float,
    monotonic: Callable[[], float],
) -> HttpOutcome:
    body = bytearray()
    with client.stream(
        request.method, request.url, content=request.body, headers=list(request.headers), extensions={"trace": trace}
    ) as response:
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER:
                return TokenResponseLost("the answer is larger than any token endpoint's")
            # A complete answer counts, however late: a process that was suspended must not discard it.
            if monotonic() > deadline and str(len(body)) != response.headers.get("content-length"):
                raise TimeoutError
        headers = {name.lower(): value for name, value in response.headers.items()}
        return TokenResponse(response.status_code, headers, bytes(body))


def _unsent(host: str, variable: str | None, fault: Exception) -> str:
    """Say why the request was not sent, and what to check."""
    if isinstance(fault, TokenferryError):
        return str(fault)
    reason = f"{host} could not be reached ({_reason(fault)})"
    if variable is None:
        return reason
    hint = ", which names a SOCKS proxy; use an http:// one" if isinstance(fault, ImportError) else ""
    return f"{reason} through the proxy of {variable}{hint}"


def _reason(fault: BaseException) -> str:
    """Return the system's message, else the error's class: messages of libraries may quote secrets."""
    cause: BaseException | None = fault
    while cause is not None:
        if words := getattr(cause, "strerror", None):
            return str(words)
        cause = cause.__cause__ or cause.__context__
    return type(fault).__name__
