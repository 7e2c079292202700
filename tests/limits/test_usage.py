import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenferry.limits import read_usage


def test_windows_are_read_by_their_claims() -> None:
    state = read_usage(
        json.dumps(
            {
                "five_hour": {"utilization": 100, "resets_at": "2027-01-15T08:00:00+00:00"},
                "seven_day": {"utilization": 25.5, "resets_at": None},
                "seven_day_sonnet": {"utilization": 3},
                "seven_day_overage_included": {"utilization": 0.5},
                "seven_day_opus": None,
                "extra_usage": {"is_enabled": False},
            }
        ).encode()
    )
    assert state is not None
    assert [(one.name, one.status, one.utilization, one.reset) for one in state.windows] == [
        ("5h", "rejected", 1.0, 1_800_000_000.0),
        ("7d", "allowed", 0.255, None),
        ("7d_sonnet", "allowed", 0.03, None),
        ("7d_oi", "allowed", 0.005, None),
    ]
    assert [one.name for one in state.rejected] == ["5h"]


@pytest.mark.parametrize(
    "document", [[], {}, {"five_hour": 3}, {"five_hour": {"utilization": True}}, {"five_hour": {"utilization": -1}}]
)
def test_what_tells_no_window_is_no_usage(document: Any) -> None:
    assert read_usage(json.dumps(document).encode()) is None


@given(st.one_of(st.binary(max_size=200), st.builds(lambda text: text.encode(), st.text(max_size=200))))
def test_junk_never_raises(body: bytes) -> None:
    read_usage(body)


@pytest.mark.parametrize(("size", "is_read"), [(64 << 10, True), ((64 << 10) + 1, False)])
def test_an_answer_of_at_most_64_kib_is_read(size: int, *, is_read: bool) -> None:
    body = json.dumps({"five_hour": {"utilization": 1}}).encode()
    assert (read_usage(body.ljust(size)) is not None) == is_read
