import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.gateway import TrustedProxies

PROXIES = TrustedProxies(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("198.51.100.1", [b"203.0.113.9"], "198.51.100.1"),
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", [b"203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.1.2.3", [b"203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", [b"127.0.0.1, 203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", [b"127.0.0.1", b"203.0.113.9, 192.0.2.7"], "203.0.113.9"),
        ("10.1.2.3", [b"10.9.9.9, 10.8.8.8"], "10.9.9.9"),
        ("10.1.2.3", [b"203.0.113.9:4711"], "203.0.113.9"),
        ("2001:db8::1", [b"[2001:dead::1]:443"], "2001:dead::1"),
        ("10.1.2.3", [b"203.0.113.9, unknown"], "10.1.2.3"),
        ("10.1.2.3", [b"203.0.113.9, nonsense, 192.0.2.7"], "192.0.2.7"),
        ("10.1.2.3", [b""], "10.1.2.3"),
        (None, [b"203.0.113.9"], None),
    ],
)
def test_of_a_chain_the_last_address_counts_that_is_not_trusted(
    peer: str | None, forwarded: list[bytes], client: str | None
) -> None:
    assert PROXIES.client(peer, forwarded) == client


def test_no_proxy_is_trusted_unless_named() -> None:
    assert TrustedProxies().client("127.0.0.1", [b"203.0.113.9"]) == "127.0.0.1"
    assert TrustedProxies().client(None, [b"203.0.113.9"]) is None
    assert TrustedProxies(["unix"]).client(None, [b"203.0.113.9"]) == "203.0.113.9"
    assert TrustedProxies(["unix"]).client("127.0.0.1", [b"203.0.113.9"]) == "127.0.0.1"


@given(st.lists(st.one_of(st.binary(max_size=40), st.from_regex(rb"[0-9a-f:., \[\]]{0,40}")), max_size=4))
def test_whatever_is_forwarded_is_no_error(forwarded: list[bytes]) -> None:
    assert PROXIES.client("10.0.0.1", forwarded)


@pytest.mark.parametrize("name", ["", "proxy.lan", "10.0.0.1/8", "300.1.1.1", "10.0.0.0/33"])
def test_what_is_no_address_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        TrustedProxies([name])
