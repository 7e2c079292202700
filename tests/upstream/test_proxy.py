import pickle
from base64 import b64decode

import pytest

from tokenferry.errors import ConfigError
from tokenferry.upstream import Proxies
from tokenferry.upstream._origin import parse_origin
from tokenferry.upstream._proxy import Proxy, parse_proxy

API = parse_origin("https://api.example.com")
PASSWORD = "hunter2"


def environment(**variables: str) -> Proxies:
    return Proxies.from_environment(variables)


@pytest.mark.parametrize(
    ("text", "place", "secure"),
    [
        ("http://proxy.example:3128", "proxy.example:3128", False),
        ("proxy.example:3128", "proxy.example:3128", False),
        ("HTTP://Proxy.Example:3128/", "proxy.example:3128", False),
        ("http://proxy", "proxy:80", False),
        ("https://proxy", "proxy:443", True),
        ("http://10.0.0.1:8080", "10.0.0.1:8080", False),
        ("http://[::1]:8080", "[::1]:8080", False),
    ],
)
def test_reads_where_a_proxy_is(text: str, place: str, *, secure: bool) -> None:
    proxy = parse_proxy(text)
    assert isinstance(proxy, Proxy)
    assert (str(proxy), proxy.secure, proxy.authorization) == (place, secure, None)


@pytest.mark.parametrize(
    ("userinfo", "pair"),
    [
        ("ferry:hunter2", b"ferry:hunter2"),
        ("ferry", b"ferry:"),
        (":hunter2", b":hunter2"),
        ("fe%40rry:a%3Ab%2Fc%23", b"fe@rry:a:b/c#"),
        ("ferry:%C3%BC%0D%0A", b"ferry:\xc3\xbc\r\n"),
        ("a@b:c", b"a@b:c"),
    ],
)
def test_reads_name_and_password_and_shows_them_nowhere(userinfo: str, pair: bytes) -> None:
    proxy = parse_proxy(f"http://{userinfo}@proxy:3128")
    assert isinstance(proxy, Proxy)
    assert proxy.authorization is not None
    assert b64decode(proxy.authorization.reveal()) == pair
    for shown in (repr(proxy), str(proxy), repr(Proxies("HTTPS_PROXY", proxy))):
        assert userinfo not in shown
        assert proxy.authorization.reveal() not in shown
        assert PASSWORD not in shown
    with pytest.raises(TypeError):
        pickle.dumps(proxy)


@pytest.mark.parametrize(
    "url",
    [
        "socks5://ferry:hunter2@proxy:1080",
        "ferry:hunter2@http://proxy",
        "http://ferry:hunter2/@proxy:3128",
        "http://ferry:hunter2#@proxy:3128",
        "http://ferry:hunter2?@proxy:3128",
        "http://ferry:hunter2@proxy:3128/path",
        "http://ferry:hunter2@proxy:0",
        "http://ferry:hunter2@proxy:",
        "http://ferry:hunter2@proxy:port",
        "http://ferry:hunter2@proxy:65536",
        "http://ferry:hunter2@",
        "http://ferry:hunter2@pro xy",
        "http://ferry:hunter2@pro\nxy",
        "http://ferry:hunter2@[::1",
        "http://ferry:hunter2@-proxy",
        "http://ferry:hunter2\u00fc@proxy",
        "http://ferry:hunter2@proxy\\@evil",
        "//ferry:hunter2@proxy",
    ],
)
def test_a_malformed_url_is_reported_by_the_variable_s_name_and_never_quoted(url: str) -> None:
    proxies = environment(HTTPS_PROXY=url)
    assert PASSWORD not in repr(proxies)
    with pytest.raises(ConfigError) as caught:
        proxies.of(API)
    assert str(caught.value).startswith("HTTPS_PROXY ")
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None
    traceback = caught.value.__traceback__
    while traceback is not None:
        if "tests" not in traceback.tb_frame.f_code.co_filename:
            assert PASSWORD not in repr(traceback.tb_frame.f_locals)
        traceback = traceback.tb_next


def test_a_malformed_url_matters_only_where_a_proxy_is_needed() -> None:
    proxies = environment(ALL_PROXY="socks5://proxy", NO_PROXY="api.example.com")
    assert proxies.of(API) is None
    assert proxies.of(parse_origin("http://127.0.0.1:8080")) is None
    with pytest.raises(ConfigError, match=r"^ALL_PROXY must begin with http"):
        proxies.of(parse_origin("https://other.example.com"))


@pytest.mark.parametrize(
    ("variables", "host"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://a"}, "a"),
        ({"https_proxy": "http://a"}, "a"),
        ({"https_proxy": "http://a", "HTTPS_PROXY": "http://b"}, "a"),
        ({"ALL_PROXY": "http://a"}, "a"),
        ({"all_proxy": "http://a", "ALL_PROXY": "http://b"}, "a"),
        ({"HTTPS_PROXY": "http://a", "all_proxy": "http://b"}, "a"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://b"}, None),
        ({"https_proxy": "", "ALL_PROXY": "http://b"}, "b"),
        ({"HTTPS_PROXY": "  "}, None),
        ({"HTTP_PROXY": "http://a", "http_proxy": "http://a"}, None),
    ],
)
def test_https_proxy_goes_before_all_proxy_and_lower_case_before_upper(
    variables: dict[str, str], host: str | None
) -> None:
    proxy = environment(**variables).of(API)
    assert (proxy.host if proxy else None) == host


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://localhost", "http://[::1]:1", "https://localhost", "https://127.8.9.1"]
)
def test_this_machine_is_never_reached_through_a_proxy(url: str) -> None:
    assert environment(HTTPS_PROXY="http://proxy").of(parse_origin(url)) is None


@pytest.mark.parametrize(
    ("no_proxy", "origin"),
    [
        ("*", "https://api.example.com"),
        ("other, *", "https://api.example.com"),
        ("api.example.com", "https://api.example.com"),
        ("API.Example.COM", "https://api.example.com"),
        ("api.example.com.", "https://api.example.com"),
        ("example.com", "https://api.example.com"),
        (".example.com", "https://api.example.com"),
        (".example.com", "https://example.com"),
        ("*.example.com", "https://api.example.com"),
        ("com", "https://api.example.com"),
        ("a.b,c.d example.com", "https://api.example.com"),
        ("api.example.com:443", "https://api.example.com"),
        ("example.com:8443", "https://api.example.com:8443"),
        ("10.1.2.3", "https://10.1.2.3"),
        ("10.1.2.3:443", "https://10.1.2.3"),
        ("10.0.0.0/8", "https://10.1.2.3"),
        ("10.1.2.3/8", "https://10.1.2.3"),
        ("2001:db8::1", "https://[2001:db8:0::1]"),
        ("[2001:db8::1]", "https://[2001:db8::1]"),
        ("[2001:db8::1]:443", "https://[2001:db8::1]"),
        ("2001:db8::/32", "https://[2001:db8::1]"),
    ],
)
def test_no_proxy_exempts(no_proxy: str, origin: str) -> None:
    assert environment(HTTPS_PROXY="http://proxy", NO_PROXY=no_proxy).of(parse_origin(origin)) is None


@pytest.mark.parametrize(
    ("no_proxy", "origin"),
    [
        ("", "https://api.example.com"),
        (",, ,", "https://api.example.com"),
        (".", "https://api.example.com"),
        ("ample.com", "https://api.example.com"),
        ("api.example", "https://api.example.com"),
        ("api.example.com.evil", "https://api.example.com"),
        ("api.example.com:8443", "https://api.example.com"),
        ("*:8443", "https://api.example.com"),
        ("10.0.0.0/8", "https://11.1.2.3"),
        ("10.0.0.0/33", "https://10.0.0.1"),
        ("10.0.0", "https://10.0.0.1"),
        ("2001:db8::/32", "https://10.0.0.1"),
        ("[2001:db8::1]:8443", "https://[2001:db8::1]"),
    ],
)
def test_no_proxy_exempts_nothing_else(no_proxy: str, origin: str) -> None:
    assert environment(HTTPS_PROXY="http://proxy", NO_PROXY=no_proxy).of(parse_origin(origin)) is not None


def test_no_proxy_in_lower_case_wins() -> None:
    proxies = environment(HTTPS_PROXY="http://proxy", no_proxy="", NO_PROXY="*")
    assert proxies.of(API) is not None
