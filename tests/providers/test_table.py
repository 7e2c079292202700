import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tokenferry.providers import Table, is_loopback, url_fault

HTTPS = "must begin with https://; plain http"
ASCII = "must be a URL in ASCII without blanks"
METADATA = "must not be a link-local or metadata address"
NAME = "must name a host by a plain name or address"
SCHEME = "must begin with https:// (or http://"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.anthropic.com",
        "HTTPS://API.Anthropic.COM/",
        "https://llm.example:8443/v1/",
        "https://llm_gateway.internal",
        "https://xn--bcher-kva.example.",
        "https://gateway",
        "https://3com",
        "https://10.0.0.7",
        "https://[2001:db8::1]:443/x",
        "http://localhost:8080",
        "http://LOCALHOST.",
        "http://sandbox.localhost",
        "http://127.0.0.1",
        "http://127.8.9.1:1",
        "http://[::1]:13457",
    ],
)
def test_an_https_or_loopback_url_will_do(url: str) -> None:
    assert url_fault(url) is None


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("", SCHEME),
        ("llm.example", SCHEME),
        ("//llm.example", SCHEME),
        ("ftp://llm.example", SCHEME),
        ("file:///etc/passwd", SCHEME),
        ("javascript:alert(1)", SCHEME),
        ("https://", SCHEME),
        ("https:///path", SCHEME),
        ("http://llm.example", HTTPS),
        ("http://10.0.0.7", HTTPS),
        ("http://0.0.0.0", HTTPS),
        ("http://127.0.0.1.llm.example", HTTPS),
        ("http://localhost.llm.example", HTTPS),
        ("http://[2001:db8::1]", HTTPS),
        ("https://me:pass@llm.example", "must not hold a user name"),
        ("https://me@llm.example", "must not hold a user name"),
        ("https://@llm.example", "must not hold a user name"),
        ("https://llm.example/?key=1", "must not hold a query"),
        ("https://llm.example/?", "must not hold a query"),
        ("https://llm.example/#top", "must not hold a query"),
        ("https://llm.example#", "must not hold a query"),
        ("https://llm.example:99999", "is no URL"),
        ("https://llm.example:port", "is no URL"),
        ("https://[::1", "is no URL"),
        ("https://[nonsense]", "is no URL"),
        ("https://llm.example/a b", ASCII),
        (" https://llm.example", ASCII),
        ("https://llm.example\n", ASCII),
        ("https://llm.exa\tmple", ASCII),
        ("https://llm.example\x00", ASCII),
        ("https://llm.example\x7f", ASCII),
        ("https://llm.example\r\nx: y", ASCII),
        ("https://bücher.example", ASCII),
        ("https://claude。ai", ASCII),
        ("https://claude.ai\\.llm.example", ASCII),
        ("https://claude%2eai", NAME),
        ("https://llm..example", NAME),
        ("https://.example", NAME),
        ("https://*.example", NAME),
        ("https://169.254.169.254", METADATA),
        ("https://169.254.0.1/latest", METADATA),
        ("https://169.254.169.254.", METADATA),
        ("https://[fe80::1]", METADATA),
        ("https://[fe80::1%25eth0]", METADATA),
        ("https://[::ffff:169.254.169.254]", METADATA),
        ("https://[::ffff:a9fe:a9fe]", METADATA),
        ("https://[fd00:ec2::254]", METADATA),
        ("https://[FD00:0EC2:0::254]", METADATA),
        ("https://100.100.100.200", METADATA),
        ("https://metadata.google.internal", METADATA),
        ("https://METADATA.google.internal.", METADATA),
        ("https://metadata/", METADATA),
        ("https://2852039166", NAME),
        ("https://0xa9fea9fe", NAME),
        ("https://0251.0376.0251.0376", NAME),
        ("https://169.254.43518", NAME),
        ("http://169.254.169.254", HTTPS),
    ],
)
def test_every_other_url_is_refused_for_its_reason(url: str, fault: str) -> None:
    told = url_fault(url)
    assert told is not None
    assert told.startswith(fault)


@settings(deadline=None)
@given(st.text() | st.text("htps:/[]@.%?#\\0123456789abcdef").map("https://".__add__))
@example("https://[::1%]")
@example("https://[v1.x]")
def test_no_text_makes_it_raise_and_nothing_of_it_is_echoed(url: str) -> None:
    told = url_fault(url)
    assert told is None or len(url) < 9 or url not in told


@pytest.mark.parametrize("host", ["localhost", "localhost.", "a.localhost", "127.0.0.1", "127.255.0.3", "::1"])
def test_these_are_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", [None, "", ".", "0.0.0.0", "::", "localhost.com", "notlocalhost", "127.0.0.1.com"])
def test_these_are_not_this_machine(host: str | None) -> None:
    assert not is_loopback(host)


# -- Table


def read(data: object, path: str = "") -> tuple[Table, list[str]]:
    problems: list[str] = []
    return Table(data, path, problems), problems


def test_a_key_that_is_missing_gives_its_default() -> None:
    table, problems = read({})
    assert table.text("a") is None
    assert table.text("a", "b") == "b"
    assert table.flag("a", True) is True
    assert table.number("a", 5, least=0, most=9) == 5
    assert table.texts("a", ("b",)) == ("b",)
    assert table.choice("a", "b", ("b", "c")) == "b"
    assert table.url("a", "https://a") == "https://a"
    assert table.tables("a") == []
    assert table.table("a").text("b") is None
    assert not table.ignore("a")
    assert not problems


def test_a_wrong_value_gives_the_default_and_one_problem() -> None:
    table, problems = read({"a": {}}, "here")
    assert table.text("a", "b") == "b"
    assert table.flag("a", True) is True
    assert table.number("a", 5, least=0, most=9) == 5
    assert table.texts("a", ("b",)) == ("b",)
    assert table.choice("a", "b", ("b", "c")) == "b"
    assert table.url("a", "https://a") == "https://a"
    assert table.tables("a") == []
    assert problems == [
        "here.a must be a string that is not empty",
        "here.a must be true or false",
        "here.a must be a number from 0 to 9",
        "here.a must be a list of strings",
        "here.a must be one of b, c",
        "here.a must be a string that is not empty",
        "here.a must be written as [[here.a]]",
    ]


def test_a_bad_url_gives_the_default_and_a_problem_without_the_url() -> None:
    table, problems = read({"a": "https://me:hunter2@llm.example"})
    assert table.url("a", "https://b") == "https://b"
    assert problems == ["a must not hold a user name or password"]


@pytest.mark.parametrize("value", [True, "1", float("nan"), float("inf"), -0.1, 9.1, 10**400])
def test_what_is_no_number_in_its_range_is_a_problem(value: object) -> None:
    table, problems = read({"a": value})
    assert table.number("a", 5, least=0, most=9) == 5
    assert problems == ["a must be a number from 0 to 9"]


def test_an_unknown_key_is_told_with_the_nearest_known_one_or_with_all() -> None:
    table, problems = read({"base_ulr": 1, "zzz": 2, "name": "a"}, "providers.a")
    table.text("name")
    table.url("base_url")
    table.done()
    assert problems == [
        "providers.a.base_ulr is no key that tokenferry knows; did you mean base_url?",
        "providers.a.zzz is no key that tokenferry knows; known here: base_url, name",
    ]


def test_what_is_no_table_is_one_problem_and_reads_as_empty() -> None:
    table, problems = read([1], "here")
    assert table.text("a") is None
    table.done()
    assert problems == ["here must be a table"]
