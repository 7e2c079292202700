"""Reads a request's headers in one pass: those to check and record, and the lines for the upstream."""

from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from typing import Final

from tokenferry.anthropic_beta import merge_beta
from tokenferry.gateway.http.headers import (
    BETA,
    ENCODING,
    UNNAMED,
    EncodedCredential,
    Header,
    named_by,
    passes_upstream,
    with_fixed,
)
from tokenferry.upstream import EncodedHeaders

_IDENTITY: Final = b"accept-encoding: identity\r\n"

# The kinds of headers. All but the first four are read; those from `_TYPE` on also pass.
(
    _PASSES,
    _STAYS,
    _BETA,
    _ENCODING,
    _HOST,
    _CREDENTIAL,
    _KEY,
    _CONNECTION,
    _CODING,
    _EXPECT,
    _TYPE,
    _ORIGIN,
    _SITE,
    _SESSION,
    _AGENT,
    _PARENT,
    _FORWARDED,
    _VIA,
    _BODY_CODING,
) = range(19)

_KINDS: Final = {
    b"host": _HOST,
    b"authorization": _CREDENTIAL,
    b"x-api-key": _CREDENTIAL,
    b"x-goog-api-key": _CREDENTIAL,
    b"x-tokenferry-key": _KEY,
    b"connection": _CONNECTION,
    b"transfer-encoding": _CODING,
    b"expect": _EXPECT,
    BETA: _BETA,
    ENCODING: _ENCODING,
    b"content-type": _TYPE,
    b"origin": _ORIGIN,
    b"sec-fetch-site": _SITE,
    b"x-claude-code-session-id": _SESSION,
    b"session-id": _SESSION,  # sent by Codex
    b"x-claude-code-agent-id": _AGENT,
    b"x-claude-code-parent-agent-id": _PARENT,
    b"x-forwarded-for": _FORWARDED,
    b"via": _VIA,
    b"content-encoding": _BODY_CODING,
}


@lru_cache(maxsize=1024)
def _kind(name: bytes) -> int:
    known = _KINDS.get(name)
    if known is not None:
        return known
    return _PASSES if passes_upstream(name) else _STAYS


class RequestHead:
    """The parsed headers of a request, whose names a strict parser gave in lower case. The repr shows nothing.

    The requests of a connection that differ only in their bodies share one.
    """

    # Defaults of the class, which cost nothing per request.
    hosts: Sequence[bytes] = ()
    codings: Sequence[bytes] = ()
    expectations: Sequence[bytes] = ()
    content_types: Sequence[bytes] = ()
    body_codings: Sequence[bytes] = ()
    origins: Sequence[bytes] = ()
    sites: Sequence[bytes] = ()
    credentials: Sequence[Header] = ()
    keys: Sequence[Header] = ()
    """Client keys in `x-tokenferry-key`; the other headers then hold the client's own credential."""
    forwarded: Sequence[bytes] = ()
    vias: Sequence[bytes] = ()
    session: bytes | None = None
    agent: bytes | None = None
    parent_agent: bytes | None = None
    _betas: Sequence[bytes] = ()
    _beta_at: Sequence[int] = ()
    _encoding_at: Sequence[int] = ()
    presented: Sequence[str] | None = None
    """The client keys in `keys` or else in `credentials`, once the guard has read them."""
    _encoded: "tuple[EncodedCredential, Sequence[tuple[str, str]], bool, EncodedHeaders] | None" = None
    """The last result of `upstream_headers`, behind what it was made from."""

    def __init__(self, headers: Sequence[Header]) -> None:  # noqa: C901, PLR0912  # one pass: this is the hot path
        lines: list[bytes] = []
        is_named = False
        for header in headers:
            kind = _kind(header[0])
            if kind == _PASSES:
                lines.append(b"%b: %b\r\n" % header)
            elif kind == _STAYS:
                pass
            elif kind == _HOST:
                self.hosts = (*self.hosts, header[1])
            elif kind == _CREDENTIAL:
                self.credentials = (*self.credentials, header)
            elif kind == _KEY:
                self.keys = (*self.keys, (b"x-api-key", header[1]))
            elif kind == _CONNECTION:
                is_named = is_named or header[1].lower() not in UNNAMED
            elif kind == _CODING:
                self.codings = (*self.codings, header[1])
            elif kind == _EXPECT:
                self.expectations = (*self.expectations, header[1])
            else:
                if kind == _BETA:
                    self._betas = (*self._betas, header[1])
                    self._beta_at = (*self._beta_at, len(lines))
                elif kind == _ENCODING:
                    self._encoding_at = (*self._encoding_at, len(lines))
                elif kind == _TYPE:
                    self.content_types = (*self.content_types, header[1])
                elif kind == _ORIGIN:
                    self.origins = (*self.origins, header[1])
                elif kind == _SITE:
                    self.sites = (*self.sites, header[1])
                elif kind == _SESSION:
                    self.session = header[1]
                elif kind == _AGENT:
                    self.agent = header[1]
                elif kind == _PARENT:
                    self.parent_agent = header[1]
                elif kind == _FORWARDED:
                    self.forwarded = (*self.forwarded, header[1])
                elif kind == _VIA:
                    self.vias = (*self.vias, header[1])
                elif kind == _BODY_CODING:
                    self.body_codings = (*self.body_codings, header[1])
                lines.append(b"%b: %b\r\n" % header)
        self._lines = lines
        if is_named:
            self._drop_named(headers)

    def _drop_named(self, headers: Sequence[Header]) -> None:
        """Drop the headers that `Connection` names."""
        named = named_by(headers)
        if any(line.partition(b":")[0] in named for line in self._lines):
            rest = RequestHead([header for header in headers if header[0] not in named and header[0] != b"connection"])
            self._lines, self._betas = rest._lines, rest._betas
            self._beta_at, self._encoding_at = rest._beta_at, rest._encoding_at

    def with_credential(self, credential: Header) -> "RequestHead":
        """Give these headers with a credential that the request has elsewhere."""
        head = copy(self)
        head.credentials, head.presented = (*self.credentials, credential), None
        return head

    def upstream_headers(
        self, presented: EncodedCredential, *, identity: bool, fixed: Sequence[tuple[str, str]] = ()
    ) -> EncodedHeaders:
        """Give the headers for the upstream: `upstream_lines`, with a provider's fixed headers."""
        known = self._encoded
        if known is not None and known[0] is presented and known[1] is fixed and known[2] is identity:
            return known[3]
        lines = self.upstream_lines(presented, identity=identity)
        encoded = EncodedHeaders.of(with_fixed(lines, fixed) if fixed else lines)
        self._encoded = (presented, fixed, identity, encoded)
        return encoded

    def upstream_lines(self, presented: EncodedCredential, *, identity: bool) -> list[bytes]:
        """Give the header lines for the upstream, with the account's credential instead of the client's key.

        `identity` asks for an uncompressed answer. Betas that the credential needs are merged with the client's.
        """
        lines = self._lines.copy()
        surplus: list[int] = []
        if identity:
            if self._encoding_at:
                lines[self._encoding_at[0]] = _IDENTITY
                surplus += self._encoding_at[1:]
            else:
                lines.append(_IDENTITY)
        if presented.betas:
            betas = [value.decode("latin-1") for value in self._betas]
            merged = b"%b: %b\r\n" % (BETA, merge_beta(betas, presented.betas).encode("latin-1"))
            if self._beta_at:
                lines[self._beta_at[0]] = merged
                surplus += self._beta_at[1:]
            else:
                lines.append(merged)
        for at in sorted(surplus, reverse=True):
            del lines[at]
        lines += presented.lines
        return lines
