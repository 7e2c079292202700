import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.upstream import FRAMING_HEADERS
from tokenferry.upstream._origin import parse_origin
from tokenferry.upstream._request import UpstreamRequest, build_request, encode_headers

ORIGIN = parse_origin("https://llm.example:8443/base")
KEY = b"sk-ant-api03-secret"


def build(
    method: str = "GET", target: bytes = b"/v1", headers: tuple[tuple[bytes, bytes], ...] = (), body: bytes = b""
) -> UpstreamRequest | str:
    return build_request(ORIGIN, method, target, encode_headers(headers), body)


def head_of(request: UpstreamRequest | str) -> bytes:
    assert isinstance(request, UpstreamRequest)
    first = request.pieces[0]
    assert isinstance(first, bytes)
    head, end, _ = first.partition(b"\r\n\r\n")
    return head + end


def test_builds_the_head_from_its_parts() -> None:
    request = build("POST", b"/v1/messages?beta=true", ((b"X-Api-Key", KEY), (b"accept", b"")), b"{}")
    assert head_of(request) == (
        b"POST /base/v1/messages?beta=true HTTP/1.1\r\n"
        b"host: llm.example:8443\r\nX-Api-Key: " + KEY + b"\r\naccept: \r\ncontent-length: 2\r\n\r\n"
    )


def parts_of(size: int) -> list[bytes | memoryview]:
    whole = bytes(range(250)) * (size // 250)
    return [whole, memoryview(whole)[10:20], memoryview(whole).cast("I")]


def test_passes_the_parts_of_a_large_body_on_without_a_copy() -> None:
    parts = parts_of(10_000)
    request = build_request(ORIGIN, "POST", b"/", encode_headers([]), parts)
    assert isinstance(request, UpstreamRequest)
    assert all(ours is theirs for ours, theirs in zip(request.pieces[1:], parts, strict=True))
    assert b"content-length: 20010\r\n" in head_of(request)


def test_a_small_body_goes_out_with_its_head() -> None:
    """For each piece is a system call's worth of work."""
    parts = parts_of(1000)
    request = build_request(ORIGIN, "POST", b"/", encode_headers([]), parts)
    assert isinstance(request, UpstreamRequest)
    assert request.pieces == (head_of(request) + b"".join(parts),)
    assert b"content-length: 2010\r\n" in head_of(request)


def test_gives_a_length_to_every_post_and_to_no_bodiless_get() -> None:
    assert b"content-length: 0\r\n" in head_of(build("POST"))
    assert b"content-length" not in head_of(build("GET"))


@pytest.mark.parametrize("name", sorted(FRAMING_HEADERS))
def test_refuses_framing_headers_in_any_case(name: bytes) -> None:
    fault = build(headers=((name.title(), b"x"),))
    assert isinstance(fault, str)
    assert name.decode() in fault


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a: b\r\nc", b"host: evil\r\nx", b"a\0", b"\xff", b" a", b"a\n"])
def test_refuses_names_that_are_no_tokens(name: bytes) -> None:
    assert isinstance(build(headers=((name, b"x"),)), str)


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\r", b"a\n", b"\0", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"])
def test_refuses_line_ends_and_nul_in_values_without_quoting_them(value: bytes) -> None:
    fault = build(headers=((b"authorization", KEY + value),))
    assert isinstance(fault, str)
    assert KEY.decode() not in fault


@pytest.mark.parametrize(
    "target", [b"", b"v1", b"http://evil/", b"*", b"/a b", b"/a\r\n", b"/\0", b"/a#b", b"/\xff", b"/a\n", b"/\x7f"]
)
def test_refuses_targets_not_in_origin_form(target: bytes) -> None:
    assert isinstance(build(target=target), str)


@pytest.mark.parametrize("method", ["", "get", "GET /", "G\r\n", "CONNECT", "GÉT"])
def test_refuses_odd_methods(method: str) -> None:
    assert isinstance(build(method), str)


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=12)), max_size=4))
def test_whatever_the_headers_no_line_is_smuggled_in(headers: list[tuple[bytes, bytes]]) -> None:
    request = build(headers=tuple(headers))
    if isinstance(request, UpstreamRequest):
        lines = head_of(request)[:-4].split(b"\r\n")
        assert lines[2:] == [name + b": " + value for name, value in headers]
        assert not any(set(line) & set(b"\r\n\0") for line in lines)


def test_its_repr_shows_no_credential() -> None:
    assert KEY.decode() not in repr(build(headers=((b"authorization", KEY),)))
