"""The vendor's hosts on loopback: a proxy that ends their TLS itself and hands what was asked to the sandbox."""

import contextlib
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import trustme

from e2e.recorder import serving

TOKEN_ENDPOINT: Final = "platform.claude.com/v1/oauth/token"
_HOSTS: Final = ("platform.claude.com", "api.anthropic.com")
_OURS: Final = {"connection", "content-length", "host", "keep-alive", "proxy-connection", "transfer-encoding"}
_TIMEOUT: Final = 60.0


@dataclass(frozen=True)
class Grant:
    """One request to the token endpoint: the refresh token's sha256, and what it was answered with."""

    token: str
    status: int


@dataclass
class Vendor:
    """Where it listens, who signs its certificates, and what was asked of it."""

    url: str = ""
    authority: Path = Path()
    asked: list[str] = field(default_factory=list)
    """Host and path, when a request arrives."""
    grants: list[Grant] = field(default_factory=list)
    """In the order in which they were answered; those cut off before are not among them."""
    refused: list[str] = field(default_factory=list)

    def granted(self) -> list[Grant]:
        return [one for one in self.grants if one.status == 200]


@contextlib.contextmanager
def playing_vendor(upstream: str, folder: Path) -> Iterator[Vendor]:
    """Stand for the vendor's hosts before a sandbox; any other host is refused, and noted."""
    authority = trustme.CA()
    vendor = Vendor(authority=folder / "authority.pem")
    authority.cert_pem.write_to_path(str(vendor.authority))
    contexts = {host: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for host in _HOSTS}
    for host, context in contexts.items():
        authority.issue_cert(host).configure_cert(context)
    parts = {"vendor": vendor, "contexts": contexts, "target": urlsplit(upstream).netloc}
    with serving(type("Handler", (_Handler,), parts)) as vendor.url:
        yield vendor


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    vendor: Vendor
    contexts: dict[str, ssl.SSLContext]
    target: str
    host = ""
    """That of the CONNECT; none before there was one."""

    def do_CONNECT(self) -> None:
        host, _, port = self.path.partition(":")
        if host not in self.contexts or port != "443":
            self._refuse()
            return
        self.send_response(200)
        self.end_headers()
        try:
            self.connection = self.contexts[host].wrap_socket(self.connection, server_side=True)
        except OSError:  # it went away
            self.close_connection = True
            return
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)
        self.host = host

    def _refuse(self) -> None:
        self.vendor.refused.append(f"{self.command} {self.path}")
        self.send_error(403)

    def _pass(self) -> None:
        if not self.host:
            self._refuse()
            return
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.close_connection = True
        with (
            contextlib.suppress(OSError),
            contextlib.closing(HTTPConnection(self.target, timeout=_TIMEOUT)) as upstream,
        ):
            self._relay(upstream, body)
        with contextlib.suppress(OSError):
            self.connection.close()

    def _relay(self, upstream: HTTPConnection, body: bytes) -> None:
        asked = f"{self.host}{urlsplit(self.path).path}"
        self.vendor.asked.append(asked)
        upstream.request(self.command, self.path, body or None, _end_to_end(self.headers.items()))
        answer = upstream.getresponse()
        if asked == TOKEN_ENDPOINT:
            token = json.loads(body)["refresh_token"]
            self.vendor.grants.append(Grant(sha256(token.encode()).hexdigest(), answer.status))
        self.send_response(answer.status)
        for name, value in _end_to_end(answer.getheaders()).items():
            self.send_header(name, value)
        self.send_header("connection", "close")
        self.end_headers()
        while chunk := answer.read1(65_536):
            self.wfile.write(chunk)

    do_GET = do_HEAD = do_POST = _pass  # noqa: N815  # the names the base class calls

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class names it
        """Say nothing."""


def _end_to_end(headers: "list[tuple[str, str]]") -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in _OURS}
