"""The one place that talks to authorization servers: a blocking call that says what became of it and never raises."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from tokenferry.oauth import MAX_ANSWER, Answer, Lost, NotSent, TokenRequest, Transmission
from tokenferry.providers import is_loopback

if TYPE_CHECKING:
    import httpx2

_CONNECT_TIMEOUT: Final = 10.0


def send(request: TokenRequest, timeout: float, *, monotonic: Callable[[], float] = time.monotonic) -> Transmission:
    """Send it within `timeout` seconds. Redirects are not followed: a 307 would send the body again.

    A new connection each time: on a kept one the peer's silent close looks like a lost answer.
    """
    import httpx2  # noqa: PLC0415  # 80 ms that only a refresh should cost

    host = urlsplit(request.url).hostname
    deadline = monotonic() + timeout
    limits = httpx2.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT))
    try:
        # A proxy from the environment is for the world outside, never for this machine.
        client = httpx2.Client(trust_env=not is_loopback(host), timeout=limits, follow_redirects=False)
    except (OSError, ValueError) as fault:
        return NotSent(f"the HTTP client can't be set up ({type(fault).__name__}); check the proxy and TLS variables")
    with client:
        try:
            return _exchange(client, request, deadline, monotonic)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.UnsupportedProtocol) as fault:
            return NotSent(f"{host} could not be reached ({_reason(fault)})")
        except httpx2.TimeoutException:
            return Lost(f"{host} did not answer within {timeout:g} seconds")
        except (httpx2.HTTPError, httpx2.InvalidURL) as fault:
            return Lost(f"the connection to {host} broke ({_reason(fault)})")
        except TimeoutError:
            return Lost(f"{host} did not finish its answer within {timeout:g} seconds")


def _exchange(
    client: "httpx2.Client", request: TokenRequest, deadline: float, monotonic: Callable[[], float]
) -> Transmission:
    body = bytearray()
    with client.stream(request.method, request.url, content=request.body, headers=list(request.headers)) as response:
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER:
                return Lost("the answer is larger than any token endpoint's")
            # What is there whole counts, however late: a process that was suspended must not throw it away.
            if monotonic() > deadline and str(len(body)) != response.headers.get("content-length"):
                raise TimeoutError
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, headers, bytes(body))


def _reason(fault: BaseException) -> str:
    """The system's words for it, else the kind of failure: library messages may quote what they choked on."""
    cause: BaseException | None = fault
    while cause is not None:
        if words := getattr(cause, "strerror", None):
            return str(words)
        cause = cause.__cause__ or cause.__context__
    return type(fault).__name__
