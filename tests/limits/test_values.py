import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.limits import read_moment
from tokenferry.limits._values import read_number, read_span, read_wait

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1800000000", NOW),
        (" 1800000000.5 ", NOW + 0.5),
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15T09:30:00+01:30", NOW),
        ("2027-01-15T08:00:00.250Z", NOW + 0.25),
        ("2027-01-15T08:00:00", None),
        ("2027-01-15", None),
        ("1", 1.0),
        ("4102444800", 4_102_444_800.0),
        ("4102444801", None),
        ("1800000000000", None),
        ("-1", None),
        ("0", None),
        ("inf", None),
        ("٣", None),
        ("", None),
        ("soon", None),
    ],
)
def test_a_moment_is_epoch_seconds_or_rfc_3339(text: str, moment: float | None) -> None:
    assert read_moment(text) == moment


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("1h2m3.5s", 3723.5),
        ("1µs", 1e-6),
        ("0", 0.0),
        ("0s", 0.0),
        ("12", 12.0),
        ("1764500000", None),
        ("m", None),
        ("1.s", None),
        ("-5s", None),
        ("999999999h", None),
        ("1s " * 3, None),
        ("", None),
    ],
)
def test_a_span_is_a_go_duration_or_a_number(text: str, seconds: float | None) -> None:
    assert read_span(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "17"}, 17.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "Fri, 15 Jan 2027 08:01:30 GMT"}, 90.0),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0.0),
        ({"retry-after": "2", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "2", "retry-after-ms": "soon"}, 2.0),
        ({"retry-after": "31622400"}, 366 * 86_400.0),
        ({"retry-after": "31622401"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e30"}, None),
        ({"retry-after": "9999999999"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_a_wait_is_milliseconds_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert read_wait(headers, NOW) == seconds


@given(st.text() | st.from_regex(r"[0-9TZ:.+eE-]{0,40}") | st.floats().map(str) | st.datetimes().map(str))
def test_no_text_raises_and_what_is_read_is_finite(text: str) -> None:
    for value in (read_moment(text), read_number(text), read_span(text), read_wait({"retry-after": text}, NOW)):
        assert value is None or (math.isfinite(value) and value >= 0)
