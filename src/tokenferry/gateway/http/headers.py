"""Decides which headers pass in both directions. Names are in lower case."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from tokenferry.credentials import Credential
from tokenferry.upstream import FRAMING_HEADERS

Header = tuple[bytes, bytes]

BETA: Final = b"anthropic-beta"
ENCODING: Final = b"accept-encoding"
OWN_PREFIX: Final = b"x-tokenferry-"
PROXY_PREFIX: Final = b"proxy-"
_HOP_BY_HOP: Final = frozenset((b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"))
# An upstream that obeys these would do something else than what was checked here.
_OVERRIDES: Final = frozenset(
    (b"x-http-method-override", b"x-http-method", b"x-method-override", b"x-original-url", b"x-rewrite-url")
)
# Keys under any name, and headers that identify a key's owner.
_OF_THE_CLIENT: Final = frozenset(
    b"authorization x-api-key api-key x-goog-api-key cookie cookie2 openai-organization openai-project "
    b"x-goog-user-project".split()
)
_NOT_UP: Final = FRAMING_HEADERS | _HOP_BY_HOP | _OVERRIDES | _OF_THE_CLIENT
# Clients would apply these to the gateway's address.
_OF_THE_ORIGIN: Final = frozenset((b"alt-svc", b"strict-transport-security", b"www-authenticate"))
_CORS_PREFIX: Final = b"access-control-"
_SNIFFING: Final = b"x-content-type-options"
_NO_SNIFFING: Final = b"x-content-type-options: nosniff\r\n"
_NOT_DOWN: Final = _HOP_BY_HOP | _OF_THE_ORIGIN | {b"set-cookie", b"set-cookie2", _SNIFFING}
_VENDOR_PREFIXES: Final = (b"anthropic-", b"openai-", b"x-ratelimit-")
# Matched by pattern, since vendors add and remove families (`anthropic-priority-…-reset`).
_LIMITS: Final = re.compile(
    rb"(anthropic|x)-ratelimit-.*|anthropic-.+-(limit|remaining|reset)|anthropic-organization-id|openai-organization"
)
_SHOULD_RETRY: Final = b"x-should-retry"
_NO_RETRY: Final = b"x-should-retry: false\r\n"
_TYPE: Final = b"content-type"
_PLAIN: Final = (b"", b"identity")
# Types that a browser would show as a page and run scripts of.
_PAGES: Final = (b"text/html", b"application/xhtml", b"image/svg", b"text/xml", b"application/xml")


UNNAMED: Final = (b"keep-alive", b"close")
"""Values of `Connection` that name no other header."""


class HeaderList(list[Header]):
    """Headers whose values may be secrets. The repr shows only names."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"HeaderList({', '.join(name.decode('latin-1') for name, _ in self)})"


class EncodedCredential:
    """A credential as header lines. The repr shows nothing."""

    __slots__ = ("betas", "credential", "lines")

    def __init__(self, credential: Credential) -> None:
        self.credential = credential
        headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in credential.headers()]
        self.lines = tuple(b"%b: %b\r\n" % header for header in headers if header[0] != BETA)
        self.betas = tuple(value.decode("ascii") for name, value in headers if name == BETA)


class CredentialCache:
    """Encodes each account's credential once per token."""

    def __init__(self) -> None:
        self._known: dict[str, EncodedCredential] = {}

    def of(self, account: str, credential: Credential) -> EncodedCredential:
        known = self._known.get(account)
        if known is None or known.credential is not credential:
            known = self._known[account] = EncodedCredential(credential)
        return known


def with_fixed(lines: list[bytes], fixed: Sequence[tuple[str, str]]) -> list[bytes]:
    """Give the header lines with a provider's fixed headers in place of the client's."""
    names = {name.encode("ascii") for name, _ in fixed}
    others = [line for line in lines if line.partition(b":")[0].lower() not in names]
    return others + [f"{name}: {value}\r\n".encode("ascii") for name, value in fixed]


def passes_upstream(name: bytes) -> bool:
    """Whether a client's header passes to the upstream.

    Many servers read `_` in a name as `-`, so `X_Api_Key` would conflict with the account's key.
    """
    return not (name in _NOT_UP or b"_" in name or name.startswith((OWN_PREFIX, PROXY_PREFIX)))


# The kinds of an answer's headers.
_PASSES, _STAYS, _LIMIT, _KIND, _LENGTH, _CODING, _AGAIN, _CONNECTION = range(8)
_KINDS: Final = {
    _TYPE: _KIND,
    b"content-length": _LENGTH,
    b"content-encoding": _CODING,
    _SHOULD_RETRY: _AGAIN,
    b"connection": _CONNECTION,
}


@lru_cache(maxsize=1024)
def _kind(name: bytes) -> int:
    known = _KINDS.get(name)
    if known is not None:
        return known
    if name in _NOT_DOWN or name.startswith((OWN_PREFIX, PROXY_PREFIX, _CORS_PREFIX)):
        return _STAYS
    return _LIMIT if name.startswith(_VENDOR_PREFIXES) and _LIMITS.fullmatch(name) else _PASSES


class ResponseHeaders:
    """The header lines for the client, and the properties of the body.

    Headers about limits pass only `with_limits`. Without `may_retry` the answer says `x-should-retry: false`.
    """

    __slots__ = ("is_event_stream", "is_json", "length", "lines")

    def __init__(self, headers: Sequence[Header], *, with_limits: bool, may_retry: bool = True) -> None:
        self.length: int | None = None
        """The declared length of the body; None without one."""
        kind_of_body = coding = b""
        lines = self.lines = [] if may_retry else [_NO_RETRY]
        named: frozenset[bytes] = frozenset()
        for header in headers:
            kind = _kind(header[0])
            if kind == _PASSES or (kind == _LIMIT and with_limits) or (kind == _AGAIN and may_retry):
                pass
            elif kind == _LENGTH:
                self.length = int(header[1])
            elif kind == _KIND:
                kind_of_body = value = header[1].lower()
                if value.startswith(_PAGES):
                    # A proxy's error page, which a browser must not show as a page of the gateway.
                    _, mark, parameters = header[1].partition(b";")
                    lines.append(b"content-type: text/plain%b%b\r\n" % (mark, parameters))
                    continue
            elif kind == _CODING:
                coding = header[1].strip().lower()
            else:
                if kind == _CONNECTION and header[1].lower() not in UNNAMED:
                    named = named_by(headers)
                continue
            lines.append(b"%b: %b\r\n" % header)
        if named:
            self.lines = [line for line in lines if line.partition(b":")[0] not in named]
        self.lines.append(_NO_SNIFFING)
        plain_type = kind_of_body.partition(b";")[0].strip() if coding in _PLAIN else b""
        self.is_event_stream = plain_type == b"text/event-stream"
        """Whether the body is an uncompressed event stream. Events may be added, so its length is not declared."""
        if self.is_event_stream and self.length is not None:
            self.length = None
            self.lines = [line for line in self.lines if not line.startswith(b"content-length:")]
        self.is_json = plain_type == b"application/json"
        """Whether the body is uncompressed JSON."""


def lines_of(headers: Iterable[Header]) -> tuple[list[bytes], int | None]:
    """Encode the gateway's own headers as lines, and give the body's length if it is declared."""
    lines, length = [], None
    for name, value in headers:
        if name == b"content-length":
            length = int(value)
        lines.append(b"%b: %b\r\n" % (name, value))
    return lines, length


def named_by(headers: Iterable[Header]) -> frozenset[bytes]:
    """Give the values of `Connection` in lower case; some of them name headers."""
    named = [value for name, value in headers if name == b"connection"]
    return frozenset(token.strip().lower() for token in b",".join(named).split(b","))
