from collections.abc import Iterable

import pytest

from tokenferry.anthropic_beta import OAUTH_BETA
from tokenferry.credentials import ApiKey, Credential, OAuthToken
from tokenferry.gateway.http.headers import CredentialCache, EncodedCredential, ResponseHeaders
from tokenferry.gateway.http.request_head import RequestHead
from tokenferry.secret import Secret

Headers = list[tuple[bytes, bytes]]

KEY = EncodedCredential(ApiKey(Secret("sk-ant-api03-k")))
TOKEN = EncodedCredential(OAuthToken(Secret("sk-ant-oat01-t")))
BETA = OAUTH_BETA.encode()


def fields(lines: Iterable[bytes]) -> Headers:
    """Header lines, taken apart."""
    found = []
    for line in lines:
        assert line.endswith(b"\r\n")
        name, _, value = line[:-2].partition(b": ")
        found.append((name, value))
    return found


OWN = fields(KEY.lines)


def upward(*headers: tuple[bytes, bytes], presented: EncodedCredential = KEY, identity: bool = False) -> Headers:
    return fields(RequestHead(headers).upstream_lines(presented, identity=identity))


def downward(headers: Headers, *, with_limits: bool, may_retry: bool = True) -> Headers:
    """All but the last one, which every answer has."""
    *others, last = fields(ResponseHeaders(headers, with_limits=with_limits, may_retry=may_retry).lines)
    assert last == (b"x-content-type-options", b"nosniff")
    return others


@pytest.mark.parametrize(
    "name",
    [
        b"host", b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect",
        b"content-length", b"proxy-connection", b"proxy-authorization", b"cookie", b"authorization", b"x-api-key",
        b"x-tokenferry-account", b"x_api_key", b"content_length", b"_", b"x-http-method-override", b"x-http-method",
        b"x-method-override", b"x-original-url", b"x-rewrite-url",
    ],
)  # fmt: skip
def test_what_belongs_to_this_hop_or_to_the_client_does_not_go_up(name: bytes) -> None:
    assert upward((name, b"v"), (b"x-kept", b"1")) == [(b"x-kept", b"1"), *OWN]


def test_everything_else_goes_up_in_order_repeated_and_unchanged() -> None:
    headers = [
        (b"anthropic-version", b"2023-06-01"),
        (b"x-a", b"1"),
        (b"user-agent", b"somebody/1"),
        (b"x-a", b"  2 \xff"),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"accept-encoding", b"gzip, br"),
        (b"anthropic-beta", b"a, b"),
        (b"anthropic-beta", b"a"),
    ]
    assert upward(*headers) == [*headers, *OWN]


def test_headers_that_connection_names_go_no_further() -> None:
    headers = [(b"connection", b"close, X-Hop"), (b"x-hop", b"1"), (b"connection", b"x-other"), (b"x-other", b"2")]
    assert upward(*headers) == OWN


@pytest.mark.parametrize(
    ("given", "merged"),
    [
        ([], BETA),
        ([b"a"], b"a," + BETA),
        ([b"a, b", b"c"], b"a,b,c," + BETA),
        ([b"a," + BETA + b",b"], b"a," + BETA + b",b"),
        ([b""], BETA),
    ],
)
def test_a_tokens_beta_joins_the_clients_once_and_last(given: list[bytes], merged: bytes) -> None:
    headers = upward(*((b"anthropic-beta", value) for value in given), presented=TOKEN)
    assert [value for name, value in headers if name == b"anthropic-beta"] == [merged]
    assert headers[-1] == (b"authorization", b"Bearer sk-ant-oat01-t")


def test_a_merged_beta_stays_in_its_place() -> None:
    headers = upward((b"x-a", b"1"), (b"anthropic-beta", b"a"), (b"x-b", b"2"), presented=TOKEN)
    assert [name for name, _ in headers] == [b"x-a", b"anthropic-beta", b"x-b", b"authorization"]


@pytest.mark.parametrize("given", [[], [b"gzip"], [b"gzip", b"br"]])
def test_inference_is_asked_for_uncompressed(given: list[bytes]) -> None:
    headers = upward(*((b"accept-encoding", value) for value in given), identity=True)
    assert [value for name, value in headers if name == b"accept-encoding"] == [b"identity"]


@pytest.mark.parametrize(
    "name",
    [
        b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"proxy-authenticate",
        b"set-cookie", b"x-tokenferry-error", b"access-control-allow-origin", b"access-control-expose-headers",
        b"strict-transport-security", b"alt-svc", b"www-authenticate", b"x-content-type-options",
    ],
)  # fmt: skip
def test_what_belongs_to_this_hop_or_to_the_account_does_not_come_down(name: bytes) -> None:
    assert downward([(name, b"v"), (b"content-length", b"3")], with_limits=True) == [(b"content-length", b"3")]


def test_limits_come_down_only_when_asked_for() -> None:
    names = (
        b"anthropic-ratelimit-new-family-reset",
        b"anthropic-organization-id",
        b"anthropic-priority-input-tokens-remaining",
        b"anthropic-fast-output-tokens-limit",
        b"x-ratelimit-reset-tokens",
        b"openai-organization",
    )
    limits = [(name, b"1") for name in names]
    others = [(b"retry-after", b"9"), (b"request-id", b"r"), (b"content-encoding", b"gzip"), (b"anthropic-beta", b"b")]
    assert downward([*limits, *others], with_limits=True) == [*limits, *others]
    assert downward([*limits, *others], with_limits=False) == others


def test_headers_that_connection_names_come_no_further() -> None:
    assert downward([(b"connection", b"x-hop"), (b"x-hop", b"1")], with_limits=True) == []


def test_should_retry_is_said_once() -> None:
    given = [(b"x-should-retry", b"true"), (b"a", b"1")]
    assert downward(given, with_limits=True) == given
    assert downward(given, with_limits=True, may_retry=False) == [(b"x-should-retry", b"false"), (b"a", b"1")]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"content-type", b"text/event-stream")], True),
        ([(b"content-type", b"Text/Event-Stream; charset=utf-8"), (b"content-encoding", b"identity")], True),
        ([(b"content-type", b"text/event-stream"), (b"content-encoding", b"gzip")], False),
        ([(b"content-type", b"text/event-stream"), (b"content-length", b"5")], True),
        ([(b"content-type", b"application/json")], False),
        ([], False),
    ],
)
def test_event_streams_are_known_by_their_type(headers: Headers, expected: bool) -> None:  # noqa: FBT001  # a case
    assert ResponseHeaders(headers, with_limits=True).is_event_stream is expected


def test_an_event_stream_declares_no_length_since_events_may_be_added() -> None:
    found = ResponseHeaders([(b"content-length", b"5"), (b"content-type", b"text/event-stream")], with_limits=True)
    assert (found.length, found.is_event_stream) == (None, True)
    assert not [line for line in found.lines if b"length" in line]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"content-type", b"application/json; charset=utf-8"), (b"content-length", b"5")], True),
        ([(b"content-type", b"application/json"), (b"content-encoding", b"br")], False),
        ([(b"content-type", b"text/plain")], False),
        ([], False),
    ],
)
def test_json_is_known_by_its_type(headers: Headers, expected: bool) -> None:  # noqa: FBT001  # a case
    assert ResponseHeaders(headers, with_limits=True).is_json is expected


@pytest.mark.parametrize("kind", [b"text/html", b"TEXT/HTML", b"application/xhtml+xml", b"image/svg+xml", b"text/xml"])
def test_a_page_comes_down_as_text(kind: bytes) -> None:
    given = [(b"content-type", kind + b"; charset=latin-1"), (b"x-a", b"text/html")]
    assert downward(given, with_limits=True) == [
        (b"content-type", b"text/plain; charset=latin-1"),
        (b"x-a", b"text/html"),
    ]


def test_a_credential_is_encoded_once_per_token() -> None:
    presentations = CredentialCache()
    first: Credential = ApiKey(Secret("one"))
    assert presentations.of("alice", first) is presentations.of("alice", first)
    second = presentations.of("alice", ApiKey(Secret("two")))
    assert second.lines == (b"x-api-key: two\r\n",)
    assert "two" not in repr(second)


def test_a_key_goes_where_its_provider_takes_it() -> None:
    presentations = CredentialCache()
    key: Credential = ApiKey(Secret("sk-or-key"))
    assert presentations.of("alice", key).lines == (b"x-api-key: sk-or-key\r\n",)
    bearer = presentations.of("alice", ApiKey(Secret("sk-or-key"), header="authorization"))
    assert bearer.lines == (b"authorization: Bearer sk-or-key\r\n",)
