"""Turns a program's httpx2 request into one for the gateway, without credentials."""

from typing import Final
from urllib.parse import parse_qsl, urlencode

import httpx2

from tokenferry.errors import UsageError
from tokenferry.gateway import SERVED, proxied
from tokenferry.in_process._call import ProgramRequest
from tokenferry.serve import EmbeddedGateway

SDK_HOSTS: Final = ("api.anthropic.com", "api.openai.com", "generativelanguage.googleapis.com")
"""The default hosts of the vendors' SDKs."""

_CREDENTIALS: Final = frozenset(
    (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"x-tokenferry-key", b"proxy-authorization")
)
_NOT_SENT: Final = _CREDENTIALS | {
    b"cookie",
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"expect",
}
_KEYS: Final = frozenset(("key", "api_key", "api-key"))


def program_request(gateway: EmbeddedGateway, request: httpx2.Request, body: bytes) -> ProgramRequest:
    """Give the request without its credential and cookies. Raises `UsageError` for a host or path that isn't routed."""
    url = request.url
    providers = gateway.hosts().get(url.netloc.decode("ascii").lower(), ())
    if not providers and (url.scheme != "https" or url.host not in SDK_HOSTS or url.port not in (None, 443)):
        raise UsageError(
            f"{url.scheme}://{url.netloc.decode('ascii')} is not the host of a declared provider, so this transport "
            "does not send there; use another client, or declare it under [[providers]] in config.toml"
        )
    path, _, query = url.raw_path.partition(b"?")
    for prefix in gateway.paths(providers):
        if path.startswith(prefix.encode("ascii") + b"/"):
            path = path[len(prefix) :]
            break
    if proxied(request.method, path) is None:
        raise UsageError(f"{request.method} {url.path} is not a path that this transport serves; it serves {SERVED}")
    headers = [(name.lower(), value) for name, value in request.headers.raw if name.lower() not in _NOT_SENT]
    if request.method == "POST":
        headers.append((b"content-length", b"%d" % len(body)))
    if query:
        sent = [(name, value) for name, value in parse_qsl(query.decode("ascii"), True) if name.lower() not in _KEYS]
        path = path + b"?" + urlencode(sent).encode("ascii") if sent else path
    return ProgramRequest(request.method, path, headers, body, providers)
