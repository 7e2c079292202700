"""Which headers pass, in both directions. Names are lower case, as the listener and the upstream client give them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tokenferry.credentials import Credential, merge_beta
from tokenferry.gateway.upstream import FRAMING_HEADERS

Header = tuple[bytes, bytes]

_BETA: Final = b"anthropic-beta"
_ENCODING: Final = b"accept-encoding"
_IDENTITY: Final = (_ENCODING, b"identity")
_OWN_PREFIX: Final = b"x-tokenferry-"
_PROXY_PREFIX: Final = b"proxy-"
_HOP_BY_HOP: Final = frozenset((b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"))
_NOT_UP: Final = FRAMING_HEADERS | _HOP_BY_HOP | {b"authorization", b"x-api-key", b"cookie", b"cookie2"}
_NOT_DOWN: Final = _HOP_BY_HOP | {b"set-cookie", b"set-cookie2"}
_VENDOR_PREFIXES: Final = (b"anthropic-", b"openai-", b"x-ratelimit-")
# Families of limits come and go (`anthropic-priority-…-reset`), so the shape decides and not a list.
_LIMITS: Final = re.compile(
    rb"(anthropic|x)-ratelimit-.*|anthropic-.+-(limit|remaining|reset)|anthropic-organization-id|openai-organization"
)
_SHOULD_RETRY: Final = b"x-should-retry"
_TYPE: Final = b"content-type"
# Whatever a browser would show as a page, and run scripts of.
_PAGES: Final = (b"text/html", b"application/xhtml", b"image/svg", b"text/xml", b"application/xml")


class HeaderList(list[Header]):
    """Headers whose values may be secrets: the repr shows the names alone."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"HeaderList({', '.join(name.decode('latin-1') for name, _ in self)})"


class Presented:
    """A credential as bytes for the wire. Its repr shows nothing of it."""

    __slots__ = ("betas", "credential", "lines")

    def __init__(self, credential: Credential) -> None:
        self.credential = credential
        headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in credential.headers()]
        self.lines = tuple(header for header in headers if header[0] != _BETA)
        self.betas = tuple(value.decode("ascii") for name, value in headers if name == _BETA)


class Presentations:
    """Encodes each account's credential once per token."""

    def __init__(self) -> None:
        self._known: dict[str, Presented] = {}

    def of(self, account: str, credential: Credential) -> Presented:
        known = self._known.get(account)
        if known is None or known.credential is not credential:
            known = self._known[account] = Presented(credential)
        return known


def up(headers: Sequence[Header], presented: Presented, *, identity: bool) -> list[Header]:
    """The headers for the upstream: the client's, with the account's credential instead of the client's key.

    With `identity` the answer is asked for uncompressed. A beta that the credential needs joins the client's.
    """
    named = _named_by_connection(headers)
    passed = HeaderList()
    betas: list[str] = []
    beta_at = encoding_at = -1
    for header in headers:
        name = header[0]
        if name in _NOT_UP or name in named or name.startswith((_OWN_PREFIX, _PROXY_PREFIX)):
            continue
        if name == _BETA and presented.betas:
            betas.append(header[1].decode("latin-1"))
            if beta_at < 0:
                beta_at = len(passed)
                passed.append(header)
        elif name == _ENCODING and identity:
            if encoding_at < 0:
                encoding_at = len(passed)
                passed.append(_IDENTITY)
        else:
            passed.append(header)
    if identity and encoding_at < 0:
        passed.append(_IDENTITY)
    if presented.betas:
        merged = (_BETA, merge_beta(betas, presented.betas).encode("latin-1"))
        if beta_at < 0:
            passed.append(merged)
        else:
            passed[beta_at] = merged
    passed.extend(presented.lines)
    return passed


def down(headers: Sequence[Header], *, with_limits: bool) -> list[Header]:
    """The headers for the client; those that tell of the account's limits only if they are the caller's own."""
    named = _named_by_connection(headers)
    passed: list[Header] = []
    for header in headers:
        name = header[0]
        if name in _NOT_DOWN or name in named or name.startswith((_OWN_PREFIX, _PROXY_PREFIX)):
            continue
        if not with_limits and name.startswith(_VENDOR_PREFIXES) and _LIMITS.fullmatch(name):
            continue
        if name == _TYPE and header[1].lower().startswith(_PAGES):
            # A proxy's error page; under the gateway's own address no browser may take it for a page of ours.
            _, mark, parameters = header[1].partition(b";")
            passed.append((_TYPE, b"text/plain" + mark + parameters))
            continue
        passed.append(header)
    return passed


def without_retry(headers: Iterable[Header]) -> list[Header]:
    """The same headers, telling the client not to send the request again."""
    return [*(header for header in headers if header[0] != _SHOULD_RETRY), (_SHOULD_RETRY, b"false")]


def is_event_stream(headers: Iterable[Header]) -> bool:
    """Tell whether a body is server-sent events to which one may be added: not compressed, of no announced length."""
    fields = dict(headers)
    return _plain_type(fields) == b"text/event-stream" and b"content-length" not in fields


def is_json(headers: Iterable[Header]) -> bool:
    """Tell whether a body is JSON that can be read as it is: not compressed."""
    return _plain_type(dict(headers)) == b"application/json"


def _plain_type(fields: Mapping[bytes, bytes]) -> bytes:
    if fields.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        return b""
    return fields.get(_TYPE, b"").partition(b";")[0].strip().lower()


def _named_by_connection(headers: Iterable[Header]) -> frozenset[bytes]:
    named = [value for name, value in headers if name == b"connection"]
    if not named:
        return frozenset()
    return frozenset(token.strip().lower() for token in b",".join(named).split(b","))
