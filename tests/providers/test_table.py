from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from tokenferry.config_key import ConfigKey
from tokenferry.providers import Reading, Table, is_loopback, url_fault

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
        ("https://llm.example:99999", "is not a URL"),
        ("https://llm.example:port", "is not a URL"),
        ("https://[::1", "is not a URL"),
        ("https://[nonsense]", "is not a URL"),
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


class Sample(Struct, frozen=True):
    """A section with a key of every kind."""

    text: Annotated[str, ConfigKey("A text.")] = "b"
    blank: Annotated[str | None, ConfigKey("It may be empty.")] = "b"
    shown: Annotated[str | None, ConfigKey("It may be left out, and not be empty.", example='"x"')] = None
    choice: Annotated[Literal["b", "c"], ConfigKey("One of two.", aliases={"old": "c"})] = "b"
    flag: Annotated[bool, ConfigKey("Yes or no.")] = True
    whole: Annotated[int, ConfigKey("A count.", 0, 9)] = 5
    number: Annotated[float, ConfigKey("A share.", 0, 9)] = 5.0
    time: Annotated[float, ConfigKey("A time.", 1, 600, "duration")] = 5.0
    file: Annotated[Path | None, ConfigKey("A file.")] = None
    url: Annotated[str, ConfigKey("An address.", kind="url")] = "https://a"
    pattern: Annotated[str, ConfigKey("A pattern.", kind="pattern")] = "^a"
    texts: Annotated[tuple[str, ...], ConfigKey("Texts.")] = ("b",)
    strings: Annotated[tuple[tuple[str, str], ...], ConfigKey("Pairs.")] = (("b", "c"),)
    other: str = "no key sets it"


def read(data: object, path: str = "") -> tuple[Sample, list[str]]:
    reading = Reading(Path("/etc"))
    table = Table(data, path, reading)
    found = table.read(Sample())
    table.done()
    return found, [fault.text for fault in reading.faults]


def test_a_key_that_is_missing_gives_its_default() -> None:
    assert read({}) == (Sample(), [])


def test_each_kind_of_value_is_read() -> None:
    data: dict[str, object] = {"text": "x", "blank": "", "shown": "x", "choice": "old", "flag": False, "whole": 8.0}
    data |= {"number": 2, "time": "2m", "file": "a.pem", "url": "https://b", "pattern": "", "texts": ["x"]}
    found, problems = read({**data, "strings": {"x": "y"}})
    assert problems == []
    assert found == Sample(
        *("x", None, "x", "c", False, 8, 2, 120, Path("/etc/a.pem"), "https://b", "^a", ("x",), (("x", "y"),))
    )


def test_a_wrong_value_gives_the_default_and_one_problem() -> None:
    keys = [name for name in Sample.__struct_fields__ if name != "other"]
    found, problems = read({key: [[]] for key in keys}, "here")
    assert found == Sample()
    assert problems == [
        "here.text must be a string that is not empty",
        "here.blank must be a string",
        "here.shown must be a string that is not empty",
        "here.choice must be one of b, c",
        "here.flag must be true or false",
        "here.whole must be a whole number from 0 to 9",
        "here.number must be a number from 0 to 9",
        'here.time must be a duration from 1s to 10m, as in "30s" or "5m"',
        "here.file must be a string",
        "here.url must be a string that is not empty",
        "here.pattern must be a string that is not empty",
        "here.texts must be a list of strings",
        "here.strings must be a table of strings that are not empty",
    ]


def test_a_list_of_tables_is_written_as_one() -> None:
    reading = Reading()
    assert Table({"a": {}}, "here", reading).tables("a") == []
    assert [fault.text for fault in reading.faults] == ["here.a must be written as [[here.a]]"]


def test_a_bad_url_gives_the_default_and_a_problem_without_the_url() -> None:
    found, problems = read({"url": "https://me:hunter2@llm.example"})
    assert found == Sample()
    assert problems == ["url must not hold a user name or password"]


@pytest.mark.parametrize("key", ["whole", "number"])
@pytest.mark.parametrize("value", [True, "1", float("nan"), float("inf"), -0.1, 9.1, 10**400])
def test_what_is_no_number_in_its_range_is_a_problem(key: str, value: object) -> None:
    found, problems = read({key: value})
    assert found == Sample()
    assert problems == [f"{key} must be a {'whole ' if key == 'whole' else ''}number from 0 to 9"]


@pytest.mark.parametrize("value", ["0.9s", "11m", "", "5 minutes", "-5s", True, float("nan"), "1m30s"])
def test_what_is_no_duration_in_its_range_is_a_problem(value: object) -> None:
    assert read({"time": value}) == (Sample(), ['time must be a duration from 1s to 10m, as in "30s" or "5m"'])


def test_an_unknown_key_is_reported_with_the_nearest_known_one_or_with_all() -> None:
    reading = Reading(renamed={"providers.wire": "providers.shape"})
    table = Table({"base_ulr": 1, "zzz": 2, "wire": "a"}, "providers.a", reading, ("providers", 0))
    table.get(ConfigKey("An address.", name="base_url"), None)
    table.ignore("zz")
    table.done()
    assert [fault.text for fault in reading.faults] == [
        "providers.a.base_ulr is not a known key; did you mean base_url?",
        "providers.a.zzz is not a known key; known here: base_url",
        "providers.a.wire is now providers.shape",
    ]


def test_a_former_key_counts_but_not_beside_todays() -> None:
    key = ConfigKey("An account.", name="account")
    cases: tuple[tuple[dict[str, object], str | None, list[str]], ...] = (
        ({"old": {"name": "a"}}, "a", []),
        (
            {"old": {"name": "a"}, "now": {"account": "b"}},
            "b",
            ["old.name and now.account say the same thing"],
        ),
        ({"old": {"name": 5}}, None, ["old.name must be a string that is not empty"]),
    )
    for data, expected, faults in cases:
        reading = Reading()
        root = Table(data, "", reading)
        table, former = root.table("now"), root.table("old")
        table.former(former, "name", "account")
        assert table.get(key, None) == expected
        for one in (former, table, root):
            one.done()
        assert [fault.text.partition(";")[0] for fault in reading.faults] == faults


def test_what_is_no_table_is_one_problem_and_reads_as_empty() -> None:
    assert read([1], "here") == (Sample(), ["here must be a table"])
